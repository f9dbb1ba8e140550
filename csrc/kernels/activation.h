/* activation_forward, activation_backward: y = f(x + bias) and its gradient, for f and f' below.
 *
 *   grad_x = grad_y f'(x + bias)    grad_bias = sum of grad_x over the rows
 *
 * f' is computed from y for sigmoid and tanh, else from x, so that the caller keeps one of the two. x, y, grad_y,
 * grad_x (rows, channels), bias and grad_bias (channels) or NULL. Elements are taken by rows of `period`, a multiple of
 * the channels, as in bias_relu_dropout.h, and their sums are taken as there. Bytes per element in float32: forward 8,
 * backward 12. */
#ifndef NUMFUSE_ACTIVATION_H
#define NUMFUSE_ACTIVATION_H

#define GELU_TANH_SCALE 1.5957691216057308 /* 2 sqrt(2 / pi) */
#define GELU_TANH_CUBIC 0.044715
#define NORMAL_DENSITY_AT_0 0.3989422804014327 /* 1 / sqrt(2 pi) */

UNSEEN float gelu_tanh_range_float[] = {40};
UNSEEN double gelu_tanh_range_double[] = {40};

#endif

/* f(x); `function` is a constant. */
INLINE real TYPED(activation)(real x, real alpha, int function)
{
    real below; /* computed apart from the choice, which is then no branch */
    switch (function) {
    case SIGMOID:
        return TYPED(sigmoid)(x);
    case TANH:
        return TYPED(tanh)(x);
    case LEAKY_RELU:
        return x > 0 ? x : alpha * x;
    case ELU:
        below = alpha * TYPED(expm1)(x);
        return x > 0 ? x : below;
    case SILU:
        return TYPED(silu)(x);
    case GELU:
        return TYPED(gelu)(x);
    default:
        return x * TYPED(sigmoid)((real)GELU_TANH_SCALE * (x + (real)GELU_TANH_CUBIC * (x * x * x)));
    }
}

/* f'(x), where x is f's result for sigmoid and tanh. */
INLINE real TYPED(activation_slope)(real x, real alpha, int function)
{
    const real end = TYPED(gelu_tanh_range)[0];
    real bell, below, share, rest, cubic;
    switch (function) {
    case SIGMOID:
        return x * (1 - x);
    case TANH:
        return 1 - x * x;
    case LEAKY_RELU:
        return x > 0 ? 1 : alpha;
    case ELU:
        below = alpha * TYPED(exp)(x);
        return x > 0 ? 1 : below;
    case SILU:
        share = TYPED(sigmoids)(x, &rest);
        return share * (1 + x * rest);
    case GELU:
        share = TYPED(normal_cdf)(x, &bell);
        return share + x * ((real)NORMAL_DENSITY_AT_0 * bell);
    default:
        /* Beyond the end, f' is 0 or 1, and the cube might overflow. */
        x = x < -end ? -end : x;
        x = x > end ? end : x;
        cubic = (real)GELU_TANH_CUBIC * (x * x * x);
        share = TYPED(sigmoids)((real)GELU_TANH_SCALE * (x + cubic), &rest);
        return share * (1 + (real)GELU_TANH_SCALE * (x + 3 * cubic) * rest);
    }
}

/* y = f(x + bias) of n elements; bias may be NULL. */
INLINE void TYPED(activate)(const real *x, const real *bias, real *y, ptrdiff_t n, real alpha, int function)
{
    if (bias) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = TYPED(activation)(x[i] + bias[i], alpha, function);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = TYPED(activation)(x[i], alpha, function);
    }
}

/* grad_x = grad_y f'(x + bias); with sigmoid and tanh, which are computed from y, there is no bias. */
INLINE void TYPED(differentiate)(const real *x, const real *bias, const real *grad_y, real *grad_x, ptrdiff_t n,
                                 real alpha, int function)
{
    if (bias) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            grad_x[i] = grad_y[i] * TYPED(activation_slope)(x[i] + bias[i], alpha, function);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            grad_x[i] = grad_y[i] * TYPED(activation_slope)(x[i], alpha, function);
    }
}

static void TYPED(activate_any)(const real *x, const real *bias, real *y, ptrdiff_t n, real alpha, int function)
{
    switch (function) {
    case SIGMOID:
        return TYPED(activate)(x, bias, y, n, alpha, SIGMOID);
    case TANH:
        return TYPED(activate)(x, bias, y, n, alpha, TANH);
    case LEAKY_RELU:
        return TYPED(activate)(x, bias, y, n, alpha, LEAKY_RELU);
    case ELU:
        return TYPED(activate)(x, bias, y, n, alpha, ELU);
    case SILU:
        return TYPED(activate)(x, bias, y, n, alpha, SILU);
    case GELU:
        return TYPED(activate)(x, bias, y, n, alpha, GELU);
    default:
        return TYPED(activate)(x, bias, y, n, alpha, GELU_TANH);
    }
}

