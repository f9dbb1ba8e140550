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
    TYPE(scale) gain, square_gain, step_size;
    real beta1, beta2, eps, root_scale;
} TYPE(adam_scalars);

INLINE void TYPED(adam_moments)(const real *restrict p, const real *restrict g, real *restrict m, real *restrict v,
                                real *restrict w, ptrdiff_t n, TYPE(regularizer) r, TYPE(adam_scalars) s, bool amsgrad,
                                bool decays, bool plain)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = plain ? r.grad_scale * g[i] : TYPED(clipped)(r, g[i]);
        if (decays)
            u += TYPED(scaled)(r.weight_decay, p[i]);
        real square = TYPED(flush)(s.beta2 * v[i] + TYPED(scaled_square)(s.square_gain, u));
        m[i] = TYPED(flush)(s.beta1 * m[i] + TYPED(scaled)(s.gain, u));
        v[i] = square;
        if (amsgrad)
            w[i] = w[i] >= square ? w[i] : square;
    }
}

INLINE void TYPED(adam_update)(real *restrict p, const real *restrict m, const real *restrict v, ptrdiff_t n,
                               TYPE(regularizer) r, TYPE(adam_scalars) s)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real denominator = SQRT(v[i]) * s.root_scale + s.eps;
        p[i] = p[i] * r.keep - TYPED(scaled)(s.step_size, m[i] / denominator);
    }
}

/* In blocks of a few vectors, so that one's moments are computed while another's roots and quotients are: those that
 * parameters wait for before they are regularised are of the block before. */
INLINE void TYPED(adam_range)(real *restrict p, const real *restrict g, real *restrict m, real *restrict v,
                              real *restrict w, real *restrict e, ptrdiff_t n, TYPE(regularizer) r,
                              TYPE(adam_scalars) s, bool amsgrad, bool decays, bool plain)
{
    enum { BLOCK = 32 };
    /* Clipping alone is done where the gradient is read. */
    bool penalized = r.decays || r.l1 > 0;
    TYPE(regularizer) rest = penalized ? TYPED(rest_of)(r) : r;
    real buffer[BLOCK];
    ptrdiff_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        const real *u = plain || !penalized ? g + i : TYPED(regularize_grads)(buffer, g + i, p + i, BLOCK, r);
        TYPED(adam_moments)(p + i, u, m + i, v + i, amsgrad ? w + i : w, BLOCK, rest, s, amsgrad, decays, plain);
        if (!plain && i > 0)
            TYPED(regularize_params)(p + i - BLOCK, e ? e + i - BLOCK : e, BLOCK, r);
        TYPED(adam_update)(p + i, m + i, amsgrad ? w + i : v + i, BLOCK, rest, s);
    }
    if (!plain && i > 0)
        TYPED(regularize_params)(p + i - BLOCK, e ? e + i - BLOCK : e, BLOCK, r);
    const real *u = plain || !penalized ? g + i : TYPED(regularize_grads)(buffer, g + i, p + i, n - i, r);
    TYPED(adam_moments)(p + i, u, m + i, v + i, amsgrad ? w + i : w, n - i, rest, s, amsgrad, decays, plain);
    TYPED(adam_update)(p + i, m + i, amsgrad ? w + i : v + i, n - i, rest, s);
    if (!plain)
        TYPED(regularize_params)(p + i, e ? e + i : e, n - i, r);
}

static void TYPED(adam_step)(const adam_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &a->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&a->step, a->step.lr);
    TYPE(adam_scalars) s = {
        .gain = TYPED(make_scale)(1 - a->beta1),
        .square_gain = TYPED(make_square_scale)(1 - a->beta2),
        .beta1 = (real)a->beta1,
        .beta2 = (real)a->beta2,
        .eps = (real)a->eps,
    };
    int64_t step = 0;
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        if (t->steps[i] != step) {
            step = t->steps[i];
            s.step_size = TYPED(make_scale)(a->step.lr / (1 - integer_power(a->beta1, step)));
            s.root_scale = (real)(1 / sqrt(1 - integer_power(a->beta2, step)));
        }
        tensor_part part = part_of_tensor(t, i, begin, end);
        ptrdiff_t n = part.size;
        real *p = TYPED(array_from)(a->step.params, part);
        real *g = TYPED(array_from)(a->step.grads, part);
        real *m = TYPED(array_from)(a->exp_avgs, part);
        real *v = TYPED(array_from)(a->exp_avg_sqs, part);
        real *w = TYPED(array_from)(a->max_exp_avg_sqs, part);
        real *e = TYPED(array_from)(a->step.ema_params, part);
        if (!r.plain && w)
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, true, false, false);
        else if (!r.plain)
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, false, false, false);
        else if (w && r.decays)
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, true, true, true);
        else if (w)
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, true, false, true);
        else if (r.decays)
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, false, true, true);
        else
            TYPED(adam_range)(p, g, m, v, w, e, n, r, s, false, false, true);
    }
}
