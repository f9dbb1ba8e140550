/* nontemporal: a store that goes around the cache, for results too large to be found there again.
 * 64 bytes at a time, a cache line, so that the line need not be read first. Where the instruction set has no
 * such store it is an ordinary one. */
#ifndef ONEPASS_NONTEMPORAL_H
#define ONEPASS_NONTEMPORAL_H

enum { NONTEMPORAL_BYTES = 64 };

#ifdef __SSE2__
#include <emmintrin.h>

/* `to` is a multiple of 64. */
INLINE void store_nontemporal(void *to, const void *from)
{
    for (int i = 0; i < NONTEMPORAL_BYTES / 16; i++)
        _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
}

/* To be called before other threads may read what was stored. */
INLINE void finish_nontemporal(void)
{
    _mm_sfence();
}

#else

INLINE void store_nontemporal(void *to, const void *from)
{
    memcpy(to, from, NONTEMPORAL_BYTES);
}

INLINE void finish_nontemporal(void)
{
}

#endif

#endif
