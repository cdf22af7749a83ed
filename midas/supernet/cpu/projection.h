// Means over patches of the ReLU of projected maps, W [d, C] x + offset for each pixel x; d = C.

#pragma once

#include "narrow.h"
#include "pointwise.h"

inline float widen(BFloat16 x) { return same_bits<float>(std::uint32_t(x.bits) << 16); }
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

template <int N, int W, typename T, typename From, typename Step>
inline void add_wide(Tile<N, W, T>& sum, const T* numbers, Step step, const From* each) {
    const Lane<T, N> row = load<N>(each);
    for (int i = 0; i < W; i++) sum.sum[i] += widen(numbers[i * step]) * row;
}

// The rows of a matrix [depth, columns], to be summed with a pixel's numbers as factors.
template <int N, typename T>
struct Rows {
    using S = Sum<T>;
    static constexpr bool in_pairs = std::is_same_v<T, BFloat16> && N == 16 && Factors<T>::known;
    i64 depth, columns;
    std::vector<S> wide;
    std::vector<T> rounded;
    std::vector<typename std::conditional_t<in_pairs, Factors<T>, Factors<S>>::E> pairs;

    Rows(const S* rows, i64 depth, i64 columns) : depth(depth), columns(columns), wide(rows, rows + depth * columns) {
        if constexpr (in_pairs) {
            rounded.resize(depth * columns);
            for (i64 i = 0; i < depth * columns; i += N) store<N>(&rounded[i], load<N>(&wide[i]));
            pairs = Factors<T>(rounded.data(), columns, depth, columns).pairs;
        }
    }

    // each pixel's sum += its numbers times the rows, in the j-th block of columns
    template <int W>
    void add(Tile<N, W, T>& sum, const T* x, i64 step, i64 j) const {
        // constants leave the registers to the sums
        if (step == 16) return add_at(sum, x, std::integral_constant<i64, 16>{}, j);
        if (step == 32) return add_at(sum, x, std::integral_constant<i64, 32>{}, j);
        if (step == 64) return add_at(sum, x, std::integral_constant<i64, 64>{}, j);
        if (step == 4) return add_at(sum, x, std::integral_constant<i64, 4>{}, j);
        add_at(sum, x, step, j);
    }
    template <int W, typename Step>
    void add_at(Tile<N, W, T>& result, const T* x, Step step, i64 j) const {
        Tile<N, W, T> sum = result;
        if constexpr (in_pairs) {
            const auto* row = pairs.data() + j * N;
            for (i64 k = 0; k < depth / 2; k++) add_product(sum, x + k * 2, step, row + k * columns);
        } else {
            const S* row = wide.data() + j * N;
            for (i64 k = 0; k < depth; k++) add_wide(sum, x + k, step, row + k * columns);
        }
        result = sum;
    }
};

// f(tile, block, first pixel) for `count` pixels from `first` on, none of which leave a run of patches.
template <int N, typename T, typename F>
inline void runs(i64 first, i64 count, i64 blocks, F f) {
    const i64 end = first + count;
    const auto step = [&](auto width) {
        constexpr int W = decltype(width)::value;
        for (; first + W <= end; first += W)
            for (i64 j = 0; j < blocks; j++) f(Tile<N, W, T>{}, j, first);
    };
    step(std::integral_constant<int, 8>{});
    step(std::integral_constant<int, 4>{});
    step(std::integral_constant<int, 1>{});
}

// G outputs [G, B, R, C], each of `together` of the M maps side by side; weights [M, C, C], offsets [G, C] or 0.
template <typename T>
struct Projecting {
    using S = Sum<T>;
    Shape s;
    std::vector<Map<const T>> maps;
    i64 together;
    const S *weights, *offsets;

    i64 outputs() const { return i64(maps.size()) / together; }

    template <int N>
    std::vector<Rows<N, T>> turned() const {
        std::vector<Rows<N, T>> rows;
        for (std::size_t m = 0; m < maps.size(); m++)
            rows.emplace_back(transposed(weights + m * s.channels * s.channels, s.channels, s.channels).data(), s.channels, s.channels);
        return rows;
    }

