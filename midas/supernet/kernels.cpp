// The functions of sums.py, each reading a map once. kernels.py compiles and calls them.
//
// A map [B, C, H, W] lies in memory pixel by pixel ([B, H W, C], "channels last") or is some of the channels of such a map. Sums
// are kept in float (double for double), over a few pixels first, so that few numbers of very different size meet. Images
// are shared out to threads, and what is summed over images is summed in their order, whatever the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

using i64 = std::int64_t;

struct BFloat16 {
    std::uint16_t bits;
};

template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// N channels of a pixel in a register.
template <typename E, int N>
struct Of {
    typedef E V __attribute__((vector_size(N * sizeof(E))));
};
template <typename T, int N>
using Lane = typename Of<Sum<T>, N>::V;

template <typename To, typename From>
inline To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

template <int N, typename T>
inline Lane<T, N> load(const T* x) {
    if constexpr (std::is_same_v<T, BFloat16>) {
        typename Of<std::uint16_t, N>::V half;
        std::memcpy(&half, x, sizeof half);
        return same_bits<Lane<T, N>>(__builtin_convertvector(half, typename Of<std::uint32_t, N>::V) << 16);
    } else {
        Lane<T, N> value;
        std::memcpy(&value, x, sizeof value);
        return value;
    }
}

template <int N, typename T>
inline void store(T* x, Lane<T, N> value) {
    if constexpr (std::is_same_v<T, BFloat16>) {
#ifdef __AVX512BF16__  // the same in one instruction, numbers below 1e-38 apart
        if constexpr (N == 16) {
            const __m256bh half = _mm512_cvtneps_pbh(__m512(value));
            std::memcpy(x, &half, sizeof half);
            return;
        }
#endif
        typedef typename Of<std::uint32_t, N>::V Bits;
        const Bits bits = same_bits<Bits>(value), nan = same_bits<Bits>(value != value);
        const Bits nearest = ((bits + 0x7fff + ((bits >> 16) & 1)) & ~nan) | (nan & 0x7fc00000);
        const auto half = __builtin_convertvector(nearest >> 16, typename Of<std::uint16_t, N>::V);
        std::memcpy(x, &half, sizeof half);
    } else {
        std::memcpy(x, &value, sizeof value);
    }
}

// Address, and steps in elements from an image and a pixel to the next, as kernels.py writes them. A missing map has address 0.
template <typename T>
struct Map {
    T* start;
    i64 image, pixel;

    template <typename U>
    explicit Map(const Map<U>& other) : start(other.start), image(other.image), pixel(other.pixel) {}
    Map(T* start, i64 image, i64 pixel) : start(start), image(image), pixel(pixel) {}
    explicit Map(const i64* three) : start(reinterpret_cast<T*>(three[0])), image(three[1]), pixel(three[2]) {}
    T* at(i64 b, i64 i) const { return start + b * image + i * pixel; }
};

// p (one for each image, or one with `step` 0) times a gradient, which belongs to a map's channels from `first` on.
template <typename T>
struct Term {
    Map<const T> gradient;
    i64 first;
    const Sum<T>* p;
    i64 step;

    explicit Term(const i64* six) : gradient(six), first(six[3]), p(reinterpret_cast<const Sum<T>*>(six[4])), step(six[5]) {}
};

struct Shape {
    i64 images, channels, height, width, down, across;  // the last two: patches

    explicit Shape(const i64* six)
        : images(six[0]), channels(six[1]), height(six[2]), width(six[3]), down(six[4]), across(six[5]) {}
    i64 patches() const { return down * across; }
    i64 pixels() const { return height * width; }
};

// f(channels of a block as a constant, number) for all numbers below `count`, shared out to threads.
template <int N, typename F>
inline void share_out(int threads, i64 count, F f) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (i64 b = 0; b < count; b++) f(std::integral_constant<int, N>{}, b);
}

// The same for all images; all of `channels` are whole blocks.
template <typename F>
inline void images(int threads, i64 count, i64 channels, F f) {
    if (channels % 16 == 0) return share_out<16>(threads, count, f);
    if (channels % 4 == 0) return share_out<4>(threads, count, f);
    share_out<1>(threads, count, f);
}

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

