/* The sum of n numbers in double, in the lanes of loss.h. */
INLINE double TYPED(sum)(const real *restrict x, ptrdiff_t n)
{
    double lane[LOSS_LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + LOSS_LANES <= n; i += LOSS_LANES)
        for (int l = 0; l < LOSS_LANES; l++)
            lane[l] += (double)x[i + l];
    for (int l = 0; l < n - i; l++)
        lane[l] += (double)x[i + l];
    return sum_lanes(lane);
}
