// Statistics of maps, their gradients, weighted sums of them, and average pooling.

#pragma once

#include "registers.h"

// Means over patches [B, R, C], and unless `mean` is 0 mean, scale and shift [C] of the normalisation, which they then have too.
template <typename T>
struct Entering {
    using S = Sum<T>;
    Shape s;
    Map<const T> map;
    S *mean, *scale, *shift, *pooled;
    std::vector<S> means = std::vector<S>(s.images * s.channels), spreads = means;

    template <int N>
    void image(i64 b) {
        using V = Lane<T, N>;
        const i64 C = s.channels, R = s.patches(), tall = s.height / s.down, broad = s.width / s.across;
        for (i64 first = 0; first < C; first += N) {
            V total = {};
            for (i64 r = 0; r < R; r++) {
                V patch = {};
                for (i64 y = 0; y < tall; y++) {
                    const T* x = map.at(b, (r / s.across * tall + y) * s.width + r % s.across * broad) + first;
                    V row = {};
                    for (i64 i = 0; i < broad; i++, x += map.pixel) row += load<N>(x);
                    patch += row;
                }
                total += patch;
                if (pooled) store<N>(pooled + (b * R + r) * C + first, patch / S(tall * broad));
            }
            total /= S(s.pixels());
            V spread = {};
            for (i64 y = 0; mean && y < s.height; y++) {  // the image is still in the cache
                const T* x = map.at(b, y * s.width) + first;
                V row = {};
                for (i64 i = 0; i < s.width; i++, x += map.pixel) {
                    const V d = load<N>(x) - total;
                    row += d * d;
                }
                spread += row;
            }
            store<N>(&means[b * C + first], total);
            store<N>(&spreads[b * C + first], spread);
        }
    }

    // after all images
    void finish() {
        if (!mean) return;
        const i64 C = s.channels;
        std::vector<double> average(C), variance(C);
        for (i64 b = 0; b < s.images; b++)
            for (i64 c = 0; c < C; c++) average[c] += means[b * C + c] / double(s.images);
        for (i64 b = 0; b < s.images; b++)
            for (i64 c = 0; c < C; c++) {
                const double d = means[b * C + c] - average[c];
                variance[c] += (spreads[b * C + c] / s.pixels() + d * d) / double(s.images);
            }
        for (i64 c = 0; c < C; c++) {
            mean[c] = S(average[c]);
            scale[c] = S(1 / std::sqrt(variance[c] + EPSILON));
            shift[c] = -mean[c] * scale[c];
        }
        if (pooled)
            for (i64 i = 0; i < s.images * s.patches(); i++)
                for (i64 c = 0; c < C; c++) pooled[i * C + c] = (pooled[i * C + c] - mean[c]) * scale[c];
    }
};

template <typename T>
void enter(int threads, Entering<T> e) {
    images(threads, e.s.images, e.s.channels, [&](auto block, i64 b) { e.template image<decltype(block)::value>(b); });
    e.finish();
}

// Gradient of a map, in four sums: from mean, variance and patches; from terms (in parts of `part` channels); as given; and from
// gradients of relu(map).
template <typename T>
struct Leaving {
    using S = Sum<T>;
    Shape s;
    i64 part;
    Map<const T> map;
    const S *mean, *scale, *pooled, *for_scale, *for_shift, *for_pooled;
    const i64* steps;
    std::vector<Term<T>> terms;
    std::vector<Map<const T>> given, active;
    std::vector<S> slope = std::vector<S>(s.channels), constant = slope;

    const S* of_patch(i64 b, i64 r) const { return for_pooled + b * steps[0] + r * steps[1]; }

    // before all images: what comes by way of mean and variance
    void begin() {
        if (!mean) return;
        const i64 C = s.channels, R = s.patches();
        const double pixels = double(s.images) * s.pixels();
        std::vector<double> by_scale(C), by_shift(C);
        if (for_pooled)
            for (i64 b = 0; b < s.images; b++)
                for (i64 r = 0; r < R; r++) {
                    const S *given = of_patch(b, r), *value = pooled + (b * R + r) * C;
                    for (i64 c = 0; c < C; c++) {
                        by_shift[c] += given[c];
                        by_scale[c] += double(given[c]) * value[c];
                    }
                }
        for (i64 c = 0; c < C; c++) {
            const double a = scale[c];
            by_shift[c] += for_shift ? for_shift[c] : 0;
            by_scale[c] = by_scale[c] / a + (for_scale ? for_scale[c] : 0) - (for_shift ? double(mean[c]) * for_shift[c] : 0);
            slope[c] = S(-by_scale[c] * a * a * a / pixels);
            constant[c] = S(-by_shift[c] * a / pixels - double(slope[c]) * mean[c]);
        }
    }

