/* huber: the squared error up to delta, and from there on the absolute one (Huber 1964).
 *
 *   value = sum or mean of w c (d - c / 2)   d = x - t, c = d clipped to [-delta, delta]
 *   grad  = c share                          share = w, or w / sum of w for the mean
 *
 * Arrays and bytes are those of mse. */

INLINE double TYPED(huber_term)(real x, real t, real delta, real *slope)
{
    real difference = x - t, clipped = difference > delta ? delta : difference;
    clipped = clipped < -delta ? -delta : clipped;
    *slope = clipped;
    return (double)clipped * ((double)difference - (double)clipped * 0.5);
}

/* By blocks of elements. */
static void TYPED(huber)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(element_loss)(a, begin, end, TYPED(huber_term), false, 1, (real)a->delta);
}
