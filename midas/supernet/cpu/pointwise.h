// 1x1 convolutions, with statistics and gradients of their maps.

#pragma once

#include "maps.h"

// Factors of products [depth, columns] as they are summed: in the type of sums, or two rows of bfloat16 side by side, for which some
// processors have an instruction. Rows have `step` numbers between them.
template <typename T>
struct Factors {
    static constexpr bool known = true;
    static constexpr i64 together = 1;  // rows
    using E = T;
    const E* start;
    i64 depth, step;

    Factors(const T* rows, i64 step, i64 depth, i64) : start(rows), depth(depth), step(step) {}
    template <int N>
    static Lane<T, N> plus(Lane<T, N> sum, E number, const E* each) {
        return sum + number * load<N>(each);
    }
};

template <>
struct Factors<BFloat16> {
#ifdef __AVX512BF16__
    static constexpr bool known = true;
    static constexpr i64 together = 2;
    using E = std::uint32_t;
    std::vector<E> pairs;
    const E* start;
    i64 depth, step;

    Factors(const BFloat16* rows, i64 step, i64 count, i64 columns)
        : pairs((count + 1) / 2 * columns), start(pairs.data()), depth((count + 1) / 2), step(columns) {
        for (i64 i = 0; i < count; i += 2) {
            const BFloat16 *first = rows + i * step, *second = first + step;
            E* to = &pairs[i / 2 * columns];
            if (i + 1 < count)
                for (i64 j = 0; j < columns; j++) to[j] = first[j].bits | E(second[j].bits) << 16;
            else
                for (i64 j = 0; j < columns; j++) to[j] = first[j].bits;
        }
    }
    Factors(const Factors&) = delete;
    template <int N>
    static Lane<float, N> plus(Lane<float, N> sum, E number, const E* each) {
        static_assert(N == 16);
        return Lane<float, N>(_mm512_dpbf16_ps(__m512(sum), (__m512bh)_mm512_loadu_si512(each), (__m512bh)_mm512_set1_epi32(int(number))));
    }
#else
    static constexpr bool known = false;
#endif
};

// Each pixel's sum += its number (or two) times a row of factors.
template <int N, int W, typename T, typename From, typename Step>
inline void add_product(Tile<N, W, T>& sum, const From* numbers, Step step, const typename Factors<T>::E* each) {
    for (int i = 0; i < W; i++) {
        typename Factors<T>::E number;
        std::memcpy(&number, numbers + i * step, sizeof number);
        sum.sum[i] = Factors<T>::template plus<N>(sum.sum[i], number, each);
    }
}

// out_i = sum_k x_ik factors_k for some pixels i.
template <int N, typename T>
inline void product(const T* x, i64 step, i64 pixels, const Factors<T>& factors, Map<T> out, i64 b, i64 columns) {
    const auto run = [&](auto step) {
        sums<N, T>(0, pixels, columns / N, [&](auto sum, i64 j, i64 i) {
            for (i64 k = 0; k < factors.depth; k++)
                add_product(sum, x + i * step + k * Factors<T>::together, step, factors.start + k * factors.step + j * N);
            sum.write(out.at(b, i) + j * N, out.pixel);
        });
    };
    // constants leave the registers to the sums
    if (step == 16) return run(std::integral_constant<i64, 16>{});
    if (step == 32) return run(std::integral_constant<i64, 32>{});
    if (step == 64) return run(std::integral_constant<i64, 64>{});
    run(step);
}

// The map of a 1x1 convolution with W [C, D] of another of D channels, and `enter` of each image while it is in the cache; C and D
// are multiples of 16.
template <typename T>
void pointwise(int threads, Entering<T> e, Map<const T> from, i64 depth, const T* weight, Map<T> out) {
    const i64 C = e.s.channels;
    const std::vector<T> turned = transposed(weight, C, depth);
    const Factors<T> factors(turned.data(), C, depth, C);
    share_out<16>(threads, e.s.images, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        product<N, T>(from.at(b, 0), from.pixel, e.s.pixels(), factors, out, b, C);
        e.template image<N>(b);
    });
    e.finish();
}

// Its gradients from those that `leave` adds up image by image: of the map and, unless it is 0, of W.
template <typename T>
void pointwise_backward(int threads, Leaving<T> l, Map<const T> from, i64 depth, const T* weight, Map<T> for_from,
                        Sum<T>* for_weight) {
    using S = Sum<T>;
    const i64 C = l.s.channels, B = l.s.images, pixels = l.s.pixels(), together = 4, groups = (B + together - 1) / together;
    const Factors<T> factors(weight, depth, C, depth);
    std::vector<S> found(for_weight ? groups * C * depth : 0);
    l.begin();
    share_out<16>(threads, groups, [&](auto block, i64 group) {
        constexpr int N = decltype(block)::value;
        std::vector<T> gradient(pixels * C);
        for (i64 b = group * together; b < std::min((group + 1) * together, B); b++) {
            l.template image<N>(b, Map<T>(gradient.data(), 0, C));
            product<N, T>(gradient.data(), C, pixels, factors, for_from, b, depth);
            if (!for_weight) continue;
            const Factors<T> rows(from.at(b, 0), from.pixel, pixels, depth), gradients(gradient.data(), C, pixels, C);
            for (i64 j = 0; j < depth; j += N)
                sums<N, T>(0, C, 1, [&](auto sum, i64, i64 c) {
                    S* total = &found[(group * C + c) * depth + j];
                    sum.add(total, depth);
                    for (i64 k = 0; k < rows.depth; k++)
                        add_product(sum, gradients.start + k * gradients.step + c, 1, rows.start + k * rows.step + j);
                    sum.write(total, depth);
                });
        }
    });
    if (!for_weight) return;
    share_out<16>(threads, C, [&](auto block, i64 c) {  // in the order of images
        constexpr int N = decltype(block)::value;
        for (i64 j = 0; j < depth; j += N) {
            Lane<T, N> sum = {};
            for (i64 group = 0; group < groups; group++) sum += load<N>(&found[(group * C + c) * depth + j]);
            store<N>(for_weight + c * depth + j, sum);
        }
    });
}
