/* mse: the squared error.
 *
 *   value = sum or mean of (x - t)^2
 *   grad  = 2 (x - t) share                  share = 1, or 1 / n for the mean
 *
 * x prediction (n), t target (n) in, grad (n) out. Bytes per element in float32: 12. */

/* One term of the value; `twice` is 2 share. */
INLINE double TYPED(mse_term)(real x, real t, real twice, real *grad)
{
    real difference = x - t;
    *grad = difference * twice;
    return (double)difference * (double)difference;
}
