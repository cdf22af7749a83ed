// The functions of sums.py, each reading a map once. kernels.py compiles and calls them.
//
// A map [B, C, H, W] lies in memory pixel by pixel ([B, H W, C], "channels last") or is some of the channels of such a map. Sums
// are kept in float (double for double), over a stretch of pixels first, so that few numbers of very different size meet. Images
// are shared out to threads, and what is summed over images is summed in their order, whatever the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

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

// f(channels of a block as a constant, image) for all images; all of `channels` are whole blocks.
template <typename F>
inline void images(int threads, i64 count, i64 channels, F f) {
    const auto all = [&](auto block) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (i64 b = 0; b < count; b++) f(block, b);
    };
    if (channels % 16 == 0) return all(std::integral_constant<int, 16>{});
    if (channels % 4 == 0) return all(std::integral_constant<int, 4>{});
    all(std::integral_constant<int, 1>{});
}

// Rows of a stretch, whose sums and one map fit into the nearest cache.
template <typename T>
inline i64 rows(const Shape& s) {
    return std::min(s.height, std::max(i64(1), i64(512 * sizeof(T)) / (s.width * s.channels)));
}

// f(first pixel, pixels) for the stretches of an image.
template <typename T, typename F>
inline void stretches(const Shape& s, F f) {
    for (i64 y = 0; y < s.height; y += rows<T>(s)) f(y * s.width, std::min(rows<T>(s), s.height - y) * s.width);
}

// f(block, first pixel, end): a few pixels at a time, so that memory is read in order and a block's sum stays in a register.
template <typename F>
inline void tiles(i64 pixels, i64 blocks, F f) {
    for (i64 i = 0; i < pixels; i += 8)
        for (i64 j = 0; j < blocks; j++) f(j, i, std::min(i + 8, pixels));
}

// sum += factor(block) * map, for all pixels of a stretch; `x` is its first pixel, `width` the blocks of a pixel of the sum.
template <int N, typename T, typename F>
inline void accumulate(Lane<T, N>* sum, i64 width, const T* x, i64 step, i64 pixels, i64 count, F factor) {
    tiles(pixels, count, [&](i64 j, i64 i, i64 end) {
        const auto k = factor(j);
        for (; i < end; i++) sum[i * width + j] += k * load<N>(x + i * step + j * N);
    });
}

template <int N, typename T>
inline void write(const Lane<T, N>* sum, T* to, i64 step, i64 pixels, i64 count) {
    tiles(pixels, count, [&](i64 j, i64 i, i64 end) {
        for (; i < end; i++) store<N>(to + i * step + j * N, sum[i * count + j]);
    });
}

// Means over patches [B, R, C], and unless `mean` is 0 mean, scale and shift [C] of the normalisation, which they then have too.
template <typename T>
void enter(int threads, Shape s, Map<const T> map, Sum<T>* mean, Sum<T>* scale, Sum<T>* shift, Sum<T>* pooled) {
    using S = Sum<T>;
    const i64 C = s.channels, R = s.patches(), tall = s.height / s.down, broad = s.width / s.across;
    std::vector<S> means(s.images * C), spreads(s.images * C);
    images(threads, s.images, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
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
    });
    if (!mean) return;
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
        for (i64 i = 0; i < s.images * R; i++)
            for (i64 c = 0; c < C; c++) pooled[i * C + c] = (pooled[i * C + c] - mean[c]) * scale[c];
}