    template <int N, typename To>
    void image(i64 b, Map<To> out) const {
        using V = Lane<T, N>;
        const i64 C = s.channels, R = s.patches(), broad = s.width / s.across, tall = s.height / s.down;
        std::vector<V> constants(R * C / N);
        for (i64 r = 0; r < R; r++)
            for (i64 c = 0; c < C; c += N) {
                const V share = (scale ? load<N>(scale + c) : V{} + S(1)) / S(tall * broad);
                constants[(r * C + c) / N] = load<N>(&constant[c]) + (for_pooled ? load<N>(of_patch(b, r) + c) * share : V{});
            }
        for (i64 from = 0; from < s.pixels(); from += broad) {  // a row of a patch
            const i64 r = from / s.width / tall * s.across + from % s.width / broad;
            sums<N, T>(from, from + broad, C / N, [&](auto sum, i64 j, i64 i) {
                const T* x = map.at(b, i) + j * N;
                for (const auto& g : active) sum.add(g.at(b, i) + j * N, g.pixel);
                if (!active.empty()) sum.mask(x, map.pixel);
                if (mean || for_pooled) sum.add(constants[r * C / N + j]);
                if (mean) sum.add(x, map.pixel, load<N>(&slope[j * N]));
                for (const Term<T>& term : terms) {
                    const i64 c = j * N - term.first;
                    if (c < 0 || c >= part) continue;
                    const S p = term.p[b * term.step];
                    sum.add(term.gradient.at(b, i) + c, term.gradient.pixel, scale ? p * load<N>(scale + j * N) : V{} + p);
                }
                for (const auto& g : given) sum.add(g.at(b, i) + j * N, g.pixel);
                sum.write(out.at(b, i) + j * N, out.pixel);
            });
        }
    }
};

template <typename T>
void leave(int threads, Leaving<T> l, Map<T> out) {
    l.begin();
    images(threads, l.s.images, l.part, [&](auto block, i64 b) { l.template image<decltype(block)::value>(b, out); });
}

// p [B, K], or one row for all if `step` is 0; scales and shifts [K, C].
template <typename T>
void mix(int threads, Shape s, const std::vector<Map<const T>>& maps, const Sum<T>* scales, const Sum<T>* shifts, const Sum<T>* p,
         i64 step, Map<T> out) {
    const i64 C = s.channels, K = i64(maps.size());
    images(threads, s.images, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
        const i64 M = C / N;
        std::vector<V> factors(K * M), shift(M);
        for (i64 k = 0; k < K; k++)
            for (i64 j = 0; j < M; j++) {
                factors[k * M + j] = p[b * step + k] * load<N>(scales + k * C + j * N);
                shift[j] += p[b * step + k] * load<N>(shifts + k * C + j * N);
            }
        sums<N, T>(0, s.pixels(), M, [&](auto sum, i64 j, i64 i) {
            sum.add(shift[j]);
            for (i64 k = 0; k < K; k++) sum.add(maps[k].at(b, i) + j * N, maps[k].pixel, factors[k * M + j]);
            sum.write(out.at(b, i) + j * N, out.pixel);
        });
    });
}

