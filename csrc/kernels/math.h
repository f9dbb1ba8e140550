/* exp, expm1, log1p, tanh, sigmoid and the normal distribution of one number, as expressions that vectorise: libm's
 * do not, and differ from one machine to the next.
 *
 *   exp(x)   = 2^n exp(r),  x = n ln 2 + r,  |r| <= ln(2) / 2,  exp(r) = 1 + r + r^2 Q(r)
 *   log1p(e) = 2 atanh(s) = e - s (e - s^2 P(s^2)),  s = e / (2 + e), for e in [0, 1]
 *   Phi(-t)  = exp(-t^2 / 2) A(t) / B(t), for t >= 0
 *
 * Q and P are minimax polynomials, and A and B together: A / B is erfcx(t / sqrt 2) / 2, and with all their terms
 * positive nothing cancels. NaN gives NaN; infinities and overflow are as in C; exp is 0 where it would be subnormal.
 * Measured against long double, in units in the last place of the result, for both types: exp is within 1, log1p and
 * log within 2, expm1, sigmoid and tanh within 2.5, Phi within 8 wherever it is a normal number (tests/c/math.c). */
#ifndef NUMFUSE_MATH_H
#define NUMFUSE_MATH_H

/* Lowest power first. */
static const float exp_terms_float[] = {0.5f, 0x1.5554b2p-3f, 0x1.55548cp-5f, 0x1.122628p-7f, 0x1.6d9634p-10f};
static const double exp_terms_double[] = {
    0x1.0000000000004p-1,  0x1.555555555555cp-3,  0x1.555555555259cp-5,  0x1.111111110e912p-7,  0x1.6c16c17e45b19p-10,
    0x1.a01a01b52861bp-13, 0x1.a019a8e78b091p-16, 0x1.71ddeb69b0785p-19, 0x1.28a09d8cb9d83p-22, 0x1.af74aa35ec441p-26};
static const float log_terms_float[] = {0x1.555504p-1f, 0x1.99d0e8p-2f, 0x1.1ecc2ep-2f, 0x1.1e97cap-2f};
static const double log_terms_double[] = {0x1.5555555555841p-1, 0x1.9999999907438p-2, 0x1.2492496f25ecap-2,
                                          0x1.c71c4d6c1bfa8p-3, 0x1.746207930510fp-3, 0x1.3aad36ee40ffbp-3,
                                          0x1.161d2cc9cb359p-3, 0x1.96d890519a512p-4, 0x1.6a21c5588033dp-3};
static const float tail_terms_float[] = {0.5f, 0x1.bf071cp-2f, 0x1.749192p-3f, 0x1.492c0ap-5f, 0x1.093cc2p-8f};
static const float tail_divisor_float[] = {
    1, 0x1.abc5bcp+0f, 0x1.327446p+0f, 0x1.dd2be2p-2f, 0x1.9c959cp-4f, 0x1.4c6be0p-7f};
static const double tail_terms_double[] = {0x1.0000000000000p-1,  0x1.a820ef9a24fdap-1,  0x1.5c51702e0bf67p-1,
                                           0x1.6e78789eb43a8p-2,  0x1.0ef73eda6e386p-3,  0x1.24e9d684ef443p-5,
                                           0x1.d433b5a2dc338p-8,  0x1.11857bf64dab9p-10, 0x1.c0d9453e242dcp-14,
                                           0x1.d66463737e126p-18, 0x1.e416bdba1c582p-23};
static const double tail_divisor_double[] = {0x1.0000000000000p+0,  0x1.3a318c9c63581p+1,  0x1.68d967fe86043p+1,
                                             0x1.007ae05f4f3b2p+1,  0x1.f69a8aabc73ep-1,   0x1.656639a40c8a7p-2,
                                             0x1.79ae6e3046418p-4,  0x1.29c74a84e2217p-6,  0x1.591c771912c5ep-9,
                                             0x1.19dde0fa0e676p-12, 0x1.26c649a394315p-16, 0x1.2f5b917d5e611p-21};

/* What Phi takes for infinite, and the number that added rounds what is below to so few bits that the square is
 * exact. */
static const float tail_range_float[] = {14, 0x1.8p15f};
static const double tail_range_double[] = {40, 0x1.8p32};

/* ln 2 as the sum of a number with some zeros at the end, so that small multiples are exact, and the rest. */
static const float ln2_float[] = {0x1.62e4p-1f, 0x1.7f7d1cp-20f};
static const double ln2_double[] = {0x1.62e42fefap-1, 0x1.cf79abc9e3b3ap-40};

/* Where exp begins to be a normal number, and to be infinite. */
static const float exp_range_float[] = {-0x1.5d589ep+6f, 0x1.62e42ep+6f};
static const double exp_range_double[] = {-0x1.6232bdd7abcd2p+9, 0x1.62e42fefa39efp+9};

#define TERMS(array) array, (int)(sizeof array / sizeof *array)

