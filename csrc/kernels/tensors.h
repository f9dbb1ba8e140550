/* Walking over the tensors of an optimizer step. */
#ifndef NUMFUSE_TENSORS_H
#define NUMFUSE_TENSORS_H

/* The part of tensor `index` that is in the range asked for. */
typedef struct {
    ptrdiff_t index, begin, size;
} tensor_part;

/* The tensor that holds one element of the job. */
static ptrdiff_t find_tensor(const tensor_list *t, ptrdiff_t element)
{
    ptrdiff_t low = 0, high = t->count;
    while (high - low > 1) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (t->offsets[middle] <= element)
            low = middle;
        else
            high = middle;
    }
    return low;
}

INLINE tensor_part part_of_tensor(const tensor_list *t, ptrdiff_t index, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t first = begin > t->offsets[index] ? begin : t->offsets[index];
    ptrdiff_t last = end < t->offsets[index + 1] ? end : t->offsets[index + 1];
    return (tensor_part){index, first - t->offsets[index], last - first};
}

/* base^exponent by repeated squaring: pow rounds differently from one libm to the next. */
static double integer_power(double base, int64_t exponent)
{
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

#endif

/* Array `index` of a list from element `begin` on; NULL for a list that is not there. */
INLINE real *TYPED(array_from)(void **list, tensor_part part)
{
    return list ? (real *)list[part.index] + part.begin : NULL;
}
