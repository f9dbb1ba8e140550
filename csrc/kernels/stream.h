/* stream: touches arrays as a kernel would and does next to no arithmetic, to measure what memory
 * allows. The arrays are walked together, a piece at a time. What is read is added up and the sum is
 * what gets written, so that no access can be left out. */
#ifndef ONEPASS_STREAM_H
#define ONEPASS_STREAM_H

enum { STREAM_PIECE = 1024 };

static void stream(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const stream_args *s = args;
    float sum[STREAM_PIECE] = {0};
    for (ptrdiff_t first = begin; first < end; first += STREAM_PIECE) {
        ptrdiff_t n = end - first < STREAM_PIECE ? end - first : STREAM_PIECE;
        float **array = s->arrays;
        for (ptrdiff_t k = 0; k < s->reads; k++, array++)
            for (ptrdiff_t i = 0; i < n; i++)
                sum[i] += (*array)[first + i];
        for (ptrdiff_t k = 0; k < s->updates; k++, array++)
            for (ptrdiff_t i = 0; i < n; i++)
                (*array)[first + i] += sum[i];
        for (ptrdiff_t k = 0; k < s->writes; k++, array++)
            memcpy(*array + first, sum, (size_t)n * sizeof *sum);
    }
    float total = 0;
    for (int i = 0; i < STREAM_PIECE; i++)
        total += sum[i];
    volatile float wanted = total;
    (void)wanted;
}

#endif
