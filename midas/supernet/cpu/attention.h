// The attention of a node.

#pragma once

#include "registers.h"

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

// The query of a patch, times `scale`; W_Q is turned.
template <int N, typename S>
inline void project_inputs(const Attention<S>& a, const std::vector<S>& turned, i64 b, i64 r, S* q, S scale) {
    const i64 C = a.channels;
    for (i64 j = 0; j < C; j += N) {
        Lane<S, N> sum = {};
        for (std::size_t e = 0; e < a.inputs.size(); e++) sum += combine<N>(a.inputs[e].at(b, r), C, &turned[e * C * C + j], C);
        store<N>(q + j, sum * scale);
    }
}

// Gradients of the inputs [E, B, R, C] of a patch from that of its query.
template <int N, typename S>
inline void inputs_backward(const Attention<S>& a, i64 b, i64 r, const S* of_q, S* for_inputs) {
    const i64 B = a.images, C = a.channels, E = i64(a.inputs.size());
    for (i64 e = 0; e < E; e++)
        for (i64 j = 0; j < C; j += N)
            store<N>(for_inputs + ((e * B + b) * a.patches + r) * C + j, combine<N>(of_q, C, a.query + e * C + j, E * C));
}

// The gradient of W_Q from those of the queries, `step` numbers from one to the next; a row is summed in the order of images.
template <typename S>
void learn_query(int threads, const Attention<S>& a, const S* of_queries, i64 step, S* for_query) {
    const i64 B = a.images, C = a.channels, R = a.patches, E = i64(a.inputs.size());
    images(threads, C, C, [&](auto block, i64 d) {
        constexpr int N = decltype(block)::value;
        for (i64 e = 0; e < E; e++)
            for (i64 j = 0; j < C; j += N) {
                Lane<S, N> total = {};
                for (i64 b = 0; b < B; b++) {
                    Lane<S, N> sum = {};
                    for (i64 r = 0; r < R; r++) sum += of_queries[(b * R + r) * step + d] * load<N>(a.inputs[e].at(b, r) + j);
                    total += sum;
                }
                store<N>(for_query + (d * E + e) * C + j, total);
            }
    });
}

// From an image's logits of a patch, which lie where its weights will: softmax in each set, added to the means p.
template <typename S>
inline void softmax(const Attention<S>& a, i64 b, i64 r) {
    S *p = a.p + b * a.places, *weights = a.weights_of(b, r);
    a.sets([&](i64 first, i64 end) {
        S most = -INFINITY, total = 0;
        for (i64 i = first; i < end; i++) most = std::max(most, weights[a.entries[i].place]);
        for (i64 i = first; i < end; i++) total += weights[a.entries[i].place] = std::exp(weights[a.entries[i].place] - most);
        for (i64 i = first; i < end; i++) p[a.entries[i].place] += (weights[a.entries[i].place] /= total) / S(a.patches);
    });
}

// Gradients of the logits of an image's candidates in a patch, from those of its weights.
template <typename S>
inline void softmax_backward(const Attention<S>& a, i64 b, i64 r, const std::vector<S>& of_p, std::vector<S>& of_logit) {
    const S* weights = a.weights_of(b, r);
    a.sets([&](i64 first, i64 end) {
        S mean = 0;
        for (i64 i = first; i < end; i++) mean += weights[a.entries[i].place] * of_p[i];
        for (i64 i = first; i < end; i++)
            if (a.entries[i].candidate >= 0)
                of_logit[a.entries[i].candidate] = weights[a.entries[i].place] * (of_p[i] - mean) / S(a.patches);
    });
}

