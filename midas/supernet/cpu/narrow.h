// The same as projection.h for maps of so few channels that a register holds several pixels: 4 or 8 in one of 16 numbers.

#pragma once

#include <utility>

#include "registers.h"

template <int C, typename T>
struct Pixels {
    static constexpr int each = 16 / C;  // pixels
    using S = Sum<T>;
    using V = Lane<T, 16>;

    // the numbers of pixels `step` apart
    static V gather(const T* x, i64 step) {
        if (step == C) return load<16>(x);
        if constexpr (C * sizeof(T) == 8) {
            typedef std::uint64_t Four __attribute__((vector_size(32)));
            std::uint64_t part[4];
            for (int i = 0; i < 4; i++) std::memcpy(&part[i], x + i * step, 8);
            const Four four = {part[0], part[1], part[2], part[3]};
            T numbers[16];
            std::memcpy(numbers, &four, sizeof four);
            return load<16>(numbers);
        } else {
            T numbers[16];
            for (int i = 0; i < each; i++) std::memcpy(numbers + i * C, x + i * step, C * sizeof(T));
            return load<16>(numbers);
        }
    }

    // the K-th number of each pixel in the place of all of its own
    template <int K, int... I>
    static V spread(V x, std::integer_sequence<int, I...>) {
#ifdef __clang__
        return __builtin_shufflevector(x, x, (I / C * C + K)...);
#else
        using Index = std::conditional_t<sizeof(S) == 8, std::int64_t, std::int32_t>;
        return __builtin_shuffle(x, typename Of<Index, 16>::V{(I / C * C + K)...});
#endif
    }

    // each pixel's C numbers, once
    static V repeated(const S* row) {
        S numbers[16];
        for (int i = 0; i < 16; i++) numbers[i] = row[i % C];
        return load<16>(numbers);
    }

    // sum over pixels
    static void fold(V x, S* to) {
        for (int i = 0; i < 16; i++) to[i % C] += x[i];
    }

    // sum += sum_k x_k rows_k of each pixel, in the order of k
    template <int... K>
    static void multiply(V& sum, V x, const V* rows, std::integer_sequence<int, K...>) {
        ((sum += spread<K>(x, std::make_integer_sequence<int, 16>{}) * rows[K]), ...);
    }
    static void multiply(V& sum, V x, const V* rows) { multiply(sum, x, rows, std::make_integer_sequence<int, C>{}); }

    // totals_k += x_k y of each pixel
    template <int... K>
    static void products(V* totals, V x, V y, std::integer_sequence<int, K...>) {
        ((totals[K] += spread<K>(x, std::make_integer_sequence<int, 16>{}) * y), ...);
    }
    static void products(V* totals, V x, V y) { products(totals, x, y, std::make_integer_sequence<int, C>{}); }
};

// Of a matrix [C, C], its rows or columns, each for all pixels of a register.
template <int C, typename T>
std::vector<Lane<T, 16>> repeated_rows(const Sum<T>* matrix, bool turn) {
    std::vector<Lane<T, 16>> rows(C);
    for (int k = 0; k < C; k++) {
        Sum<T> row[C];
        for (int j = 0; j < C; j++) row[j] = turn ? matrix[j * C + k] : matrix[k * C + j];
        rows[k] = Pixels<C, T>::repeated(row);
    }
    return rows;
}

// A `Projecting` whose patches are whole registers across.
template <int C, typename T, typename A>
struct Narrow {
    using P = Pixels<C, T>;
    using S = Sum<T>;
    using V = Lane<T, 16>;
    const A& a;
    std::vector<std::vector<V>> forward, back;

    explicit Narrow(const A& a) : a(a) {
        for (std::size_t m = 0; m < a.maps.size(); m++) {
            forward.push_back(repeated_rows<C, T>(a.weights + m * C * C, true));
            back.push_back(repeated_rows<C, T>(a.weights + m * C * C, false));
        }
    }

    static bool takes(const A& a) { return a.s.channels == C && a.s.width / a.s.across % P::each == 0; }

    // f(values of some pixels, first pixel, patch)
    template <typename F>
    void values(i64 b, i64 output, F f) const {
        const i64 tall = a.s.height / a.s.down, broad = a.s.width / a.s.across;
        const V offset = a.offsets ? P::repeated(a.offsets + output * C) : V{};
        for (i64 r = 0; r < a.s.patches(); r++)
            for (i64 y = 0; y < tall; y++) {
                const i64 first = (r / a.s.across * tall + y) * a.s.width + r % a.s.across * broad;
                for (i64 i = first; i < first + broad; i += P::each) {
                    V sum = offset;
                    for (i64 m = output * a.together; m < (output + 1) * a.together; m++)
                        P::multiply(sum, P::gather(a.maps[m].at(b, i), a.maps[m].pixel), forward[m].data());
                    f(sum, i, r);
                }
            }
    }

    void project(int threads, S* out) const {
        const i64 R = a.s.patches();
        share_out<16>(threads, a.s.images, [&](auto, i64 b) {
            std::vector<V> sums(R);
            for (i64 output = 0; output < a.outputs(); output++) {
                std::fill(sums.begin(), sums.end(), V{});
                values(b, output, [&](V value, i64, i64 r) { sums[r] += value <= 0 ? V{} : value; });
                for (i64 r = 0; r < R; r++) {
                    S* to = out + ((output * a.s.images + b) * R + r) * C;
                    std::fill(to, to + C, S(0));
                    P::fold(sums[r] * (S(R) / S(a.s.pixels())), to);
                }
            }
        });
    }

    // Of an image and an output, with the sums over pixels added to `of_weights` and `of_offsets` unless these are 0.
    void image_backward(i64 b, i64 output, const S* given, const std::vector<Map<T>>& for_maps, S* of_weights, S* of_offsets) const {
        const i64 R = a.s.patches(), first = output * a.together;
        std::vector<V> own(R), totals(of_weights ? a.together * C : 0);
        V offsets = {};
        for (i64 r = 0; r < R; r++) own[r] = P::repeated(given + r * C) * (S(R) / S(a.s.pixels()));
        values(b, output, [&](V value, i64 i, i64 r) {
            const V gradient = value > 0 ? own[r] : V{};
            offsets += gradient;
            for (i64 m = first; m < first + a.together; m++) {
                if (for_maps[m].start) {
                    V sum = {};
                    P::multiply(sum, gradient, back[m].data());
                    store<16>(for_maps[m].at(b, i), sum);
                }
                if (of_weights) P::products(&totals[(m - first) * C], gradient, P::gather(a.maps[m].at(b, i), a.maps[m].pixel));
            }
        });
        for (std::size_t k = 0; k < totals.size(); k++) P::fold(totals[k], of_weights + first * C * C + k * C);
        if (of_offsets) P::fold(offsets, of_offsets + output * C);
    }
};