static void TYPED(differentiate_any)(const real *x, const real *bias, const real *grad_y, real *grad_x, ptrdiff_t n,
                                     real alpha, int function)
{
    switch (function) {
    case SIGMOID:
        return TYPED(differentiate)(x, NULL, grad_y, grad_x, n, alpha, SIGMOID);
    case TANH:
        return TYPED(differentiate)(x, NULL, grad_y, grad_x, n, alpha, TANH);
    case LEAKY_RELU:
        return TYPED(differentiate)(x, bias, grad_y, grad_x, n, alpha, LEAKY_RELU);
    case ELU:
        return TYPED(differentiate)(x, bias, grad_y, grad_x, n, alpha, ELU);
    case SILU:
        return TYPED(differentiate)(x, bias, grad_y, grad_x, n, alpha, SILU);
    case GELU:
        return TYPED(differentiate)(x, bias, grad_y, grad_x, n, alpha, GELU);
    default:
        return TYPED(differentiate)(x, bias, grad_y, grad_x, n, alpha, GELU_TANH);
    }
}

/* The number of elements from i on that share a row, so that each has its bias; without one, of all. */
INLINE ptrdiff_t TYPED(rest_of_row)(const activation_args *a, ptrdiff_t i, ptrdiff_t end)
{
    ptrdiff_t rest = a->period - i % a->period;
    return a->bias && rest < end - i ? rest : end - i;
}

/* By elements. */
static void TYPED(activation_forward)(const activation_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const real *x = a->x, *bias = a->bias;
    real *y = a->y;
    for (ptrdiff_t i = begin, n; i < end; i += n) {
        n = TYPED(rest_of_row)(a, i, end);
        TYPED(activate_any)(x + i, bias ? bias + i % a->period : NULL, y + i, n, (real)a->alpha, a->function);
    }
}

/* By elements: grad_x. */
static void TYPED(activation_backward)(const activation_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const real *x = a->x, *bias = a->bias, *grad_y = a->grad_y;
    real *grad_x = a->grad_x;
    for (ptrdiff_t i = begin, n; i < end; i += n) {
        n = TYPED(rest_of_row)(a, i, end);
        TYPED(differentiate_any)
        (x + i, bias ? bias + i % a->period : NULL, grad_y + i, grad_x + i, n, (real)a->alpha, a->function);
    }
}

/* grad_x of BIAS_ROWS_AT_ONCE rows, and sums += those of their columns. */
INLINE void TYPED(differentiate_rows)(const activation_args *a, ptrdiff_t i, double *restrict sums, int function,
                                      bool shifted)
{
    const real *x = (const real *)a->x + i, *grad_y = (const real *)a->grad_y + i, *bias = a->bias;
    real *grad_x = (real *)a->grad_x + i, alpha = (real)a->alpha;
    ptrdiff_t period = a->period;
#pragma omp simd
    for (ptrdiff_t l = 0; l < period; l++) {
        double sum = 0;
        for (int k = 0; k < BIAS_ROWS_AT_ONCE; k++) {
            ptrdiff_t j = l + k * period;
            real at = shifted ? x[j] + bias[l] : x[j];
            real grad = grad_y[j] * TYPED(activation_slope)(at, alpha, function);
            grad_x[j] = grad;
            sum = k ? sum + (double)grad : (double)grad;
        }
        sums[l] += sum;
    }
}

/* The same if the function takes less time than a pass over memory; returns whether it does. */
INLINE bool TYPED(differentiate_rows_any)(const activation_args *a, ptrdiff_t i, double *sums)
{
    switch (a->function) {
    case SIGMOID:
        TYPED(differentiate_rows)(a, i, sums, SIGMOID, false);
        return true;
    case TANH:
        TYPED(differentiate_rows)(a, i, sums, TANH, false);
        return true;
    case LEAKY_RELU:
        if (a->bias)
            TYPED(differentiate_rows)(a, i, sums, LEAKY_RELU, true);
        else
            TYPED(differentiate_rows)(a, i, sums, LEAKY_RELU, false);
        return true;
    default:
        return false;
    }
}

/* By blocks of BIAS_BLOCK_ROWS rows: grad_x, and partial[block] = sums of the block's elements that share a column. */
static void TYPED(activation_row_sums)(const activation_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t period = a->period, block = BIAS_BLOCK_ROWS * period,
              last = end * block < a->size ? end * block : a->size;
    memset(a->partial + begin * period, 0, (size_t)((end - begin) * period) * sizeof *a->partial);
    for (ptrdiff_t i = begin * block; i < last; i += BIAS_ROWS_AT_ONCE * period) {
        ptrdiff_t n = last - i < BIAS_ROWS_AT_ONCE * period ? last - i : BIAS_ROWS_AT_ONCE * period;
        double *sums = a->partial + i / block * period;
        if (n == BIAS_ROWS_AT_ONCE * period && TYPED(differentiate_rows_any)(a, i, sums))
            continue;
        TYPED(activation_backward)(a, i, i + n);
        TYPED(add_periods)(sums, (const real *)a->grad_x + i, period, n);
    }
}
