/* stream: touches arrays as a kernel would and does next to no arithmetic, to measure what memory
 * allows. The arrays are walked together, a piece at a time; what is read is added up in a few lanes,
 * so that no access can be left out. */
#ifndef ONEPASS_STREAM_H
#define ONEPASS_STREAM_H

/* Short pieces keep all arrays going at once, as kernels do: 1,024 elements were a third slower beyond cache. */
enum { STREAM_PIECE = 64, STREAM_LANES = 32 };

static void stream(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const stream_args *s = args;
    float lanes[STREAM_LANES] = {0};
    for (ptrdiff_t first = begin; first < end; first += STREAM_PIECE) {
        ptrdiff_t n = end - first < STREAM_PIECE ? end - first : STREAM_PIECE, k = 0;
        for (; k < s->reads; k++) {
            const float *restrict x = s->arrays[k] + first;
            ptrdiff_t i = 0;
            for (; i + STREAM_LANES <= n; i += STREAM_LANES)
                for (int l = 0; l < STREAM_LANES; l++)
                    lanes[l] += x[i + l];
            for (; i < n; i++)
                lanes[0] += x[i];
        }
        for (; k < s->reads + s->updates; k++) {
            float *restrict x = s->arrays[k] + first;
            for (ptrdiff_t i = 0; i < n; i++)
                x[i] += 1;
        }
        for (; k < s->reads + s->updates + s->writes; k++) {
            float *restrict x = s->arrays[k] + first;
            for (ptrdiff_t i = 0; i < n; i++)
                x[i] = 1;
        }
    }
    float sum = 0;
    for (int l = 0; l < STREAM_LANES; l++)
        sum += lanes[l];
    volatile float wanted = sum;
    (void)wanted;
}

#endif