// Gradient of a map, in four sums: from mean, variance and patches; from terms (in parts of `part` channels); as given; and from
// gradients of relu(map).
template <typename T>
void leave(int threads, Shape s, i64 part, Map<const T> map, const Sum<T>* mean, const Sum<T>* scale, const Sum<T>* pooled,
           const Sum<T>* for_scale, const Sum<T>* for_shift, const Sum<T>* for_pooled, const i64* steps,
           const std::vector<Term<T>>& terms, const std::vector<Map<const T>>& given, const std::vector<Map<const T>>& active,
           Map<T> out) {
    using S = Sum<T>;
    const i64 C = s.channels, R = s.patches(), broad = s.width / s.across, tall = s.height / s.down;
    const auto of_patch = [&](i64 b, i64 r, i64 c) { return for_pooled[b * steps[0] + r * steps[1] + c * steps[2]]; };
    std::vector<S> slope(C), constant(C);
    if (mean) {
        const double pixels = double(s.images) * s.pixels();
        std::vector<double> by_scale(C), by_shift(C);
        if (for_pooled)
            for (i64 b = 0; b < s.images; b++)
                for (i64 r = 0; r < R; r++)
                    for (i64 c = 0; c < C; c++) {
                        by_shift[c] += of_patch(b, r, c);
                        by_scale[c] += double(of_patch(b, r, c)) * pooled[(b * R + r) * C + c];
                    }
        for (i64 c = 0; c < C; c++) {
            const double a = scale[c];
            by_shift[c] += for_shift ? for_shift[c] : 0;
            by_scale[c] = by_scale[c] / a + (for_scale ? for_scale[c] : 0) - (for_shift ? double(mean[c]) * for_shift[c] : 0);
            slope[c] = S(-by_scale[c] * a * a * a / pixels);
            constant[c] = S(-by_shift[c] * a / pixels - double(slope[c]) * mean[c]);
        }
    }
    images(threads, s.images, part, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        using V = Lane<T, N>;
        const i64 M = C / N;
        std::vector<V> constants(R * M), buffer(rows<T>(s) * s.width * M);
        V* sum = buffer.data();
        for (i64 i = 0; i < R * C; i++) {
            const i64 r = i / C, c = i % C;
            const S share = (scale ? scale[c] : S(1)) / S(tall * broad);
            constants[i / N][i % N] = constant[c] + (for_pooled ? of_patch(b, r, c) * share : S(0));
        }
        stretches<T>(s, [&](i64 from, i64 pixels) {
            const auto once = [](i64) { return S(1); };
            const T* x = map.at(b, from);
            std::fill(sum, sum + pixels * M, V{});
            for (const auto& g : active) accumulate<N>(sum, M, g.at(b, from), g.pixel, pixels, M, once);
            if (!active.empty())
                tiles(pixels, M, [&](i64 j, i64 i, i64 end) {
                    for (; i < end; i++) sum[i * M + j] = load<N>(x + i * map.pixel + j * N) > 0 ? sum[i * M + j] : V{};
                });
            if (mean || for_pooled)
                for (i64 run = 0; run < pixels; run += broad) {
                    const i64 y = (from + run) / s.width, left = (from + run) % s.width;
                    const V* k = &constants[(y / tall * s.across + left / broad) * M];
                    for (i64 j = 0; j < M; j++)
                        for (i64 i = run; i < run + broad; i++) sum[i * M + j] += k[j];
                }
            if (mean) accumulate<N>(sum, M, x, map.pixel, pixels, M, [&](i64 j) { return load<N>(&slope[j * N]); });
            for (const Term<T>& term : terms) {
                const S p = term.p[b * term.step];
                const auto factor = [&](i64 j) { return scale ? p * load<N>(scale + term.first + j * N) : V{} + p; };
                const auto& g = term.gradient;
                accumulate<N>(sum + term.first / N, M, g.at(b, from), g.pixel, pixels, part / N, factor);
            }
            for (const auto& g : given) accumulate<N>(sum, M, g.at(b, from), g.pixel, pixels, M, once);
            write<N>(sum, out.at(b, from), out.pixel, pixels, M);
        });
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
        std::vector<V> buffer(rows<T>(s) * s.width * M), shift(M);
        V* sum = buffer.data();
        for (i64 k = 0; k < K; k++)
            for (i64 j = 0; j < M; j++) shift[j] += p[b * step + k] * load<N>(shifts + k * C + j * N);
        stretches<T>(s, [&](i64 from, i64 pixels) {
            for (i64 i = 0; i < pixels; i++) std::copy(shift.begin(), shift.end(), sum + i * M);
            for (i64 k = 0; k < K; k++) {
                const auto factor = [&](i64 j) { return p[b * step + k] * load<N>(scales + k * C + j * N); };
                accumulate<N>(sum, M, maps[k].at(b, from), maps[k].pixel, pixels, M, factor);
            }
            write<N>(sum, out.at(b, from), out.pixel, pixels, M);
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
        std::vector<V> buffer(rows<T>(s) * s.width * M), dots((K + 1) * M);
        V* g = buffer.data();
        stretches<T>(s, [&](i64 from, i64 pixels) {
            const T* x = gradient.at(b, from);
            tiles(pixels, M, [&](i64 j, i64 i, i64 end) {
                V sum = {};
                for (; i < end; i++) sum += g[i * M + j] = load<N>(x + i * gradient.pixel + j * N);
                dots[K * M + j] += sum;
            });
            for (i64 k = 0; k < K; k++) {
                x = maps[k].at(b, from);
                tiles(pixels, M, [&](i64 j, i64 i, i64 end) {
                    V sum = {};
                    for (; i < end; i++) sum += g[i * M + j] * load<N>(x + i * maps[k].pixel + j * N);
                    dots[k * M + j] += sum;
                });
            }
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
            std::fill(column.begin() + M, column.end() - M, V{});
            for (i64 v = std::max(y * stride - 1, i64(0)); v < std::min(y * stride + 2, s.height); v++) {
                const T* x = map.at(b, v * s.width);
                V* sum = column.data() + M;
                for (i64 i = 0; i < s.width; i++, x += map.pixel)
                    for (i64 j = 0; j < M; j++) *sum++ += load<N>(x + j * N);
            }
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
            std::fill(column.begin(), column.end(), V{});
            for (i64 v = (std::max(y, i64(1)) + stride - 2) / stride; v * stride <= y + 1 && v < w.height(); v++) {
                const T* x = gradient.at(b, v * w.width());
                for (i64 i = 0; i < w.width(); i++, x += gradient.pixel)
                    for (i64 j = 0; j < M; j++)
                        column[(i * stride + 1) * M + j] += load<N>(x + j * N) * (w.down[v] * w.across[i]);
            }
            T* to = out.at(b, y * s.width);
            const V* c = column.data();
            for (i64 i = 0; i < s.width; i++, to += out.pixel)
                for (i64 j = 0; j < M; j++, c++) store<N>(to + j * N, c[0] + c[M] + c[2 * M]);
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

enum Function { ENTER, LEAVE, MIX, MIX_BACKWARD, AVERAGE, AVERAGE_BACKWARD };  // in the order of FUNCTIONS in kernels.py

// Arguments are evaluated in any order, hence a variable for each that is taken.
template <typename T>
void call(int function, int threads, Numbers n) {
    using S = Sum<T>;
    const Shape s = n.shape();
    if (function == ENTER) {
        const auto map = n.map<const T>();
        S *mean = n.address<S>(), *scale = n.address<S>(), *shift = n.address<S>(), *pooled = n.address<S>();
        enter<T>(threads, s, map, mean, scale, shift, pooled);
    } else if (function == LEAVE) {
        const i64 part = *n.take(1);
        const auto map = n.map<const T>();
        const S *mean = n.address<const S>(), *scale = n.address<const S>(), *pooled = n.address<const S>();
        const S *for_scale = n.address<const S>(), *for_shift = n.address<const S>(), *for_pooled = n.address<const S>();
        const i64* steps = n.take(3);
        const auto terms = n.list<Term<T>>(6);
        const auto given = n.list<Map<const T>>(3), active = n.list<Map<const T>>(3);
        const auto out = n.map<T>();
        leave<T>(threads, s, part, map, mean, scale, pooled, for_scale, for_shift, for_pooled, steps, terms, given, active, out);
    } else if (function == MIX || function == MIX_BACKWARD) {
        const auto maps = n.list<Map<const T>>(3);
        const S *scales = n.address<const S>(), *shifts = n.address<const S>(), *p = n.address<const S>();
        const i64 step = *n.take(1);
        const auto last = n.map<T>();
        if (function == MIX) return mix<T>(threads, s, maps, scales, shifts, p, step, last);
        S *for_p = n.address<S>(), *for_scales = n.address<S>(), *for_shifts = n.address<S>();
        mix_backward<T>(threads, s, maps, scales, shifts, p, step, Map<const T>(last), for_p, for_scales, for_shifts);
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
