/* mse: the squared error.
 *
 *   value = sum or mean of w (x - t)^2
 *   grad  = 2 (x - t) share                  share = w, or w / sum of w for the mean
 *
 * x prediction (n), t target (n) in, w sample_weight (n / sample_size) or 1, grad (n) out. Bytes per element in
 * float32: 12, without grad 8, and 8 of an element's weight, once for the sum of the weights. */

/* By half slopes. */
INLINE double TYPED(mse_term)(real x, real t, real option, real *slope)
{
    (void)option;
    *slope = x - t;
    return (double)*slope * (double)*slope;
}

/* By blocks of elements. */
static void TYPED(mse)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(element_loss)(a, begin, end, TYPED(mse_term), false, 2, 0);
}