template <typename T>
void mix_backward(int threads, Shape s, const std::vector<Map<const T>>& maps, const Sum<T>* scales, const Sum<T>* shifts,
                  const Sum<T>* p, i64 step, Map<const T> gradient, Sum<T>* for_p, Sum<T>* for_scales, Sum<T>* for_shifts) {
    using S = Sum<T>;
    const i64 C = s.channels, K = i64(maps.size());
    std::vector<S> products((K + 1) * s.images * C);  // sums over pixels of gradient times map, the last of the gradient alone
    images(threads, s.images, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
        const i64 M = C / N;
        std::vector<V> dots((K + 1) * M);
        sums<N, T>(0, s.pixels(), M, [&](auto g, i64 j, i64 i) {
            g.add(gradient.at(b, i) + j * N, gradient.pixel);
            dots[K * M + j] += g.total();
            for (i64 k = 0; k < K; k++) dots[k * M + j] += g.dot(maps[k].at(b, i) + j * N, maps[k].pixel);
        });
        for (i64 k = 0; k <= K; k++)
            for (i64 j = 0; j < M; j++) store<N>(&products[(k * s.images + b) * C + j * N], dots[k * M + j]);
    });
    for (i64 k = 0; k < K; k++)
        for (i64 b = 0; b < s.images; b++) {
            const S *product = &products[(k * s.images + b) * C], *total = &products[(K * s.images + b) * C];
            const S weight = p[b * step + k];
            S sum = 0;
            for (i64 c = 0; c < C; c++) {
                sum += scales[k * C + c] * product[c] + shifts[k * C + c] * total[c];
                for_scales[k * C + c] += weight * product[c];
                for_shifts[k * C + c] += weight * total[c];
            }
            for_p[b * step + k] += sum;
        }
}

// Windows of 3x3 pixels, each `stride`: one over how many of their rows and columns lie inside a map.
template <typename S>
struct Windows {
    std::vector<S> down, across;

    Windows(const Shape& s, i64 stride) : down(shares(s.height, stride)), across(shares(s.width, stride)) {}
    i64 height() const { return i64(down.size()); }
    i64 width() const { return i64(across.size()); }

    static std::vector<S> shares(i64 length, i64 stride) {
        std::vector<S> found((length - 1) / stride + 1);
        for (i64 i = 0; i < i64(found.size()); i++)
            found[i] = S(1) / S(std::min(i * stride + 2, length) - std::max(i * stride - 1, i64(0)));
        return found;
    }
};

// Mean over 3x3 pixels inside the map, each `stride`; s is the map's shape. First down the columns, then along the row.
template <typename T>
void average(int threads, Shape s, i64 stride, Map<const T> map, Map<T> out) {
    const Windows<Sum<T>> w(s, stride);
    images(threads, s.images, s.channels, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
        const i64 M = s.channels / N;
        std::vector<V> column((s.width + 2) * M);  // with a border of zeros
        for (i64 y = 0; y < w.height(); y++) {
            const i64 top = std::max(y * stride - 1, i64(0)), bottom = std::min(y * stride + 2, s.height);
            sums<N, T>(0, s.width, M, [&](auto sum, i64 j, i64 i) {
                for (i64 v = top; v < bottom; v++) sum.add(map.at(b, v * s.width + i) + j * N, map.pixel);
                sum.keep(&column[(i + 1) * M + j], M);
            });
            T* to = out.at(b, y * w.width());
            for (i64 i = 0; i < w.width(); i++, to += out.pixel)
                for (i64 j = 0; j < M; j++) {
                    const V* c = &column[i * stride * M + j];
                    store<N>(to + j * N, (c[0] + c[M] + c[2 * M]) * (w.down[y] * w.across[i]));
                }
        }
    });
}

template <typename T>
void average_backward(int threads, Shape s, i64 stride, Map<const T> gradient, Map<T> out) {
    const Windows<Sum<T>> w(s, stride);
    images(threads, s.images, s.channels, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
        const i64 M = s.channels / N;
        std::vector<V> column((s.width + 2) * M);  // zero where no mean is centred, and on the border
        for (i64 y = 0; y < s.height; y++) {
            const i64 top = (std::max(y, i64(1)) + stride - 2) / stride, bottom = std::min((y + 1) / stride + 1, w.height());
            sums<N, T>(0, w.width(), M, [&](auto sum, i64 j, i64 i) {
                for (i64 v = top; v < bottom; v++)
                    sum.add(gradient.at(b, v * w.width() + i) + j * N, gradient.pixel, w.down[v], &w.across[i]);
                sum.keep(&column[(i * stride + 1) * M + j], stride * M);
            });
            T* to = out.at(b, y * s.width);
            const V* c = column.data();
            for (i64 i = 0; i < s.width; i++, to += out.pixel)
                for (i64 j = 0; j < M; j++, c++) store<N>(to + j * N, c[0] + c[M] + c[2 * M]);
        }
    });
}
