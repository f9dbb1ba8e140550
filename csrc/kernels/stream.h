/* stream: touches arrays as a kernel would and does next to no arithmetic, to measure what memory
 * allows: the sum of an element of all arrays to read is written to those to update and to write. */
#ifndef ONEPASS_STREAM_H
#define ONEPASS_STREAM_H

INLINE void stream_range(const stream_args *s, int reads, int updates, int writes, ptrdiff_t begin, ptrdiff_t end)
{
    float *arrays[STREAM_ARRAYS];
    for (int k = 0; k < reads + updates + writes; k++)
        arrays[k] = s->arrays[k];
#pragma omp simd
    for (ptrdiff_t i = begin; i < end; i++) {
        float sum = 1;
        for (int k = 0; k < reads; k++)
            sum += arrays[k][i];
        for (int k = reads; k < reads + updates; k++)
            arrays[k][i] += sum;
        for (int k = reads + updates; k < reads + updates + writes; k++)
            arrays[k][i] = sum;
    }
}

static void stream(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const stream_args *s = args;
    /* The numbers of arrays that kernels have, as constants: the compiler then makes one loop of each. */
    switch (100 * s->reads + 10 * s->updates + s->writes) {
    case 101:
        return stream_range(s, 1, 0, 1, begin, end);
    case 201:
        return stream_range(s, 2, 0, 1, begin, end);
    case 401:
        return stream_range(s, 4, 0, 1, begin, end);
    case 110:
        return stream_range(s, 1, 1, 0, begin, end);
    case 120:
        return stream_range(s, 1, 2, 0, begin, end);
    case 130:
        return stream_range(s, 1, 3, 0, begin, end);
    case 140:
        return stream_range(s, 1, 4, 0, begin, end);
    default:
        return stream_range(s, (int)s->reads, (int)s->updates, (int)s->writes, begin, end);
    }
}

#endif