// Weights, their means p, those of the candidates ("share" [B, K]), and the mixture's means over patches [B, R, C].
// `logits(block, b, r, weights)` leaves an image's logits of a patch, 0 for "none".
template <typename S, typename F>
void attend(int threads, const Attention<S>& a, S* share, S* means, F logits) {
    const i64 C = a.channels, R = a.patches, K = i64(a.candidates.size());
    images(threads, a.images, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        S* p = a.p + b * a.places;
        std::fill(p, p + a.places, S(0));
        for (i64 r = 0; r < R; r++) {
            S* weights = a.weights_of(b, r);
            std::fill(weights, weights + a.places, S(0));
            logits(block, b, r, weights);
            softmax(a, b, r);
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

// The same with logits scale q . (W_K k) = (W_K^T q) . k: the query is projected back, not every key.
template <typename S>
void attend(int threads, const Attention<S>& a, S* share, S* means) {
    const i64 C = a.channels;
    const std::vector<S> query = transposed(a.query, C, i64(a.inputs.size()) * C);
    attend(threads, a, share, means, [&](auto block, i64 b, i64 r, S* logits) {
        constexpr int N = decltype(block)::value;
        S *q = a.projected_of(b, r), *back = q + C;
        project_inputs<N>(a, query, b, r, q, a.scale);
        for (i64 j = 0; j < C; j += N) store<N>(back + j, combine<N>(q, C, a.key + j, C));
        for (const Entry& e : a.entries)
            if (e.candidate >= 0) logits[e.place] = dot<N>(back, a.candidates[e.candidate].at(b, r), C);
    });
}

// Of an image, the gradients of its weights, from those of p, share and means, each of which may be 0.
template <int N, typename S>
inline std::vector<S> worth(const Attention<S>& a, i64 b, const S* for_p, const S* for_share, const S* for_means) {
    const i64 C = a.channels, R = a.patches, K = i64(a.candidates.size());
    std::vector<S> of_p(a.entries.size());
    for (std::size_t i = 0; i < a.entries.size(); i++) {
        const Entry& e = a.entries[i];
        if (for_p) of_p[i] += for_p[b * a.places + e.place];
        if (e.candidate < 0) continue;
        if (for_share) of_p[i] += for_share[b * K + e.candidate];
        for (i64 r = 0; for_means && r < R; r++)
            of_p[i] += dot<N>(for_means + (b * R + r) * C, a.candidates[e.candidate].at(b, r), C);
    }
    return of_p;
}

// Gradients of the inputs [E, B, R, C], the candidates [K, B, R, C] and, unless it is 0, of W_Q and W_K, from those of p, share and
// means.
template <typename S>
void attend_backward(int threads, const Attention<S>& a, const S* for_p, const S* for_share, const S* for_means, S* for_inputs,
                     S* for_candidates, S* for_query, S* for_key) {
    const i64 B = a.images, C = a.channels, R = a.patches, E = i64(a.inputs.size()), K = i64(a.candidates.size());
    const std::vector<S> key = transposed(a.key, C, C);
    std::vector<S> projected(B * R * 2 * C);  // gradients of q, times scale, and of W_K^T q
    images(threads, B, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        const S* p = a.p + b * a.places;
        const std::vector<S> of_p = worth<N>(a, b, for_p, for_share, for_means);
        std::vector<S> of_logit(K);
        for (i64 r = 0; r < R; r++) {
            const S* back = a.projected_of(b, r) + C;
            S *of_q = &projected[(b * R + r) * 2 * C], *of_back = of_q + C;
            softmax_backward(a, b, r, of_p, of_logit);
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
            inputs_backward<N>(a, b, r, of_q, for_inputs);
        }
    });
    if (!for_query) return;
    learn_query(threads, a, projected.data(), 2 * C, for_query);
    images(threads, C, C, [&](auto block, i64 d) {  // a row of W_K, summed in the order of images
        constexpr int N = decltype(block)::value;
        for (i64 j = 0; j < C; j += N) {
            Lane<S, N> total = {};
            for (i64 b = 0; b < B; b++) {
                Lane<S, N> sum = {};
                for (i64 r = 0; r < R; r++) sum += a.projected_of(b, r)[d] * load<N>(&projected[((b * R + r) * 2 + 1) * C + j]);
                total += sum;
            }
            store<N>(for_key + d * C + j, total);
        }
    });
}
