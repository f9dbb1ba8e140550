/* The weights of a loss: those of samples, and those of their labels' classes. */

/* Of n rows from `first` on, the product of both; 1 for what is not given. */
INLINE void TYPED(row_weights)(const loss_args *a, ptrdiff_t first, ptrdiff_t n, real *restrict weight)
{
    const real *of_class = a->weight, *of_sample = a->sample_weight;
    const int64_t *target = a->target;
    for (ptrdiff_t r = 0; r < n; r++)
        weight[r] = of_class ? of_class[target[first + r]] : 1;
    if (of_sample)
        for (ptrdiff_t r = 0; r < n; r++)
            weight[r] *= of_sample[first + r];
}

/* Of n elements from `first` on, of which `sample_size` together have one weight; in `scratch` if they lie nowhere. */
INLINE const real *TYPED(element_weights)(const loss_args *a, ptrdiff_t first, ptrdiff_t n, real *restrict scratch)
{
    const real *of_sample = a->sample_weight;
    ptrdiff_t size = of_sample ? a->sample_size : first + n, sample = first / size, i = 0;
    if (of_sample && size == 1)
        return of_sample + first;
    for (ptrdiff_t next = (sample + 1) * size - first; i < n; next += size, sample++) {
        real weight = of_sample ? of_sample[sample] : 1;
        for (ptrdiff_t end = next < n ? next : n; i < end; i++)
            scratch[i] = weight;
    }
    return scratch;
}

/* Of n elements from `first` on, whose last axis are the classes: one round of them, then copies of it. */
INLINE const real *TYPED(class_weights)(const loss_args *a, ptrdiff_t first, ptrdiff_t n, real *restrict scratch)
{
    const real *of_class = a->weight;
    ptrdiff_t classes = a->weight_count, c = first % classes, done = n < classes ? n : classes;
    ptrdiff_t start = classes - c < done ? classes - c : done;
    memcpy(scratch, of_class + c, (size_t)start * sizeof *scratch);
    memcpy(scratch + start, of_class, (size_t)(done - start) * sizeof *scratch);
    for (ptrdiff_t more; done < n; done += more) {
        more = done < n - done ? done : n - done;
        memcpy(scratch + done, scratch, (size_t)more * sizeof *scratch);
    }
    return scratch;
}

/* By blocks of rows: partial[block] = the sum of their weights, NaN if one is below 0 or NaN. */
static void TYPED(loss_sum_weights)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    real weight[LOSS_BLOCK_ROWS];
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *given = weight;
        if (a->sample_weight && !a->weight)
            given = (const real *)a->sample_weight + first;
        else
            TYPED(row_weights)(a, first, n, weight);
#pragma omp simd
        for (ptrdiff_t r = 0; r < n; r++)
            weight[r] = given[r] >= 0 ? given[r] : (real)NAN;
        a->partial[block] = TYPED(sum)(weight, n);
    }
}
