// What all kernels are made of: maps, the shares of threads, and sums in registers.
//
// A map [B, C, H, W] lies in memory pixel by pixel ([B, H W, C], "channels last") or is some of the channels of such a map. Sums
// are kept in float (double for double), over a few pixels first, so that few numbers of very different size meet. Images
// are shared out to threads, and what is summed over images is summed in their order, whatever the number of threads.

#pragma once

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

template <typename S>
std::vector<S> transposed(const S* x, i64 rows, i64 columns) {
    std::vector<S> y(rows * columns);
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j];
    return y;
}
