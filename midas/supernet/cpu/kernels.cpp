// The functions of sums.py, each reading a map once, 1x1 convolutions, and attention. kernels.py compiles and calls them.

#include "maps.h"
#include "projected.h"
#include "projection.h"

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

enum Function { ENTER, LEAVE, POINTWISE, POINTWISE_BACKWARD, MIX, MIX_BACKWARD, AVERAGE, AVERAGE_BACKWARD, ATTEND, ATTEND_BACKWARD, PROJECT, PROJECT_BACKWARD };  // as in kernels.py

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
        const Projected<S> how{a, *n.take(1), *n.take(1) != 0, n.address<S>()};  // the only ones that are taken in order: in braces
        S *first = n.address<S>(), *second = n.address<S>();
        if (function == ATTEND) return how.factors ? attend_projected<S>(threads, how, first, second) : attend<S>(threads, a, first, second);
        const S* third = n.address<const S>();
        S *for_inputs = n.address<S>(), *for_candidates = n.address<S>(), *for_query = n.address<S>(), *for_key = n.address<S>();
        (how.factors ? attend_projected_backward<S>(threads, how, first, second, third, for_inputs, for_candidates, for_query, for_key)
                     : attend_backward<S>(threads, a, first, second, third, for_inputs, for_candidates, for_query, for_key));
    } else if (function == PROJECT || function == PROJECT_BACKWARD) {
        const auto maps = n.list<Map<const T>>(3);
        const i64 together = *n.take(1);
        const S *weights = n.address<const S>(), *offsets = n.address<const S>();
        const Projecting<T> a{s, maps, together, weights, offsets};
        S* out = n.address<S>();
        if (function == PROJECT) return project<T>(threads, a, out);
        const auto for_maps = n.list<Map<T>>(3);
        S *for_weights = n.address<S>(), *for_offsets = n.address<S>();
        project_backward<T>(threads, a, out, for_maps, for_weights, for_offsets);
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
