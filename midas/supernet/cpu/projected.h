// The attention of a node whose keys are projected one by one, since they are activated or normalised before their product.

#pragma once

#include "attention.h"

constexpr double SHORTEST = 1e-6;  // as in methods/projections.py

// The projections y of queries and keys, activated (a ReLU) if so asked, become scale f (y - m): m is their mean over channels (layer
// norm) or 0, f 1 over their standard deviation (layer norm) or length, or 1. What is kept of them: `projected` has, of each patch
// [B, R, 2, C], the query in the end, with its scale, and y; `factors` [B, R, 1 + K] f of the query and of each key.
template <typename S>
struct Projected {
    enum Normalise : i64 { NONE, LENGTH, LAYER_NORM };  // as in cpu/attention.py

    const Attention<S>& a;
    i64 normalise;
    bool relu;
    S* factors;

    S* factors_of(i64 b, i64 r) const { return factors + (b * a.patches + r) * (1 + i64(a.candidates.size())); }

    // y -> y - m, and f
    template <int N>
    S centre(S* y) const {
        const i64 C = a.channels;
        if (normalise == LAYER_NORM) {
            S mean = 0;
            for (i64 j = 0; j < C; j++) mean += y[j];
            mean /= S(C);
            for (i64 j = 0; j < C; j += N) store<N>(y + j, load<N>(y + j) - mean);
        }
        if (normalise == NONE) return 1;
        const S square = dot<N>(y, y, C);
        return normalise == LENGTH ? 1 / std::max(std::sqrt(square), S(SHORTEST)) : 1 / std::sqrt(square / S(C) + S(EPSILON));
    }
    template <int N>
    void activate(S* y) const {
        for (i64 j = 0; relu && j < a.channels; j += N) {
            const Lane<S, N> value = load<N>(y + j);
            store<N>(y + j, value <= 0 ? Lane<S, N>{} : value);  // what is no number stays so
        }
    }
    // gradient of y from that of f (y - m), whose own value is `unit`; `y` is what the activation left, of which the sign is asked
    template <int N>
    void backward(S f, const S* unit, const S* y, S* gradient) const {
        const i64 C = a.channels;
        const bool follows = normalise == LAYER_NORM || (normalise == LENGTH && f < 1 / S(SHORTEST));
        const S along = follows ? dot<N>(unit, gradient, C) / (normalise == LAYER_NORM ? S(C) : S(1)) : S(0);
        S mean = 0;
        for (i64 j = 0; j < C; j += N) store<N>(gradient + j, f * (load<N>(gradient + j) - along * load<N>(unit + j)));
        for (i64 j = 0; normalise == LAYER_NORM && j < C; j++) mean += gradient[j] / S(C);
        for (i64 j = 0; j < C; j += N) {
            const Lane<S, N> found = load<N>(gradient + j) - mean;
            store<N>(gradient + j, !relu || load<N>(y + j) > 0 ? found : Lane<S, N>{});
        }
    }
};

// As `attend`.
template <typename S>
void attend_projected(int threads, const Projected<S>& how, S* share, S* means) {
    const Attention<S>& a = how.a;
    const i64 C = a.channels;
    const std::vector<S> query = transposed(a.query, C, i64(a.inputs.size()) * C), key = transposed(a.key, C, C);
    attend(threads, a, share, means, [&](auto block, i64 b, i64 r, S* logits) {
        constexpr int N = decltype(block)::value;
        S *q = a.projected_of(b, r), *y = q + C, *factors = how.factors_of(b, r);
        std::vector<S> unit(C);
        project_inputs<N>(a, query, b, r, y, S(1));
        how.template activate<N>(y);
        std::copy(y, y + C, q);
        factors[0] = how.template centre<N>(q);
        for (i64 j = 0; j < C; j += N) store<N>(q + j, load<N>(q + j) * (factors[0] * a.scale));
        for (const Entry& e : a.entries) {
            if (e.candidate < 0) continue;
            for (i64 j = 0; j < C; j += N) store<N>(&unit[j], combine<N>(a.candidates[e.candidate].at(b, r), C, &key[j], C));
            how.template activate<N>(unit.data());
            factors[1 + e.candidate] = how.template centre<N>(unit.data());
            logits[e.place] = factors[1 + e.candidate] * dot<N>(q, unit.data(), C);
        }
    });
}