    // f(values of some pixels of an output, block, first pixel, patch) for all pixels of an image
    template <int N, typename F>
    void values(const std::vector<Rows<N, T>>& rows, i64 b, i64 output, F f) const {
        const i64 tall = s.height / s.down, broad = s.width / s.across;
        for (i64 r = 0; r < s.patches(); r++)
            for (i64 y = 0; y < tall; y++)
                runs<N, T>((r / s.across * tall + y) * s.width + r % s.across * broad, broad, s.channels / N, [&](auto sum, i64 j, i64 i) {
                    if (offsets) sum.add(load<N>(offsets + output * s.channels + j * N));
                    for (i64 m = output * together; m < (output + 1) * together; m++)
                        rows[m].add(sum, maps[m].at(b, i), maps[m].pixel, j);
                    f(sum, j, i, r);
                });
    }
};

// f(channels of a block as a constant); all of `channels` are whole blocks.
template <typename F>
inline void in_blocks(i64 channels, F f) {
    if (channels % 16 == 0) return f(std::integral_constant<int, 16>{});
    if (channels % 4 == 0) return f(std::integral_constant<int, 4>{});
    f(std::integral_constant<int, 1>{});
}

template <typename T>
void project(int threads, const Projecting<T>& a, Sum<T>* out) {
    const i64 C = a.s.channels, R = a.s.patches();
    if (Narrow<4, T, Projecting<T>>::takes(a)) return Narrow<4, T, Projecting<T>>(a).project(threads, out);
    if (Narrow<8, T, Projecting<T>>::takes(a)) return Narrow<8, T, Projecting<T>>(a).project(threads, out);
    in_blocks(C, [&](auto block) {
        constexpr int N = decltype(block)::value;
        const auto rows = a.template turned<N>();
        share_out<N>(threads, a.s.images, [&](auto, i64 b) {
            std::vector<Lane<T, N>> sums(R * C / N);
            for (i64 output = 0; output < a.outputs(); output++) {
                std::fill(sums.begin(), sums.end(), Lane<T, N>{});
                a.template values<N>(rows, b, output, [&](auto& sum, i64 j, i64, i64 r) {
                    for (auto& value : sum.sum) sums[r * C / N + j] += value <= 0 ? Lane<T, N>{} : value;  // what is no number stays so
                });
                for (i64 i = 0; i < R * C / N; i++)
                    store<N>(out + (output * a.s.images + b) * R * C + i * N, sums[i] * (Sum<T>(R) / Sum<T>(a.s.pixels())));
            }
        });
    });
}

// += of the sum over pixels of the products of each number of a gradient with each of a map: [C, C].
template <int N, typename T>
inline void add_products(const T* gradient, Map<const T> map, i64 b, i64 pixels, i64 C, Sum<T>* total) {
    const auto all = [&](auto add) {
        for (i64 j = 0; j < C; j += N)
            runs<N, T>(0, C, 1, [&](auto sum, i64, i64 c) {
                sum.add(total + c * C + j, C);
                add(sum, c, j);
                sum.write(total + c * C + j, C);
            });
    };
    if constexpr (Rows<N, T>::in_pairs) {
        const Factors<T> rows(map.at(b, 0), map.pixel, pixels, C), gradients(gradient, C, pixels, C);
        all([&](auto& sum, i64 c, i64 j) {
            for (i64 k = 0; k < rows.depth; k++) add_product(sum, gradients.start + k * gradients.step + c, 1, rows.start + k * rows.step + j);
        });
    } else {
        all([&](auto& sum, i64 c, i64 j) {
            for (i64 k = 0; k < pixels; k++) add_wide(sum, gradient + k * C + c, 1, map.at(b, k) + j);
        });
    }
}

