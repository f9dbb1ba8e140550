/* exp, expm1, log1p, tanh, sigmoid and the normal distribution of one number, as expressions that vectorise: libm's
 * do not, and differ from one machine to the next.
 *
 *   exp(x)   = 2^n exp(r),  x = n ln 2 + r,  |r| <= ln(2) / 2
 *   exp(r)   = 1 + r + r^2 Q(r) = (E(r^2) + r) / (E(r^2) - r),  E(r^2) = r coth(r / 2): half the terms for a quotient
 *   log1p(e) = 2 atanh(s) = e - s (e - s^2 P(s^2)),  s = e / (2 + e), for e in [0, 1]
 *   Phi(-t)  = exp(-t^2 / 2) D(t) / (C(t) + c t D(t)), for t >= 0
 *
 * Q, E and P are minimax polynomials, and D, C and c together: the quotient is erfcx(t / sqrt 2) / 2, c sqrt(2 pi), and
 * with all terms positive nothing cancels, but D's error does for large t. NaN gives NaN; infinities and overflow are
 * as in C; the last binade of exp above 0 is subnormal. Measured against long double, in units in the last place of the
 * result, for both types: exp is within 1.2, ELU within 1.3, log1p, log and exp(-t^2 / 2) within 2, expm1 and SiLU
 * within 2.5, sigmoid and tanh within 3, GELU within 4.2 and Phi within 4.4, wherever they, and the sigmoid in SiLU,
 * are normal numbers (tests/c/math.c). */
#ifndef NUMFUSE_MATH_H
#define NUMFUSE_MATH_H

/* Lowest power first. */
static const float exp_terms_float[] = {0.5f, 0x1.5554b2p-3f, 0x1.55548cp-5f, 0x1.122628p-7f, 0x1.6d9634p-10f};
static const double exp_terms_double[] = {
    0x1.0000000000004p-1,  0x1.555555555555cp-3,  0x1.555555555259cp-5,  0x1.111111110e912p-7,  0x1.6c16c17e45b19p-10,
    0x1.a01a01b52861bp-13, 0x1.a019a8e78b091p-16, 0x1.71ddeb69b0785p-19, 0x1.28a09d8cb9d83p-22, 0x1.af74aa35ec441p-26};
static const float even_terms_float[] = {0x1.555514p-3f, -0x1.6a89c8p-9f};
static const double even_terms_double[] = {0x1.555555555552cp-3, -0x1.6c16c16bd90e2p-9, 0x1.1566aabd8f080p-14,
                                           -0x1.bbd3a3319482fp-20, 0x1.6345a36a26a90p-25};
static const float log_terms_float[] = {0x1.555504p-1f, 0x1.99d0e8p-2f, 0x1.1ecc2ep-2f, 0x1.1e97cap-2f};
static const double log_terms_double[] = {0x1.5555555555841p-1, 0x1.9999999907438p-2, 0x1.2492496f25ecap-2,
                                          0x1.c71c4d6c1bfa8p-3, 0x1.746207930510fp-3, 0x1.3aad36ee40ffbp-3,
                                          0x1.161d2cc9cb359p-3, 0x1.96d890519a512p-4, 0x1.6a21c5588033dp-3};

/* Of D, of C, and c. */
static const float tail_terms_float[] = {0x1.989302p+6f, 0x1.76dc50p+6f, 0x1.446ff2p+5f, 0x1.2b8a26p+3f, 1};
static const float tail_rest_float[] = {0x1.989302p+7f, 0x1.7990f0p+6f, 0x1.7a7b80p+4f, 0x1.3fc1ccp+1f};
static const float tail_slope_float[] = {0x1.40d960p+1f};
static const double tail_terms_double[] = {0x1.db1eb3da5fac4p+20,
                                           0x1.8e5ac2f59382ap+21,
                                           0x1.4ab5dd814f720p+21,
                                           0x1.5fa8c241046c0p+20,
                                           0x1.06d9030dca939p+19,
                                           0x1.1f609fce3bbf5p+17,
                                           0x1.d0ef1dcd69a32p+14,
                                           0x1.1330249a21403p+12,
                                           0x1.ca25a22e1d9d2p+8,
                                           0x1.e809057bd47eap+4,
                                           1};
