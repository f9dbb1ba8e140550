/* adam_step: Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), AMSGrad (Reddi et al. 2018).
 *
 *   g = ...                                     (regularize.h; decoupled decay is AdamW)
 *   m = beta1 * m + (1 - beta1) * g
 *   v = beta2 * v + (1 - beta2) * g * g
 *   w = max(w, v)                               (AMSGrad; else w is v)
 *   p = p - lr / (1 - beta1^t) * m / (sqrt(w) / sqrt(1 - beta2^t) + eps)
 *
 * param p (n) in and out, grad g (n) in, exp_avg m, exp_avg_sq v, max_exp_avg_sq w (n) in and out.
 * Bytes per element in float32: 28, AMSGrad 36. */

typedef struct {
    real beta1, beta2, gain, square_gain, limit, step_size, root_scale, eps;
} TYPE(adam_scalars);

typedef struct {
    real *p, *m, *v, *w, *e;
    const real *g;
} TYPE(adam_arrays);

INLINE void TYPED(adam_moments)(const real *restrict p, const real *restrict g, real *restrict m, real *restrict v,
                                ptrdiff_t n, TYPE(regularizer) r, TYPE(adam_scalars) s, bool coupled)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = TYPED(zero_below)(coupled ? g[i] + r.weight_decay * p[i] : g[i], s.limit);
        v[i] = TYPED(flush_positive)(s.beta2 * v[i] + (s.square_gain * u) * u);
        m[i] = TYPED(flush)(s.beta1 * m[i] + s.gain * u);
    }
}

INLINE void TYPED(adam_denominators)(real *restrict d, const real *restrict v, real *restrict w, ptrdiff_t n,
                                     TYPE(adam_scalars) s)
{
    if (w) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            w[i] = w[i] >= v[i] ? w[i] : v[i];
        v = w;
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        d[i] = SQRT(v[i]) * s.root_scale + s.eps;
}

INLINE void TYPED(adam_quotients)(real *restrict p, const real *restrict m, const real *restrict d, ptrdiff_t n,
                                  TYPE(regularizer) r, TYPE(adam_scalars) s, bool decoupled)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = (decoupled ? p[i] * r.keep : p[i]) - s.step_size * (m[i] / d[i]);
}

/* From element i on, as the next two. */
INLINE void TYPED(adam_begin)(TYPE(adam_arrays) a, ptrdiff_t i, ptrdiff_t n, TYPE(regularizer) r, TYPE(adam_scalars) s)
{
    real buffer[STEP_BLOCK];
    const real *g = TYPED(regularize_grads)(buffer, a.g + i, a.p + i, n, r);
    if (TYPED(rest_of)(r).decay == COUPLED)
        TYPED(adam_moments)(a.p + i, g, a.m + i, a.v + i, n, r, s, true);
    else
        TYPED(adam_moments)(a.p + i, g, a.m + i, a.v + i, n, r, s, false);
}

INLINE void TYPED(adam_finish)(TYPE(adam_arrays) a, const real *d, ptrdiff_t i, ptrdiff_t n, TYPE(regularizer) r,
                               TYPE(adam_scalars) s)
{
    if (r.decay == DECOUPLED)
        TYPED(adam_quotients)(a.p + i, a.m + i, d, n, r, s, true);
    else
        TYPED(adam_quotients)(a.p + i, a.m + i, d, n, r, s, false);
    TYPED(regularize_params)(a.p + i, a.e ? a.e + i : a.e, n, r);
}

/* In blocks of a few vectors: one's quotients are taken after the moments of the next, and before its roots, so that
 * neither is waited for. */
INLINE void TYPED(adam_part)(TYPE(adam_arrays) a, ptrdiff_t n, TYPE(regularizer) r, TYPE(adam_scalars) s)
{
    real d[STEP_BLOCK];
    ptrdiff_t i = 0;
    for (; i + STEP_BLOCK <= n; i += STEP_BLOCK) {
        TYPED(adam_begin)(a, i, STEP_BLOCK, r, s);
        if (i > 0)
            TYPED(adam_finish)(a, d, i - STEP_BLOCK, STEP_BLOCK, r, s);
        TYPED(adam_denominators)(d, a.v + i, a.w ? a.w + i : a.w, STEP_BLOCK, s);
    }
    if (i > 0)
        TYPED(adam_finish)(a, d, i - STEP_BLOCK, STEP_BLOCK, r, s);
    TYPED(adam_begin)(a, i, n - i, r, s);
    TYPED(adam_denominators)(d, a.v + i, a.w ? a.w + i : a.w, n - i, s);
    TYPED(adam_finish)(a, d, i, n - i, r, s);
}

static void TYPED(adam_step)(const adam_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &a->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&a->step, a->step.lr);
    TYPE(adam_scalars) s = {
        .beta1 = (real)a->beta1,
        .beta2 = (real)a->beta2,
        .gain = (real)(1 - a->beta1),
        .square_gain = (real)(1 - a->beta2),
        .limit = TYPED(square_limit)(1 - a->beta2),
    };
    int64_t step = 0;
    /* Gradients are scaled beforehand: one product more between roots and quotients is one too many. */
    r.plain = r.plain && r.grad_scale == 1;
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        if (t->steps[i] != step) {
            step = t->steps[i];
            double root_scale = 1 / sqrt(1 - integer_power(a->beta2, step));
            s.step_size = (real)(a->step.lr / (1 - integer_power(a->beta1, step)));
            s.root_scale = (real)root_scale;
            s.eps = TYPED(root_eps)(a->eps, root_scale);
        }
        tensor_part part = part_of_tensor(t, i, begin, end);
        TYPE(adam_arrays) arrays = {
            .p = TYPED(array_from)(a->step.params, part),
            .g = TYPED(array_from)(a->step.grads, part),
            .m = TYPED(array_from)(a->exp_avgs, part),
            .v = TYPED(array_from)(a->exp_avg_sqs, part),
            .w = TYPED(array_from)(a->max_exp_avg_sqs, part),
            .e = TYPED(array_from)(a->step.ema_params, part),
        };
        /* Adam and AdamW apart: the compiler then knows their options. */
        if (r.plain && r.decay == NO_DECAY && !arrays.w) {
            r.plain = true, r.decay = NO_DECAY, arrays.w = arrays.e = NULL;
            TYPED(adam_part)(arrays, part.size, r, s);
        } else if (r.plain && r.decay == DECOUPLED && !arrays.w) {
            r.plain = true, r.decay = DECOUPLED, arrays.w = arrays.e = NULL;
            TYPED(adam_part)(arrays, part.size, r, s);
        } else
            TYPED(adam_part)(arrays, part.size, r, s);
    }
}
