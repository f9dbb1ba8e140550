/* wide: vectors of 64-bit words and of doubles, as long as the instruction set has, the one product that Philox is made
 * of, and floats turned into doubles. Compilers have instructions for these that gcc does not find in plain C: it
 * shuffles the words instead, and dropout's mask then takes 3 times as long; of floats it turns twice as many into two
 * vectors, and the norm of gradients takes 1.35 times as long (measured with AVX2). */
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

#ifdef ONLY_WIDE
enum { WIDE_DOUBLES = 8 };
#else
enum { WIDE_DOUBLES = WIDE };
#endif

typedef double wide_double __attribute__((vector_size(8 * WIDE_DOUBLES)));

INLINE wide_double load_wide_float(const float *x)
{
#if defined ONLY_WIDE
    return (wide_double)_mm512_cvtps_pd(_mm256_loadu_ps(x));
#elif defined __AVX2__
    return (wide_double)_mm256_cvtps_pd(_mm_loadu_ps(x));
#elif defined __SSE2__
    return (wide_double)_mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)x)));
#elif defined __aarch64__
    return (wide_double)vcvt_f64_f32(vld1_f32(x));
#else
    return (wide_double){(double)x[0], (double)x[1]};
#endif
}

INLINE wide_double load_wide_double(const double *x)
{
    wide_double loaded;
    memcpy(&loaded, x, sizeof loaded);
    return loaded;
}

#endif