// What sums over images are gathered in, for a few images at a time: of the weights and of the offsets, 0 where they aren't asked for.
template <typename T>
struct Found {
    using S = Sum<T>;
    static constexpr i64 each = 4;
    const Projecting<T>& a;
    S *for_weights, *for_offsets;
    i64 groups = (a.s.images + each - 1) / each, of_weights = for_weights ? i64(a.maps.size()) * a.s.channels * a.s.channels : 0;
    i64 step = of_weights + (for_offsets ? a.outputs() * a.s.channels : 0);
    std::vector<S> sums = std::vector<S>(groups * step);

    // f(image, output, sums) for all images and outputs
    template <typename F>
    void all(int threads, F f) {
        share_out<1>(threads, groups, [&](auto, i64 group) {
            S* own = sums.data() + group * step;
            for (i64 b = group * each; b < std::min((group + 1) * each, a.s.images); b++)
                for (i64 output = 0; output < a.outputs(); output++)
                    f(b, output, for_weights ? own : nullptr, for_offsets ? own + of_weights : nullptr);
        });
        for (i64 i = 0; i < step; i++) {  // in the order of images
            S sum = 0;
            for (i64 group = 0; group < groups; group++) sum += sums[group * step + i];
            (i < of_weights ? for_weights[i] : for_offsets[i - of_weights]) = sum;
        }
    }
};

// Gradients of the maps (those that have a start), and unless these are 0 of the weights and offsets, from those of the outputs.
template <typename T>
void project_backward(int threads, const Projecting<T>& a, const Sum<T>* for_out, const std::vector<Map<T>>& for_maps, Sum<T>* for_weights,
                      Sum<T>* for_offsets) {
    using S = Sum<T>;
    const i64 B = a.s.images, C = a.s.channels, R = a.s.patches(), pixels = a.s.pixels(), M = i64(a.maps.size());
    Found<T> found{a, for_weights, for_offsets};
    const auto given = [&](i64 b, i64 output) { return for_out + (output * B + b) * R * C; };
    const auto narrow = [&](auto channels) {
        using Few = Narrow<decltype(channels)::value, T, Projecting<T>>;
        if (!Few::takes(a)) return false;
        const Few few(a);
        found.all(threads, [&](i64 b, i64 output, S* of_weights, S* of_offsets) {
            few.image_backward(b, output, given(b, output), for_maps, of_weights, of_offsets);
        });
        return true;
    };
    if (narrow(std::integral_constant<int, 4>{}) || narrow(std::integral_constant<int, 8>{})) return;
    in_blocks(C, [&](auto block) {
        constexpr int N = decltype(block)::value;
        const auto rows = a.template turned<N>();
        std::vector<Rows<N, T>> back;
        for (i64 m = 0; m < M; m++) back.emplace_back(a.weights + m * C * C, C, C);
        found.all(threads, [&](i64 b, i64 output, S* of_weights, S* of_offsets) {
            std::vector<T> gradient(pixels * C);
            a.template values<N>(rows, b, output, [&](auto& sum, i64 j, i64 i, i64 r) {
                const Lane<T, N> own = load<N>(given(b, output) + r * C + j * N) * (S(R) / S(pixels));
                Lane<T, N> total = {};
                for (auto& value : sum.sum) total += value = value > 0 ? own : Lane<T, N>{};
                sum.write(&gradient[i * C + j * N], C);
                if (of_offsets) store<N>(of_offsets + output * C + j * N, load<N>(of_offsets + output * C + j * N) + total);
            });
            for (i64 m = output * a.together; m < (output + 1) * a.together; m++) {
                if (for_maps[m].start)
                    runs<N, T>(0, pixels, C / N, [&](auto sum, i64 j, i64 i) {
                        back[m].add(sum, &gradient[i * C], C, j);
                        sum.write(for_maps[m].at(b, i) + j * N, for_maps[m].pixel);
                    });
                if (of_weights) add_products<N, T>(gradient.data(), a.maps[m], b, pixels, C, of_weights + m * C * C);
            }
        });
    });
}