// Sums of W pixels of one block, in registers.
template <int N, int W, typename T>
struct Tile {
    using V = Lane<T, N>;
    V sum[W];

    // += factor * map, or the map alone; `x` is the block of the first pixel
    void add(const T* x, i64 step, V factor) {
        for (int i = 0; i < W; i++) sum[i] += factor * load<N>(x + i * step);
    }
    template <typename From>
    void add(const From* x, i64 step) {
        for (int i = 0; i < W; i++) sum[i] += load<N>(x + i * step);
    }
    void add(const T* x, i64 step, Sum<T> factor, const Sum<T>* each) {
        for (int i = 0; i < W; i++) sum[i] += load<N>(x + i * step) * (factor * each[i]);
    }
    // += each pixel's number (or two) times a row of factors
    template <typename From, typename Step>
    void outer(const From* numbers, Step step, const typename Factors<T>::E* each) {
        for (int i = 0; i < W; i++) {
            typename Factors<T>::E number;
            std::memcpy(&number, numbers + i * step, sizeof number);
            sum[i] = Factors<T>::template plus<N>(sum[i], number, each);
        }
    }
    void add(V value) {
        for (int i = 0; i < W; i++) sum[i] += value;
    }
    // 0 where the map isn't positive
    void mask(const T* x, i64 step) {
        for (int i = 0; i < W; i++) sum[i] = load<N>(x + i * step) > 0 ? sum[i] : V{};
    }
    void keep(V* to, i64 step) const {
        for (int i = 0; i < W; i++) to[i * step] = sum[i];
    }
    V total() const {
        V all = {};
        for (int i = 0; i < W; i++) all += sum[i];
        return all;
    }
    V dot(const T* x, i64 step) const {
        V all = {};
        for (int i = 0; i < W; i++) all += sum[i] * load<N>(x + i * step);
        return all;
    }
    template <typename To>
    void write(To* to, i64 step) const {
        for (int i = 0; i < W; i++) store<N>(to + i * step, sum[i]);
    }
};

// f(empty tile, block, first pixel) for all pixels from `first` on.
template <int N, typename T, typename F>
inline void sums(i64 first, i64 end, i64 blocks, F f) {
    const auto step = [&](auto width) {
        constexpr int W = decltype(width)::value;
        for (; first + W <= end; first += W)
            for (i64 j = 0; j < blocks; j++) f(Tile<N, W, T>{}, j, first);
    };
    step(std::integral_constant<int, 8>{});
    step(std::integral_constant<int, 1>{});
}

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

template <typename S>
std::vector<S> transposed(const S* x, i64 rows, i64 columns) {
    std::vector<S> y(rows * columns);
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j];
    return y;
}

