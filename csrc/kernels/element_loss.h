/* The losses of single elements x with targets t, each weighing w:
 *
 *   value  = sum of w term(x, t), or the mean: that divided by the sum of w
 *   grad   = w term'(x, t), or its share in the mean
 *
 * What weighs nothing counts for nothing, NaN and infinity too. */

/* One term, and its slope divided by a constant that the loss names. */
typedef double TYPE(element_term)(real x, real t, real option, real *slope);

/* With share = 1 / divisor times that constant. What weighs nothing is taken for zeros, whose term is finite: were the
 * value selected instead, gcc would load x and t only where there is a weight, element by element. */
INLINE double TYPED(element)(TYPE(element_term) *term, real x, real t, real option, real weight, double share,
                             real *grad)
{
    real slope;
    bool none = weight == 0;
    double value = term(none ? 0 : x, none ? 0 : t, none ? 0 : option, &slope);
    *grad = none ? 0 : slope * (real)((double)weight * share);
    return (double)weight * value;
}

/* The sum of n terms. All elements have the same option and weigh 1 where these arrays are NULL. Terms that are
 * numbers of the arrays' type wait for each other in an array: long expressions are faster then. */
INLINE double TYPED(element_block)(TYPE(element_term) *term, bool in_real, ptrdiff_t n, const real *restrict x,
                                   const real *restrict t, const real *options, real option, const real *weights,
                                   double share, real *restrict grad)
{
    double lane[LANES];
    real terms[LOSS_BLOCK];
    ptrdiff_t i = 0;
    if (in_real) {
#pragma omp simd
        for (i = 0; i < n; i++)
            terms[i] = (real)TYPED(element)(term, x[i], t[i], options ? options[i] : option, weights ? weights[i] : 1,
                                            share, grad + i);
        return TYPED(sum)(terms, n);
    }
    clear_lanes(lane);
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            lane[l] += TYPED(element)(term, x[i + l], t[i + l], options ? options[i + l] : option,
                                      weights ? weights[i + l] : 1, share, grad + i + l);
    for (int l = 0; l < n - i; l++)
        lane[l] += TYPED(element)(term, x[i + l], t[i + l], options ? options[i + l] : option,
                                  weights ? weights[i + l] : 1, share, grad + i + l);
    return sum_lanes(lane);
}

/* By blocks of elements, whose slopes are `factor` times those of `term`. The option of an element is the weight
 * of its class, if there are such, else `option`. Without a->grad there are the values alone. */
INLINE void TYPED(element_loss)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end, TYPE(element_term) *term,
                                bool in_real, double factor, real option)
{
    real scratch[LOSS_BLOCK], more_scratch[LOSS_BLOCK], unwanted[LOSS_BLOCK];
    double share = factor / a->divisor;
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *x = (const real *)a->prediction + first, *t = (const real *)a->target + first, *weights, *options;
        real *grad = a->grad ? (real *)a->grad + first : unwanted;
        double *partial = a->partial + block;
        if (a->weight) {
            weights = TYPED(element_weights)(a, first, n, scratch);
            options = TYPED(class_weights)(a, first, n, more_scratch);
            *partial = TYPED(element_block)(term, in_real, n, x, t, options, 0, weights, share, grad);
        } else if (a->sample_weight) {
            weights = TYPED(element_weights)(a, first, n, scratch);
            *partial = TYPED(element_block)(term, in_real, n, x, t, NULL, option, weights, share, grad);
        } else
            *partial = TYPED(element_block)(term, in_real, n, x, t, NULL, option, NULL, share, grad);
    }
}
