/* What the losses share. The terms of a loss are added up in double: those of a block in lanes, the
 * lanes pairwise, the blocks in index order. */
#ifndef ONEPASS_LOSS_H
#define ONEPASS_LOSS_H

INLINE ptrdiff_t loss_block_end(const loss_args *a, ptrdiff_t block)
{
    ptrdiff_t end = (block + 1) * a->block_rows;
    return end < a->rows ? end : a->rows;
}

/* `of`, or its share in a mean over all rows. */
INLINE double loss_share(const loss_args *a, double of)
{
    return a->mean && a->rows > 0 ? of / (double)a->rows : of;
}

/* In one part: partial[0] = the sum of the blocks, or the mean over the rows, NaN if there are none. */
static void loss_value(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
    double sum = 0;
    for (ptrdiff_t block = 0; block * a->block_rows < a->rows; block++)
        sum += a->partial[block];
    a->partial[begin] = a->mean ? sum / (double)a->rows : sum;
    (void)end;
}

#endif