// As `attend_backward`.
template <typename S>
void attend_projected_backward(int threads, const Projected<S>& how, const S* for_p, const S* for_share, const S* for_means,
                               S* for_inputs, S* for_candidates, S* for_query, S* for_key) {
    const Attention<S>& a = how.a;
    const i64 B = a.images, C = a.channels, R = a.patches, K = i64(a.candidates.size());
    const std::vector<S> turned = transposed(a.key, C, C);
    std::vector<S> of_queries(B * R * C), of_keys(B * R * K * C);  // gradients of W_Q x and W_K k
    images(threads, B, C, [&](auto block, i64 b) {
        constexpr int N = decltype(block)::value;
        const S* p = a.p + b * a.places;
        const std::vector<S> of_p = worth<N>(a, b, for_p, for_share, for_means);
        std::vector<S> of_logit(K), y(C), unit(C);
        for (i64 r = 0; r < R; r++) {
            const S *q = a.projected_of(b, r), *factors = how.factors_of(b, r), *key = nullptr;
            S* of_q = &of_queries[(b * R + r) * C];
            softmax_backward(a, b, r, of_p, of_logit);
            for (const Entry& e : a.entries) {
                const i64 k = e.candidate;
                if (k < 0) continue;
                key = a.candidates[k].at(b, r);
                for (i64 j = 0; j < C; j += N) store<N>(&y[j], combine<N>(key, C, &turned[j], C));
                how.template activate<N>(y.data());
                unit = y;
                how.template centre<N>(unit.data());
                S* of_key = &of_keys[((b * R + r) * K + k) * C];
                for (i64 j = 0; j < C; j += N) {
                    store<N>(&unit[j], load<N>(&unit[j]) * factors[1 + k]);
                    store<N>(of_q + j, load<N>(of_q + j) + of_logit[k] * load<N>(&unit[j]));
                    store<N>(of_key + j, of_logit[k] * load<N>(q + j));
                }
                how.template backward<N>(factors[1 + k], unit.data(), y.data(), of_key);
                for (i64 j = 0; j < C; j += N) {
                    const Lane<S, N> of_mean = for_means ? load<N>(for_means + (b * R + r) * C + j) : Lane<S, N>{};
                    store<N>(for_candidates + ((k * B + b) * R + r) * C + j, p[e.place] * of_mean + combine<N>(of_key, C, a.key + j, C));
                }
            }
            for (i64 j = 0; j < C; j += N) {
                store<N>(&unit[j], load<N>(q + j) / a.scale);
                store<N>(of_q + j, load<N>(of_q + j) * a.scale);
            }
            how.template backward<N>(factors[0], unit.data(), q + C, of_q);
            inputs_backward<N>(a, b, r, of_q, for_inputs);
        }
    });
    if (!for_query) return;
    learn_query(threads, a, of_queries.data(), C, for_query);
    images(threads, C, C, [&](auto block, i64 d) {  // a row of W_K, summed in the order of images
        constexpr int N = decltype(block)::value;
        for (i64 j = 0; j < C; j += N) {
            Lane<S, N> total = {};
            for (i64 b = 0; b < B; b++) {
                Lane<S, N> sum = {};
                for (i64 r = 0; r < R; r++)
                    for (i64 k = 0; k < K; k++) sum += of_keys[((b * R + r) * K + k) * C + d] * load<N>(a.candidates[k].at(b, r) + j);
                total += sum;
            }
            store<N>(for_key + d * C + j, total);
        }
    });
}
