/* The sum of n numbers in double, in lanes. */
INLINE double TYPED(sum)(const real *restrict x, ptrdiff_t n)
{
    double lane[LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += (double)x[i + l];
    for (int l = 0; l < n - i; l++)
        lane[l] += (double)x[i + l];
    return sum_lanes(lane);
}
