/* stream: touches arrays as a kernel would and does next to no arithmetic, to measure what memory
 * allows. Arrays to update are written back as they were, for zero = 0; what arrays to write hold afterwards
 * has no meaning. Without either, the arrays are only read. */
#ifndef NUMFUSE_STREAM_H
#define NUMFUSE_STREAM_H

INLINE void stream_range(const stream_args *s, int reads, int updates, int writes, ptrdiff_t begin, ptrdiff_t end)
{
    uint32_t *arrays[STREAM_ARRAYS], zero = s->zero, seen = 0;
    for (int k = 0; k < reads + updates + writes; k++)
        arrays[k] = s->arrays[k];
#pragma omp simd reduction(| : seen)
    for (ptrdiff_t i = begin; i < end; i++) {
        uint32_t word = 0;
        for (int k = 0; k < reads; k++)
            word |= arrays[k][i];
        for (int k = reads; k < reads + updates; k++)
            arrays[k][i] |= reads ? word & zero : zero;
        for (int k = reads + updates; k < reads + updates + writes; k++)
            arrays[k][i] = word;
        seen |= word;
    }
    if (updates + writes == 0) {
        /* Someone must want to know, or the compiler reads nothing. */
        volatile uint32_t result = seen;
        (void)result;
    }
}

/* The same for arrays to read and one to write, around the cache. */
INLINE void stream_range_nontemporal(const stream_args *s, int reads, ptrdiff_t begin, ptrdiff_t end)
{
    enum { BLOCK = NONTEMPORAL_BYTES / sizeof(uint32_t) };
    uint32_t *arrays[STREAM_ARRAYS], *out = s->arrays[reads], block[BLOCK];
    for (int k = 0; k < reads; k++)
        arrays[k] = s->arrays[k];
    ptrdiff_t aligned = begin + (ptrdiff_t)(-((uintptr_t)(out + begin) / sizeof(uint32_t)) % BLOCK);
    ptrdiff_t i = aligned < end ? aligned : end;
    stream_range(s, reads, 0, 1, begin, i);
    for (; i + BLOCK <= end; i += BLOCK) {
        for (int j = 0; j < BLOCK; j++) {
            block[j] = 0;
            for (int k = 0; k < reads; k++)
                block[j] |= arrays[k][i + j];
        }
        store_nontemporal(out + i, block, NONTEMPORAL_BYTES);
    }
    stream_range(s, reads, 0, 1, i, end);
    finish_nontemporal();
}

static void stream(const stream_args *s, ptrdiff_t begin, ptrdiff_t end)
{
    /* The numbers of arrays that kernels have, as constants: the compiler then makes one loop of each. */
    switch (1000 * s->nontemporal + 100 * s->reads + 10 * s->updates + s->writes) {
    case 100:
        return stream_range(s, 1, 0, 0, begin, end);
    case 200:
        return stream_range(s, 2, 0, 0, begin, end);
    case 101:
        return stream_range(s, 1, 0, 1, begin, end);
    case 201:
        return stream_range(s, 2, 0, 1, begin, end);
    case 301:
        return stream_range(s, 3, 0, 1, begin, end);
    case 20:
        return stream_range(s, 0, 2, 0, begin, end);
    case 110:
        return stream_range(s, 1, 1, 0, begin, end);
    case 120:
        return stream_range(s, 1, 2, 0, begin, end);
    case 130:
        return stream_range(s, 1, 3, 0, begin, end);
    case 140:
        return stream_range(s, 1, 4, 0, begin, end);
    case 1101:
        return stream_range_nontemporal(s, 1, begin, end);
    case 1201:
        return stream_range_nontemporal(s, 2, begin, end);
    default:
        return stream_range(s, (int)s->reads, (int)s->updates, (int)s->writes, begin, end);
    }
}

#endif