#endif

enum { TYPED(EXPONENT_BIAS) = REAL_MAX_EXP - 1, TYPED(FRACTION_BITS) = REAL_MANT_DIG - 1 };

INLINE BITS TYPED(bits_of)(real x)
{
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE real TYPED(from_bits)(BITS bits)
{
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Even and odd powers apart, so that fewer operations wait for each other. */
INLINE real TYPED(polynomial)(real x, const real *terms, int n)
{
    real square = x * x, sum[2];
    sum[(n - 1) % 2] = terms[n - 1];
    sum[(n - 2) % 2] = terms[n - 2];
    for (int i = n - 3; i >= 0; i--)
        sum[i % 2] = sum[i % 2] * square + terms[i];
    return sum[0] + sum[1] * x;
}

/* exp(r) - 1 for the r that remains of x + tail, of which the tail is small; the lowest bits of *n are the power
 * of two. */
INLINE real TYPED(reduced_expm1)(real x, real tail, BITS *n)
{
    real magic = (real)((BITS)3 << (TYPED(FRACTION_BITS) - 1)); /* added, it leaves no place for a fraction */
    real shifted = x * (real)1.4426950408889634 + magic, whole = shifted - magic;
    real high = x - whole * TYPED(ln2)[0], low = whole * TYPED(ln2)[1] - tail, r = high - low;
    *n = TYPED(bits_of)(shifted);
    return high + ((r * r) * TYPED(polynomial)(r, TERMS(TYPED(exp_terms))) - low);
}

/* exp(x + tail), the tail being small. */
INLINE real TYPED(exp_of_sum)(real x, real tail)
{
    BITS n;
    real power = 1 + TYPED(reduced_expm1)(x, tail, &n);
    power = TYPED(from_bits)(TYPED(bits_of)(power) + (n << TYPED(FRACTION_BITS)));
    power = x < TYPED(exp_range)[0] ? 0 : power;
    return x <= TYPED(exp_range)[1] ? power : x + (real)INFINITY;
}

INLINE real TYPED(exp)(real x)
{
    return TYPED(exp_of_sum)(x, 0);
}

/* For x <= 40, or NaN. Below -40 it is -1. */
INLINE real TYPED(expm1)(real x)
{
    BITS n;
    real part = TYPED(reduced_expm1)(x < -40 ? -40 : x, 0, &n);
    real scale = TYPED(from_bits)(TYPED(bits_of)(1) + (n << TYPED(FRACTION_BITS)));
    return scale * part + (scale - 1);
}

/* For e in [0, 1], or NaN. */
INLINE real TYPED(log1p)(real e)
{
    real s = e / (2 + e), square = s * s;
    return e - s * (e - square * TYPED(polynomial)(square, TERMS(TYPED(log_terms))));
}

/* For x >= 1, or NaN. */
INLINE real TYPED(log)(real x)
{
    BITS bits = TYPED(bits_of)(x), one = TYPED(bits_of)(1), fraction = ((BITS)1 << TYPED(FRACTION_BITS)) - 1;
    real magic = (real)((BITS)1 << TYPED(FRACTION_BITS));
    real n = TYPED(from_bits)(bits >> TYPED(FRACTION_BITS) | TYPED(bits_of)(magic)) - (magic + TYPED(EXPONENT_BIAS));
    real rest = TYPED(log1p)(TYPED(from_bits)((bits & fraction) | one) - 1);
    real y = n * TYPED(ln2)[0] + (rest + n * TYPED(ln2)[1]);
    return x < (real)INFINITY ? y : x;
}

INLINE real TYPED(sigmoid)(real x)
{
    real small = TYPED(exp)(-ABS(x));
    return (x < 0 ? small : 1) / (1 + small);
}

/* q / (q + 2) with q = exp(2 |x|) - 1, and the sign of x. Beyond 20, tanh is 1. */
INLINE real TYPED(tanh)(real x)
{
    real size = ABS(x), q = TYPED(expm1)(2 * (size > 20 ? 20 : size));
    return COPYSIGN(q / (q + 2), x);
}

/* Phi(x), the share of the normal distribution that lies below x; *bell = exp(-x^2 / 2), for which t = |x| is taken
 * as first + rest: t^2 = first^2 + (t + first) rest, the former exact. */
INLINE real TYPED(normal_cdf)(real x, real *bell)
{
    const real end = TYPED(tail_range)[0], magic = TYPED(tail_range)[1];
    real size = ABS(x), t = size > end ? end : size, first = (t + magic) - magic, rest = t - first;
    real tail = TYPED(polynomial)(t, TERMS(TYPED(tail_terms))) / TYPED(polynomial)(t, TERMS(TYPED(tail_divisor)));
    *bell = TYPED(exp_of_sum)((real)-0.5 * (first * first), (real)-0.5 * ((t + first) * rest));
    tail *= *bell;
    return x < 0 ? tail : 1 - tail;
}