static const double tail_rest_double[] = {
    0x1.db1eb3da5fac4p+21, 0x1.2229a6e1cb7bfp+22, 0x1.6b7c99dca9e70p+21, 0x1.27c4c567317b9p+20, 0x1.535d760590931p+18,
    0x1.1a7aec0c31de1p+16, 0x1.541e5586055bbp+13, 0x1.1dd905afb53b5p+10, 0x1.31d4aaf3607e2p+6,  0x1.40d931fc74d5bp+1};
static const double tail_slope_double[] = {0x1.40d931ff62768p+1};

/* ln 2 as the sum of a number with some zeros at the end, so that small multiples are exact, and the rest. */
static const float ln2_float[] = {0x1.62e4p-1f, 0x1.7f7d1cp-20f};
static const double ln2_double[] = {0x1.62e42fefap-1, 0x1.cf79abc9e3b3ap-40};

/* Arguments are limited to where results have come to their ends. A compiler that could see these numbers would make
 * branches of the comparisons, and of all that follows, instead of one minimum and one maximum: weak ones might be
 * others in the end. */
#define UNSEEN __attribute__((weak)) const

UNSEEN float exp_range_float[] = {-88};
UNSEEN double exp_range_double[] = {-709};
UNSEEN float expm1_range_float[] = {-40};
UNSEEN double expm1_range_double[] = {-40};
UNSEEN float tanh_range_float[] = {20};
UNSEEN double tanh_range_double[] = {20};
UNSEEN float sigmoid_range_float[] = {-88, 40};
UNSEEN double sigmoid_range_double[] = {-709, 80};
UNSEEN float silu_range_float[] = {88.6f};
UNSEEN double silu_range_double[] = {709.7};
UNSEEN float sigmoids_range_float[] = {-66, 105};
UNSEEN double sigmoids_range_double[] = {-531.7, 746};
UNSEEN float normal_range_float[] = {13.25f, 0};
UNSEEN double normal_range_double[] = {37.65625, 0};

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

/* Where nothing waits for a few terms, with fewer roundings. */
INLINE real TYPED(early_polynomial)(real x, const real *terms, int n)
{
    real sum = terms[n - 1];
    if (n > 5)
        return TYPED(polynomial)(x, terms, n);
    for (int i = n - 2; i >= 0; i--)
        sum = sum * x + terms[i];
    return sum;
}

/* The whole number n next to x / ln 2, and *power = 2^(n - lift), 0 or infinite where its exponent comes to the end. */
INLINE real TYPED(nearest_power)(real x, int lift, real *power)
{
    /* Added, it leaves no place for a fraction, and the lowest bits are those of the exponent. */
    real magic = (real)(((BITS)3 << (TYPED(FRACTION_BITS) - 1)) + (BITS)(TYPED(EXPONENT_BIAS) - lift));
    real shifted = x * (real)1.4426950408889634 + magic;
    *power = TYPED(from_bits)(TYPED(bits_of)(shifted) << TYPED(FRACTION_BITS));
    return shifted - magic;
}

/* r, which remains of x + tail, of which the tail is small. */
INLINE real TYPED(reduced)(real x, real tail, int lift, real *power)
{
    real n = TYPED(nearest_power)(x, lift, power);
    return (x - n * TYPED(ln2)[0]) - (n * TYPED(ln2)[1] - tail);
}

/* exp(r) - 1. */
INLINE real TYPED(reduced_expm1)(real r)
{
    return r + r * r * TYPED(polynomial)(r, TERMS(TYPED(exp_terms)));
}

/* E(r^2). */
INLINE real TYPED(reduced_even)(real r)
{
    real square = r * r;
    return 2 + square * TYPED(polynomial)(square, TERMS(TYPED(even_terms)));
}

/* For x <= 0, or NaN. */
INLINE real TYPED(exp)(real x)
{
    const real low = TYPED(exp_range)[0];
    real power, r = TYPED(reduced)(x < low ? low : x, 0, 0, &power);
    return power * (1 + TYPED(reduced_expm1)(r));
}