// out_i = sum_k x_ik factors_k for some pixels i.
template <int N, typename T>
inline void product(const T* x, i64 step, i64 pixels, const Factors<T>& factors, Map<T> out, i64 b, i64 columns) {
    const auto run = [&](auto step) {
        sums<N, T>(0, pixels, columns / N, [&](auto sum, i64 j, i64 i) {
            for (i64 k = 0; k < factors.depth; k++)
                sum.outer(x + i * step + k * Factors<T>::together, step, factors.start + k * factors.step + j * N);
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
                        sum.outer(gradients.start + k * gradients.step + c, 1, rows.start + k * rows.step + j);
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

// What a node's attention weighs: its place in [P], its set of the softmax, its candidate (-1: "none", whose logit is 0).
struct Entry {
    i64 place, set, candidate;

    explicit Entry(const i64* three) : place(three[0]), set(three[1]), candidate(three[2]) {}
};

// What kernels.py writes of a node: means over patches [B, R, C] of its E inputs and K candidates, R in place of a map's pixels;
// entries, those of one set side by side; W_Q [C, E C] and W_K [C, C]; weights of each patch [B, R, P] and their means [B, P]; q
// and W_K^T q of each patch [B, R, 2, C].
template <typename S>
struct Attention {
    i64 images, channels, patches, places;
    std::vector<Map<const S>> inputs, candidates;
    std::vector<Entry> entries;
    const S *query, *key;
    S scale;
    S *weights, *p, *projected;

    S* weights_of(i64 b, i64 r) const { return weights + (b * patches + r) * places; }
    S* projected_of(i64 b, i64 r) const { return projected + (b * patches + r) * 2 * channels; }

    // f(first, end) of each set's entries
    template <typename F>
    void sets(F f) const {
        for (i64 first = 0, end = 0; first < i64(entries.size()); first = end) {
            while (end < i64(entries.size()) && entries[end].set == entries[first].set) end++;
            f(first, end);
        }
    }
};

// sum_i x_i row_i, for N columns of rows with `columns` from `rows` on.
template <int N, typename S>
inline Lane<S, N> combine(const S* x, i64 count, const S* rows, i64 columns) {
    Lane<S, N> sum = {};
    for (i64 i = 0; i < count; i++) sum += x[i] * load<N>(rows + i * columns);
    return sum;
}

template <int N, typename S>
inline S dot(const S* x, const S* y, i64 count) {
    Lane<S, N> sum = {};
    for (i64 i = 0; i < count; i += N) sum += load<N>(x + i) * load<N>(y + i);
    S total = 0;
    for (int i = 0; i < N; i++) total += sum[i];
    return total;
}

// Weights, their means p, those of the candidates ("share" [B, K]), and the mixture's means over patches [B, R, C].
template <typename S>
void attend(int threads, const Attention<S>& a, S* share, S* means) {
    const i64 C = a.channels, R = a.patches, K = i64(a.candidates.size());
    const std::vector<S> query = transposed(a.query, C, i64(a.inputs.size()) * C);
    images(threads, a.images, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        S* p = a.p + b * a.places;
        std::fill(p, p + a.places, S(0));
        for (i64 r = 0; r < R; r++) {
            S *q = a.projected_of(b, r), *back = q + C, *weights = a.weights_of(b, r);
            for (i64 j = 0; j < C; j += N) {
                Lane<S, N> sum = {};
                for (std::size_t e = 0; e < a.inputs.size(); e++)
                    sum += combine<N>(a.inputs[e].at(b, r), C, &query[e * C * C + j], C);
                store<N>(q + j, sum * a.scale);
            }
            for (i64 j = 0; j < C; j += N) store<N>(back + j, combine<N>(q, C, a.key + j, C));  // q . (W_K k) = (W_K^T q) . k
            std::fill(weights, weights + a.places, S(0));
            a.sets([&](i64 first, i64 end) {
                S most = -INFINITY, total = 0;
                for (i64 i = first; i < end; i++) {
                    const Entry& e = a.entries[i];
                    S& logit = weights[e.place];
                    if (e.candidate >= 0) logit = dot<N>(back, a.candidates[e.candidate].at(b, r), C);
                    most = std::max(most, logit);
                }
                for (i64 i = first; i < end; i++) total += weights[a.entries[i].place] = std::exp(weights[a.entries[i].place] - most);
                for (i64 i = first; i < end; i++) p[a.entries[i].place] += (weights[a.entries[i].place] /= total) / S(R);
            });
        }
        for (const Entry& e : a.entries)
            if (e.candidate >= 0) share[b * K + e.candidate] = p[e.place];
        for (i64 r = 0; r < R; r++)
            for (i64 j = 0; j < C; j += N) {
                Lane<S, N> sum = {};
                for (i64 k = 0; k < K; k++) sum += share[b * K + k] * load<N>(a.candidates[k].at(b, r) + j);
                store<N>(means + (b * R + r) * C + j, sum);
            }
    });
}

// Gradients of the inputs [E, B, R, C], the candidates [K, B, R, C] and, unless it is 0, of W_Q and W_K, from those of p, share and
// means, each of which may be 0.
template <typename S>
void attend_backward(int threads, const Attention<S>& a, const S* for_p, const S* for_share, const S* for_means, S* for_inputs,
                     S* for_candidates, S* for_query, S* for_key) {
    const i64 B = a.images, C = a.channels, R = a.patches, E = i64(a.inputs.size()), K = i64(a.candidates.size());
    const std::vector<S> key = transposed(a.key, C, C);
    std::vector<S> projected(B * R * 2 * C);  // gradients of q, times scale, and of W_K^T q
    images(threads, B, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        const S* p = a.p + b * a.places;
        std::vector<S> of_p(a.entries.size()), of_logit(K);
        for (std::size_t i = 0; i < a.entries.size(); i++) {
            const Entry& e = a.entries[i];
            if (for_p) of_p[i] += for_p[b * a.places + e.place];
            if (e.candidate < 0) continue;
            if (for_share) of_p[i] += for_share[b * K + e.candidate];
            for (i64 r = 0; for_means && r < R; r++)
                of_p[i] += dot<N>(for_means + (b * R + r) * C, a.candidates[e.candidate].at(b, r), C);
        }
        for (i64 r = 0; r < R; r++) {
            const S *back = a.projected_of(b, r) + C, *weights = a.weights_of(b, r);
            S *of_q = &projected[(b * R + r) * 2 * C], *of_back = of_q + C;
            a.sets([&](i64 first, i64 end) {
                S mean = 0;
                for (i64 i = first; i < end; i++) mean += weights[a.entries[i].place] * of_p[i];
                for (i64 i = first; i < end; i++)
                    if (a.entries[i].candidate >= 0)
                        of_logit[a.entries[i].candidate] = weights[a.entries[i].place] * (of_p[i] - mean) / S(R);
            });
            for (i64 j = 0; j < C; j += N) {
                const Lane<S, N> of_mean = for_means ? load<N>(for_means + (b * R + r) * C + j) : Lane<S, N>{};
                Lane<S, N> sum = {};
                for (const Entry& e : a.entries) {
                    const i64 k = e.candidate;
                    if (k < 0) continue;
                    sum += of_logit[k] * load<N>(a.candidates[k].at(b, r) + j);
                    store<N>(for_candidates + ((k * B + b) * R + r) * C + j, p[e.place] * of_mean + of_logit[k] * load<N>(back + j));
                }
                store<N>(of_back + j, sum);
            }
            for (i64 j = 0; j < C; j += N) store<N>(of_q + j, combine<N>(of_back, C, &key[j], C) * a.scale);
            for (i64 e = 0; e < E; e++)
                for (i64 j = 0; j < C; j += N)
                    store<N>(for_inputs + ((e * B + b) * R + r) * C + j, combine<N>(of_q, C, a.query + e * C + j, E * C));
        }
    });
    if (!for_query) return;
    images(threads, C, C, [&](auto block, i64 d) {  // a row of W_Q and of W_K, summed in the order of images
        constexpr int N = decltype(block)::value;
        for (i64 e = 0; e <= E; e++)
            for (i64 j = 0; j < C; j += N) {
                Lane<S, N> total = {};
                for (i64 b = 0; b < B; b++) {
                    Lane<S, N> sum = {};
                    for (i64 r = 0; r < R; r++) {
                        const S* found = &projected[(b * R + r) * 2 * C];
                        sum += e < E ? found[d] * load<N>(a.inputs[e].at(b, r) + j) : a.projected_of(b, r)[d] * load<N>(found + C + j);
                    }
                    total += sum;
                }
                store<N>(e < E ? for_query + (d * E + e) * C + j : for_key + d * C + j, total);
            }
    });
}

// What kernels.py calls, with all numbers in one list, in the order of the functions' arguments.
struct Numbers {
    const i64* next;

    Shape shape() { return Shape(take(6)); }
    const i64* take(int count) { return (next += count) - count; }
    template <typename T>
    T* address() {
        return reinterpret_cast<T*>(*take(1));
    }
    template <typename T>
    Map<T> map() {
        return Map<T>(take(3));
    }
    template <typename Item>
    std::vector<Item> list(int each) {
        std::vector<Item> found;
        for (i64 count = *take(1); count > 0; count--) found.emplace_back(take(each));
        return found;
    }
};

enum Function { ENTER, LEAVE, POINTWISE, POINTWISE_BACKWARD, MIX, MIX_BACKWARD, AVERAGE, AVERAGE_BACKWARD, ATTEND, ATTEND_BACKWARD };  // as in kernels.py

template <typename T>
Entering<T> entering(const Shape& s, Numbers& n) {
    using S = Sum<T>;
    const auto map = n.map<const T>();
    S *mean = n.address<S>(), *scale = n.address<S>(), *shift = n.address<S>(), *pooled = n.address<S>();
    return {s, map, mean, scale, shift, pooled};
}

template <typename T>
Leaving<T> leaving(const Shape& s, Numbers& n) {
    using S = Sum<T>;
    const i64 part = *n.take(1);
    const auto map = n.map<const T>();
    const S *mean = n.address<const S>(), *scale = n.address<const S>(), *pooled = n.address<const S>();
    const S *for_scale = n.address<const S>(), *for_shift = n.address<const S>(), *for_pooled = n.address<const S>();
    const i64* steps = n.take(2);
    const auto terms = n.list<Term<T>>(6);
    const auto given = n.list<Map<const T>>(3), active = n.list<Map<const T>>(3);
    return {s, part, map, mean, scale, pooled, for_scale, for_shift, for_pooled, steps, terms, given, active};
}

// Arguments are evaluated in any order, hence a variable for each that is taken.
template <typename T>
void call(int function, int threads, Numbers n) {
    using S = Sum<T>;
    const Shape s = n.shape();
    if (function == ENTER) {
        enter<T>(threads, entering<T>(s, n));
    } else if (function == LEAVE) {
        const auto l = leaving<T>(s, n);
        leave<T>(threads, l, n.map<T>());
    } else if (function == POINTWISE || function == POINTWISE_BACKWARD) {
        const auto from = n.map<const T>();
        const i64 depth = *n.take(1);
        const T* weight = n.address<const T>();
        const auto out = n.map<T>();
        S* for_weight = n.address<S>();
        if constexpr (Factors<T>::known) {
            if (function == POINTWISE) return pointwise<T>(threads, entering<T>(s, n), from, depth, weight, out);
            pointwise_backward<T>(threads, leaving<T>(s, n), from, depth, weight, out, for_weight);
        }
    } else if (function == MIX || function == MIX_BACKWARD) {
        const auto maps = n.list<Map<const T>>(3);
        const S *scales = n.address<const S>(), *shifts = n.address<const S>(), *p = n.address<const S>();
        const i64 step = *n.take(1);
        const auto last = n.map<T>();
        if (function == MIX) return mix<T>(threads, s, maps, scales, shifts, p, step, last);
        S *for_p = n.address<S>(), *for_scales = n.address<S>(), *for_shifts = n.address<S>();
        mix_backward<T>(threads, s, maps, scales, shifts, p, step, Map<const T>(last), for_p, for_scales, for_shifts);
    } else if (function == ATTEND || function == ATTEND_BACKWARD) {
        const auto inputs = n.list<Map<const S>>(3), candidates = n.list<Map<const S>>(3);
        const auto entries = n.list<Entry>(3);
        const S *query = n.address<const S>(), *key = n.address<const S>();
        const S scale = S(same_bits<double>(*n.take(1)));
        const i64 places = *n.take(1);
        S *weights = n.address<S>(), *p = n.address<S>(), *projected = n.address<S>();
        const Attention<S> a{s.images, s.channels, s.pixels(), places, inputs, candidates, entries, query, key, scale, weights, p, projected};
        S *first = n.address<S>(), *second = n.address<S>();
        if (function == ATTEND) return attend<S>(threads, a, first, second);
        const S* third = n.address<const S>();
        S *for_inputs = n.address<S>(), *for_candidates = n.address<S>(), *for_query = n.address<S>(), *for_key = n.address<S>();
        attend_backward<S>(threads, a, first, second, third, for_inputs, for_candidates, for_query, for_key);
    } else {
        const i64 stride = *n.take(1);
        const auto map = n.map<const T>();
        (function == AVERAGE ? average<T> : average_backward<T>)(threads, s, stride, map, n.map<T>());
    }
}

extern "C" void call(int function, int type, int threads, const i64* numbers) {
    if (type == 0) call<float>(function, threads, {numbers});
    if (type == 1) call<double>(function, threads, {numbers});
    if (type == 2) call<BFloat16>(function, threads, {numbers});
}

// Whether this processor multiplies numbers of a type in `pointwise`.
extern "C" int multiplies(int type) { return type != 2 || Factors<BFloat16>::known; }
