/* Batch normalisation (Ioffe and Szegedy 2015): what both memory layouts share.
 *
 *   y      = (x - mean) * (rstd * weight) + bias,    rstd = 1 / sqrt(var + eps)
 *   grad_x = rstd * weight * (g - average(g) - xhat * average(g * xhat)),    xhat = (x - mean) * rstd
 *
 * Sums are taken over blocks whose bounds depend on the shape alone: of up to four values in the arrays' type,
 * of these in double, and of the blocks in index order. A block's variance is summed around the mean of some
 * of its values, so that E[(x - shift)^2] loses no digits, as E[x^2] - E[x]^2 can. */

/* Number, mean, and sum of squared deviations from it, of a set of values. */
typedef struct {
    double count, mean, squares;
} TYPE(moments);

/* The moments of two sets together (Chan, Golub and LeVeque 1979). */
INLINE TYPE(moments) TYPED(merge)(TYPE(moments) a, TYPE(moments) b)
{
    double count = a.count + b.count, share = b.count / count, delta = b.mean - a.mean;
    /* Where a mean is infinite the difference would make it NaN. */
    double mean = delta - delta == 0 ? a.mean + delta * share : a.mean + b.mean;
    return (TYPE(moments)){count, mean, a.squares + b.squares + delta * delta * (a.count * share)};
}

/* The moments of `count` values of which the sums of (x - shift) and (x - shift)^2 are known. */
INLINE TYPE(moments) TYPED(moments_around)(double shift, double count, double sum, double squares)
{
    double delta = sum / count;
    squares -= sum * delta;
    return (TYPE(moments)){count, shift + delta, squares < 0 ? 0 : squares};
}

/* A value to sum around; not an infinite one, which would turn an infinite mean into NaN. */
INLINE double TYPED(shift_of)(real x)
{
    return x - x == 0 ? (double)x : 0;
}

/* What one channel's values go through: y = ((x - high) - low) * scale + bias. */
typedef struct {
    real high, low, scale, bias;
} TYPE(affine);

INLINE TYPE(affine) TYPED(make_affine)(const batch_norm_args *a, ptrdiff_t channel, double mean, double rstd)
{
    const real *weight = a->weight, *bias = a->bias;
    real high = (real)mean;
    return (TYPE(affine)){
        high,
        (real)(mean - high),
        (real)(weight ? rstd * (double)weight[channel] : rstd),
        bias ? bias[channel] : 0,
    };
}

/* Stores one channel's statistics and updates the running ones. No value at all leaves those alone. */
INLINE TYPE(affine) TYPED(finish_moments)(const batch_norm_args *a, ptrdiff_t channel, TYPE(moments) s)
{
    real *running_mean = a->running_mean, *running_var = a->running_var;
    double var = s.count > 0 ? s.squares / s.count : 0;
    double rstd = 1 / sqrt(var + a->eps);
    a->mean[channel] = s.mean;
    a->rstd[channel] = rstd;
    if (running_mean && s.count > 0) {
        double old = 1 - a->momentum, unbiased = var * s.count / (s.count - 1);
        running_mean[channel] = TYPED(flush)((real)(old * (double)running_mean[channel] + a->momentum * s.mean));
        running_var[channel] = TYPED(flush)((real)(old * (double)running_var[channel] + a->momentum * unbiased));
    }
    return TYPED(make_affine)(a, channel, s.mean, rstd);
}

INLINE TYPE(affine) TYPED(inference_affine)(const batch_norm_args *a, ptrdiff_t channel)
{
    const real *mean = a->running_mean, *var = a->running_var;
    TYPE(affine) c = TYPED(make_affine)(a, channel, (double)mean[channel], 1 / sqrt((double)var[channel] + a->eps));
    c.low = 0; /* the mean has no more digits, and an infinite one would leave NaN */
    return c;
}

/* What one channel's gradient goes through: grad_x = ((g - average) - ((x - high) - low) * slope) * scale. */
typedef struct {
    real high, low, average, slope, scale;
} TYPE(gradient);

/* From the channel's sums of g and of g * (x - mean). */
INLINE TYPE(gradient) TYPED(finish_sums)(const batch_norm_args *a, ptrdiff_t channel, double sum, double product)
{
    real *grad_weight = a->grad_weight, *grad_bias = a->grad_bias;
    double rstd = a->rstd[channel], count = (double)(a->outer * a->inner);
    if (grad_weight)
        grad_weight[channel] = (real)(product * rstd);
    if (grad_bias)
        grad_bias[channel] = (real)sum;
    TYPE(affine) forward = TYPED(make_affine)(a, channel, a->mean[channel], rstd);
    bool through = a->training && count > 0;
    return (TYPE(gradient)){
        forward.high,
        forward.low,
        through ? (real)(sum / count) : 0,
        through ? (real)(rstd * rstd * (product / count)) : 0,
        forward.scale,
    };
}

/* Elements that wait in the first cache for what comes after. */
enum { TYPED(TILE) = 256 };

/* Whether a result is written around the cache: not in place, where its lines are there already. */
INLINE bool TYPED(use_nontemporal)(const batch_norm_args *a, view from, view to)
{
    return (size_t)(a->outer * a->channels * a->inner) * sizeof(real) >= nontemporal_bytes && from.data != to.data;
}
