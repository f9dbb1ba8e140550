/* regularize: what every optimizer step may do to a gradient before its own formula, and to a parameter after it.
 *
 *   g = grad_scale * g                                (maximize: -grad_scale)
 *   g = min(max(g, -max_grad_value), max_grad_value)  (a NaN stays one)
 *   g = g + weight_decay * p                          (unless decoupled)
 *   g = g + l1 * sign(p)                              (unless proximal)
 *   p = p * (1 - lr * weight_decay) - lr * ...        the step's own formula; the factor only if decoupled
 *   p = p - min(max(p, -lr * l1), lr * l1)            (proximal: Parikh and Boyd 2014)
 *   e = e + (1 - ema_decay) * (p - e)                 (with ema_params)
 *
 * A step without clipping, L1 and average is plain: its formula takes the gradients as they are, with grad_scale and
 * weight_decay. Any other goes block by block: finished gradients in a buffer, the formula, the parameters; all
 * but the first pass over a block find it in cache.
 *
 * param p (n) in and out, grad g (n) in, ema_param e (n) in and out, which is 8 bytes per element in float32. */

#ifndef NUMFUSE_REGULARIZE_H
#define NUMFUSE_REGULARIZE_H

/* Decay through the gradient, or of the parameter itself. */
enum { NO_DECAY, COUPLED, DECOUPLED };

/* Elements of a few vectors, in steps whose roots and quotients take turns. */
enum { STEP_BLOCK = 32 };

#endif

typedef struct {
    real weight_decay, gain, grad_scale, max_grad_value, l1, keep, threshold;
    int decay;
    bool plain;
} TYPE(regularizer);

INLINE TYPE(regularizer) TYPED(make_regularizer)(const step_args *a, double lr)
{
    return (TYPE(regularizer)){
        .weight_decay = (real)a->weight_decay,
        .gain = (real)(1 - a->ema_decay),
        .grad_scale = (real)(a->maximize ? -a->grad_scale : a->grad_scale),
        .max_grad_value = (real)a->max_grad_value,
        .l1 = a->proximal ? 0 : TYPED(flush)((real)a->l1),
        .keep = (real)(1 - lr * a->weight_decay),
        .threshold = a->proximal ? (real)(lr * a->l1) : 0,
        .decay = a->weight_decay == 0 ? NO_DECAY
                 : a->decoupled       ? DECOUPLED
                                      : COUPLED,
        .plain = a->max_grad_value == INFINITY && a->l1 == 0 && !a->ema_params,
    };
}

/* What is left for the step's own formula. */
INLINE TYPE(regularizer) TYPED(rest_of)(TYPE(regularizer) r)
{
    if (!r.plain) {
        r.grad_scale = 1;
        r.decay = r.decay == COUPLED ? NO_DECAY : r.decay;
    }
    return r;
}

/* The block of a part that begins `done` elements after its first one: all that is left, in a plain step. */
INLINE tensor_part TYPED(block_of)(tensor_part part, ptrdiff_t done, TYPE(regularizer) r)
{
    ptrdiff_t left = part.size - done;
    return (tensor_part){part.index, part.begin + done, r.plain || left < REGULARIZE_BLOCK ? left : REGULARIZE_BLOCK};
}

INLINE real TYPED(clipped)(real g, real largest)
{
    g = g > largest ? largest : g;
    return g < -largest ? -largest : g;
}

/* A block's gradients, finished in `buffer` if anything becomes of them. */
INLINE const real *TYPED(regularize_grads)(real *buffer, const real *g, const real *p, ptrdiff_t n, TYPE(regularizer) r)
{
    if (r.plain)
        return g;
    if (r.grad_scale != 1) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            buffer[i] = r.grad_scale * g[i];
        g = buffer;
    }
    if (r.max_grad_value < (real)INFINITY) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            buffer[i] = TYPED(clipped)(g[i], r.max_grad_value);
        g = buffer;
    }
    if (r.decay == COUPLED) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            buffer[i] = g[i] + r.weight_decay * p[i];
        g = buffer;
    }
    if (r.l1 > 0) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            buffer[i] = ABS(p[i]) > 0 ? g[i] + COPYSIGN(r.l1, p[i]) : g[i];
        g = buffer;
    }
    return g;
}

INLINE real TYPED(shrunk)(real p, real threshold)
{
    real cut = p > threshold ? threshold : p;
    return p - (cut < -threshold ? -threshold : cut);
}

INLINE real TYPED(averaged)(real e, real p, real gain)
{
    return TYPED(flush)(e + gain * (p - e));
}

INLINE void TYPED(average)(real *restrict e, const real *restrict p, ptrdiff_t n, real gain)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        e[i] = TYPED(averaged)(e[i], p[i], gain);
}

INLINE void TYPED(regularize_params)(real *restrict p, real *restrict e, ptrdiff_t n, TYPE(regularizer) r)
{
    if (r.threshold > 0 && e) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            real shrunk = TYPED(shrunk)(p[i], r.threshold);
            e[i] = TYPED(averaged)(e[i], shrunk, r.gain);
            p[i] = shrunk;
        }
    } else if (r.threshold > 0) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            p[i] = TYPED(shrunk)(p[i], r.threshold);
    } else if (e)
        TYPED(average)(e, p, n, r.gain);
}