/* For x <= 40, or NaN. */
INLINE real TYPED(expm1)(real x)
{
    const real low = TYPED(expm1_range)[0];
    real power, r = TYPED(reduced)(x < low ? low : x, 0, 0, &power);
    return power * TYPED(reduced_expm1)(r) + (power - 1);
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

/* exp(x) = *over / *under 2^lift, for x limited to the range. */
INLINE void TYPED(exp_quotient)(real x, const real *range, int lift, real *over, real *under)
{
    real power, limited = x < range[0] ? range[0] : x;
    real r = TYPED(reduced)(limited > range[1] ? range[1] : limited, 0, lift, &power), even = TYPED(reduced_even)(r);
    *over = power * (even + r);
    *under = even - r;
}

INLINE real TYPED(sigmoid)(real x)
{
    real over, under;
    TYPED(exp_quotient)(x, TYPED(sigmoid_range), 0, &over, &under);
    return over / (under + over);
}

/* x / (1 + exp(-x)), with fewer roundings than x sigmoid(x). */
INLINE real TYPED(silu)(real x)
{
    const real high = TYPED(silu_range)[0];
    return x / (1 + TYPED(exp)(-x > high ? high : -x));
}

/* sigmoid(x), and *rest = sigmoid(-x). Either comes to 0 where the other is 1, as it may be a factor of any number:
 * lifted, both quotients have the exponents for that. */
INLINE real TYPED(sigmoids)(real x, real *rest)
{
    enum { LIFT = REAL_MAX_EXP / 4 };
    real over, under, share;
    TYPED(exp_quotient)(x, TYPED(sigmoids_range), LIFT, &over, &under);
    under *= TYPED(from_bits)((BITS)(TYPED(EXPONENT_BIAS) - LIFT) << TYPED(FRACTION_BITS));
    share = 1 / (under + over);
    *rest = under * share;
    return over * share;
}

/* With exp(2 |x|) = q (E + r) / (E - r) and m = (q - 1) / 2 (E + r), it is (m + r) / (m + E), and has the sign of x.
 * The nearest number to ln 2 will do, as few multiples matter. */
INLINE real TYPED(tanh)(real x)
{
    const real end = TYPED(tanh_range)[0];
    real half_power, size = ABS(x), twice = 2 * (size > end ? end : size);
    real r = twice - TYPED(nearest_power)(twice, 1, &half_power) * (real)0.6931471805599453;
    real even = TYPED(reduced_even)(r), more = (half_power - (real)0.5) * (even + r);
    return COPYSIGN((more + r) / (more + even), x);
}

/* exp(-t^2 / 2) = *power (1 + *rest) for t = |x|, of which the leading half is squared exactly; D(t); and
 * C(t) + c t D(t). */
INLINE void TYPED(normal_parts)(real x, real *t, real *power, real *rest, real *over, real *under)
{
    enum { HALF = TYPED(FRACTION_BITS) / 2 + 1 };
    const real end = TYPED(normal_range)[0];
    real size = ABS(x), z = *t = size > end ? end : size;
    real first = TYPED(from_bits)(TYPED(bits_of)(z) >> HALF << HALF);
    real square = (real)-0.5 * (first * first), tail = (real)-0.5 * ((z + first) * (z - first));
    *rest = TYPED(reduced_expm1)(TYPED(reduced)(square, tail, 0, power));
    *over = TYPED(early_polynomial)(z, TERMS(TYPED(tail_terms)));
    *under = TYPED(tail_slope)[0] * (z * *over) + TYPED(early_polynomial)(z, TERMS(TYPED(tail_rest)));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|). */
INLINE real TYPED(gelu)(real x)
{
    const real zero = TYPED(normal_range)[1];
    real t, power, rest, over, under, share;
    TYPED(normal_parts)(x, &t, &power, &rest, &over, &under);
    share = over * t * power / under;
    return (x - (x < zero ? x : zero)) - (share + share * rest);
}

/* Phi(x), the share of the normal distribution that lies below x, and *bell = exp(-x^2 / 2). */
INLINE real TYPED(normal_cdf)(real x, real *bell)
{
    real t, power, rest, over, under, tail;
    TYPED(normal_parts)(x, &t, &power, &rest, &over, &under);
    *bell = power + power * rest;
    tail = over * power / under;
    tail += tail * rest;
    return x > 0 ? 1 - tail : tail;
}
