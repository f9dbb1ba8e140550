/* The subnormal rule, since arithmetic on subnormal numbers can be slow: a running quantity below the smallest normal
 * number becomes 0, and what is squared counts as 0 where its square would be subnormal. Terms that are only added
 * need no such care: they are subnormal in passing. */

/* By its exponent bits, which takes no absolute value; SSE2 cannot compare integers of 64 bits. */
INLINE real TYPED(flush)(real x)
{
    const BITS mask = (BITS)(2 * REAL_MAX_EXP - 1) << (REAL_MANT_DIG - 1);
    BITS exponent = TYPED(bits_of)(x) & mask;
    return (sizeof(BITS) == 4 ? exponent == 0 : TYPED(from_bits)(exponent) == 0) ? 0 : x;
}

/* The same of a running square, which is never below 0; it would become 0 there. */
INLINE real TYPED(flush_positive)(real x)
{
    return x < REAL_TINY ? 0 : x;
}

/* The magnitude below which factor * x * x is subnormal, for a factor of at most 1; of a factor of 0 none. */
INLINE real TYPED(square_limit)(double factor)
{
    return factor > 0 ? (real)sqrt(REAL_TINY / factor) : 0;
}

INLINE real TYPED(zero_below)(real x, real limit)
{
    return ABS(x) < limit ? 0 : x;
}

/* An eps beside the root of a running square, at least as large as the root of the smallest normal number times
 * `scale`: a square that became 0 does not leave a gradient, or its average, without a denominator. */
INLINE real TYPED(root_eps)(double eps, double scale)
{
    double smallest = sqrt(REAL_TINY) * scale;
    return (real)(eps > smallest ? eps : smallest);
}
