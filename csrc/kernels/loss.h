/* What the losses share. The terms of a loss are added up in double: those of a block in lanes, the
 * lanes pairwise, the blocks in index order. */
#ifndef NUMFUSE_LOSS_H
#define NUMFUSE_LOSS_H

INLINE ptrdiff_t loss_block_end(const loss_args *a, ptrdiff_t block)
{
    ptrdiff_t end = (block + 1) * a->block_rows;
    return end < a->rows ? end : a->rows;
}

/* In one part: partial[0] = the sum of the blocks, divided; NaN for the mean of no rows. */
static void loss_value(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    double sum = 0;
    for (ptrdiff_t block = 0; block * a->block_rows < a->rows; block++)
        sum += a->partial[block];
    a->partial[begin] = sum / a->divisor;
    (void)end;
}

#endif
