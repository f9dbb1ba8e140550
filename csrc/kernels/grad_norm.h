/* grad_norm: the L2 norm of a list of arrays, sqrt(sum(g * g)).
 *
 * Every array is cut into blocks of GRAD_NORM_BLOCK elements, and a block is summed in double in lanes; lanes,
 * then blocks, are added in the order of their indices.
 *
 * grad g (n) in. Bytes per element in float32: 4. */

/* Of unit * g. */
INLINE double TYPED(sum_of_squares)(const real *g, ptrdiff_t n, double unit)
{
    wide_double lanes[LANES / WIDE_DOUBLES];
    double sums[LANES], sum = 0;
    ptrdiff_t j = 0;
    for (int v = 0; v < LANES / WIDE_DOUBLES; v++)
        lanes[v] = (wide_double){0};
    for (; j + LANES <= n; j += LANES) {
#pragma GCC unroll 16
        for (int v = 0; v < LANES / WIDE_DOUBLES; v++) {
            wide_double x = unit * TYPED(load_wide)(g + j + v * WIDE_DOUBLES);
            lanes[v] += x * x;
        }
    }
    memcpy(sums, lanes, sizeof sums);
    for (int k = 0; j + k < n; k++)
        sums[k] += (unit * g[j + k]) * (unit * g[j + k]);
    for (int k = 0; k < LANES; k++)
        sum += sums[k];
    return sum;
}

static void TYPED(grad_norm_squares)(const grad_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t i = find_tensor(&a->blocks, begin);
    for (ptrdiff_t block = begin; block < end; block++) {
        while (block >= a->blocks.offsets[i + 1])
            i++;
        ptrdiff_t first = (block - a->blocks.offsets[i]) * GRAD_NORM_BLOCK;
        ptrdiff_t rest = a->sizes[i] - first, n = rest < GRAD_NORM_BLOCK ? rest : GRAD_NORM_BLOCK;
        a->squares[block] = TYPED(sum_of_squares)((const real *)a->grads[i] + first, n, 1);
    }
}

/* By blocks, and all of them at once. */
static void TYPED(grad_norm_merge)(const grad_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    double sum = 0;
    for (ptrdiff_t block = begin; block < end; block++)
        sum += a->squares[block];
    *a->norm = sqrt(sum);
}
