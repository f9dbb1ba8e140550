/* nontemporal: stores that go around the cache, for results too large to be found there again.
 * They write whole lines, which then need not be read first. Where the instruction set has no such store it is an
 * ordinary one. */
#ifndef NUMFUSE_NONTEMPORAL_H
#define NUMFUSE_NONTEMPORAL_H

enum { NONTEMPORAL_BYTES = 64 }; /* a cache line */

/* Results of a call of nontemporal_bytes and more are written around the cache; dispatch.c sets how many those are. A
 * result written in place always goes through the cache, which holds its lines already. */

#ifdef __SSE2__
#include <emmintrin.h>

/* `to` and `bytes` are multiples of 64. */
INLINE void store_nontemporal(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / 16; i++)
        _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
}

/* To be called before other threads may read what was stored. */
INLINE void finish_nontemporal(void)
{
    _mm_sfence();
}

#else

INLINE void store_nontemporal(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

INLINE void finish_nontemporal(void)
{
}

#endif

/* Copies a finished block around the cache; `to` need not be aligned. The lines that it begins and ends in the middle
 * of are written as usual: both kinds of store in one line cost some 300 ns (measured). Blocks of half a KiB are
 * faster than those of 4 KiB, since reading and writing alternate more often. To be finished as above. */
INLINE void copy_nontemporal(void *to, const void *from, size_t bytes)
{
    size_t head = -(uintptr_t)to % NONTEMPORAL_BYTES;
    head = head < bytes ? head : bytes;
    size_t tail = (bytes - head) % NONTEMPORAL_BYTES;
    if (head > 0)
        memcpy(to, from, head);
    store_nontemporal((char *)to + head, (const char *)from + head, bytes - head - tail);
    if (tail > 0)
        memcpy((char *)to + bytes - tail, (const char *)from + bytes - tail, tail);
}

#endif
