/* wide: a vector of 64-bit words as long as the instruction set has, and the one product that Philox is made of.
 * Compilers have an instruction for it that gcc does not find in plain C: it shuffles the words instead, and
 * dropout's mask then takes 3 times as long (measured with AVX2). */
#ifndef NUMFUSE_WIDE_H
#define NUMFUSE_WIDE_H

#if defined __AVX2__
#include <immintrin.h>
#elif defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON
#include <arm_neon.h>
#endif

#ifdef __AVX2__
enum { WIDE = 4 };
#else
enum { WIDE = 2 };
#endif

typedef uint64_t wide __attribute__((vector_size(8 * WIDE)));

/* The products of the low halves of a's words and of b, all 64 bits of them. */
INLINE wide multiply_low(wide a, uint32_t b)
{
    wide factor = (wide){0} + b;
#if defined __AVX2__
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
#elif defined __SSE2__
    return (wide)_mm_mul_epu32((__m128i)a, (__m128i)factor);
#elif defined __ARM_NEON
    return (wide)vmull_u32(vmovn_u64((uint64x2_t)a), vdup_n_u32(b));
#else
    return (a & 0xFFFFFFFF) * factor;
#endif
}

#endif
