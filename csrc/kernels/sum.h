/* The sum of n numbers in double, in lanes. */
INLINE double TYPED(sum)(const real *restrict x, ptrdiff_t n)
{
    wide_double lanes[LANES / WIDE_DOUBLES];
    double sums[LANES];
    ptrdiff_t i = 0;
    for (int v = 0; v < LANES / WIDE_DOUBLES; v++)
        lanes[v] = (wide_double){0};
    for (; i + LANES <= n; i += LANES)
#pragma GCC unroll 16
        for (int v = 0; v < LANES / WIDE_DOUBLES; v++)
            lanes[v] += TYPED(load_wide)(x + i + v * WIDE_DOUBLES);
    memcpy(sums, lanes, sizeof sums);
    for (int l = 0; l < n - i; l++)
        sums[l] += (double)x[i + l];
    return sum_lanes(sums);
}
