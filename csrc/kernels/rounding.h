/* The subnormal rule: a running quantity below the smallest normal number becomes 0, and an update
 * term that would be subnormal is 0. The term's factor is tested before the product is taken, since
 * making a subnormal number is what is slow. */

INLINE real TYPED(flush)(real x)
{
    return ABS(x) < REAL_TINY ? 0 : x;
}

/* A factor, and the magnitude below which its product with x, or with x * x, would be subnormal. */
typedef struct {
    real factor, limit;
} TYPE(scale);

INLINE TYPE(scale) TYPED(make_scale)(double factor)
{
    double magnitude = fabs(factor) < 1 ? fabs(factor) : 1;
    return (TYPE(scale)){(real)factor, (real)(REAL_TINY / magnitude)};
}

INLINE TYPE(scale) TYPED(make_square_scale)(double factor)
{
    double magnitude = fabs(factor) < 1 ? fabs(factor) : 1;
    return (TYPE(scale)){(real)factor, (real)sqrt(REAL_TINY / magnitude)};
}

INLINE real TYPED(scaled)(TYPE(scale) s, real x)
{
    return s.factor * (ABS(x) < s.limit ? 0 : x);
}

INLINE real TYPED(scaled_square)(TYPE(scale) s, real x)
{
    x = ABS(x) < s.limit ? 0 : x;
    return (s.factor * x) * x;
}
