/* Prints how far each function of kernels/math.h is from long double's: "function type error", the error in
 * units in the last place of the result. Ends with 1 and names it if a rare number gives something else. `math all` and
 * `math all tanh` take all floats, and minutes for each function: cc -O3 and the flags of tests/helpers/c.py. */
#include <stdio.h>

#define ISA math
#include "template.h"

size_t nontemporal_bytes;
#include <tgmath.h>

enum { SAMPLES = 1 << 20 };

static int wrong;

static void expect(const char *what, bool holds)
{
    if (!holds) {
        printf("wrong: %s\n", what);
        wrong = 1;
    }
}

static float elu_float(float x)
{
    return activation_float(x, 1, ELU);
}

static double elu_double(double x)
{
    return activation_double(x, 1, ELU);
}

static float phi_float(float x)
{
    float bell;
    return normal_cdf_float(x, &bell);
}

static double phi_double(double x)
{
    double bell;
    return normal_cdf_double(x, &bell);
}

static float bell_float(float x)
{
    float bell;
    normal_cdf_float(x, &bell);
    return bell;
}

static double bell_double(double x)
{
    double bell;
    normal_cdf_double(x, &bell);
    return bell;
}

static float rest_float(float x)
{
    float rest;
    sigmoids_float(x, &rest);
    return rest;
}

static double rest_double(double x)
{
    double rest;
    sigmoids_double(x, &rest);
    return rest;
}

/* In long double, and in double: exact enough for float, and several times as fast. */
#define EXACTLY(name, expression)                    \
    static long double name##_exactly(long double x) \
    {                                                \
        return expression;                           \
    }                                                \
    static double name##_nearly(double x)            \
    {                                                \
        return expression;                           \
    }

EXACTLY(exp, exp(x))
EXACTLY(expm1, expm1(x))
EXACTLY(log1p, log1p(x))
EXACTLY(log, log(x))
EXACTLY(tanh, tanh(x))
EXACTLY(sigmoid, 1 / (1 + exp(-x)))
EXACTLY(rest, 1 / (1 + exp(x)))
EXACTLY(phi, erfc(-x *sqrt(0.5L)) / 2)
EXACTLY(bell, exp(-x *x / 2))
EXACTLY(elu, x > 0 ? x : expm1(x))
EXACTLY(silu, x / (1 + exp(-x)))
EXACTLY(gelu, x *(erfc(-x *sqrt(0.5L)) / 2))

typedef struct {
    const char *name;
    float (*of_float)(float);
    double (*of_double)(double);
    long double (*exactly)(long double);
    double (*nearly)(double);
    double low[TYPES], high[TYPES];
} function;

#define OF(name) #name, name##_float, name##_double, name##_exactly, name##_nearly

static const function functions[] = {
    {OF(exp), {-87.3, -708.3}, {0, 0}},        {OF(log1p), {0, 0}, {1, 1}},
    {OF(log), {1, 1}, {FLT_MAX, DBL_MAX}},     {OF(expm1), {-50, -50}, {40, 40}},
    {OF(sigmoid), {-87.3, -708.3}, {88, 708}}, {OF(rest), {-88, -708}, {87.3, 708.3}},
    {OF(tanh), {-30, -30}, {30, 30}},          {OF(phi), {-14, -40}, {14, 40}},
    {OF(bell), {-14, -40}, {14, 40}},          {OF(elu), {-50, -50}, {40, 40}},
    {OF(silu), {-87.3, -708.3}, {88, 708}},    {OF(gelu), {-14, -40}, {14, 40}},
};

static float call_float(float (*f)(float), double x)
{
    return f((float)x);
}

/* How far y is from the exact result; 0 where that is not a normal number. */
static double error(int type, double y, long double exact)
{
    int exponent, digits = type == FLOAT ? FLT_MANT_DIG : DBL_MANT_DIG;
    if (fabsl(exact) < (type == FLOAT ? FLT_MIN : DBL_MIN) || fabsl(exact) > (type == FLOAT ? FLT_MAX : DBL_MAX))
        return 0;
    frexpl(exact, &exponent);
    return (double)(fabsl(y - exact) / ldexpl(1, exponent - digits));
}

/* The same at x, which is rounded to the type first. */
static double error_at(const function *f, int type, double x)
{
    double rounded = type == FLOAT ? (double)(float)x : x;
    double y = type == FLOAT ? (double)call_float(f->of_float, rounded) : f->of_double(rounded);
    return error(type, y, f->exactly(rounded));
}

/* Samples over the function's range evenly, and evenly over the exponents. */
static void measure(const function *f, int type)
{
    double low = f->low[type], high = f->high[type], worst = 0;
    for (int i = 0; i <= SAMPLES; i++) {
        double share = (double)i / SAMPLES, largest = fmax(-low, high);
        double small = largest * pow(2, -share * (type == FLOAT ? 30 : 60));
        double points[3] = {low + share * (high - low), fmin(fmax(small, low), high), fmin(fmax(-small, low), high)};
        for (int k = 0; k < 3; k++)
            worst = fmax(worst, error_at(f, type, points[k]));
    }
    printf("%s %s %.3f\n", f->name, type == FLOAT ? "float" : "double", worst);
}

/* All floats of the range. */
static void measure_all(const function *f)
{
    double worst = 0;
    float at = 0;
    for (uint64_t i = 0; i <= UINT32_MAX; i++) {
        float x = from_bits_float((uint32_t)i);
        if (!(x >= (float)f->low[FLOAT] && x <= (float)f->high[FLOAT]))
            continue;
        double y = (double)f->of_float(x), exact = f->nearly((double)x);
        /* A unit is at least this share of the result: most are done without its exponent. */
        if (fabs(y - exact) <= worst * (double)FLT_EPSILON / 2 * fabs(exact))
            continue;
        double off = error(FLOAT, y, exact);
        if (!(off <= worst)) {
            worst = off;
            at = x;
        }
    }
    printf("%s float %.3f at %a\n", f->name, worst, (double)at);
    fflush(stdout);
}

#define CHECK(condition) expect(#condition, condition)

#define CHECK_RARE(kind, tiny, largest, underflow)                                                        \
    CHECK(isnan(exp_##kind(NAN)) && isnan(log1p_##kind(NAN)) && isnan(log_##kind(NAN)));                  \
    CHECK(isnan(sigmoid_##kind(NAN)) && isnan(tanh_##kind(NAN)));                                         \
    CHECK(exp_##kind(-INFINITY) == 0 && exp_##kind(0) == 1);                                              \
    CHECK(exp_##kind(underflow) == 0 && exp_##kind(-largest) == 0);                                       \
    CHECK(log_##kind(INFINITY) == INFINITY && log_##kind(1) == 0 && log1p_##kind(0) == 0);                \
    CHECK(sigmoid_##kind(INFINITY) == 1 && sigmoid_##kind(-INFINITY) == 0 && sigmoid_##kind(0) == 0.5);   \
    CHECK(sigmoid_##kind(largest) == 1 && sigmoid_##kind(-largest) == 0);                                 \
    CHECK(tanh_##kind(INFINITY) == 1 && tanh_##kind(-INFINITY) == -1 && tanh_##kind(-largest) == -1);     \
    CHECK(tanh_##kind(0) == 0 && !signbit(tanh_##kind(0)) && signbit(tanh_##kind(-0.0)));                 \
    CHECK(tanh_##kind(tiny) == tiny && tanh_##kind(-tiny) == -tiny);                                      \
    CHECK(isnan(expm1_##kind(NAN)) && expm1_##kind(-INFINITY) == -1 && expm1_##kind(-largest) == -1);     \
    CHECK(expm1_##kind(0) == 0 && expm1_##kind(tiny) == tiny && expm1_##kind(-tiny) == -tiny);            \
    CHECK(isnan(phi_##kind(NAN)) && isnan(bell_##kind(NAN)));                                             \
    CHECK(phi_##kind(0) == 0.5 && phi_##kind(INFINITY) == 1 && phi_##kind(-INFINITY) == 0);               \
    CHECK(phi_##kind(largest) == 1 && phi_##kind(-largest) == 0);                                         \
    CHECK(bell_##kind(0) == 1 && bell_##kind(INFINITY) == 0 && bell_##kind(-largest) == 0);               \
    CHECK(isnan(rest_##kind(NAN)) && rest_##kind(INFINITY) == 0 && rest_##kind(largest) == 0);            \
    CHECK(rest_##kind(-INFINITY) == 1 && rest_##kind(-largest) == 1 && rest_##kind(0) == 0.5);            \
    CHECK(isnan(gelu_##kind(NAN)) && gelu_##kind(INFINITY) == INFINITY && isnan(gelu_##kind(-INFINITY))); \
    CHECK(gelu_##kind(largest) == largest && gelu_##kind(-largest) == 0 && signbit(gelu_##kind(-0.0)));   \
    CHECK(isnan(silu_##kind(NAN)) && silu_##kind(INFINITY) == INFINITY && isnan(silu_##kind(-INFINITY))); \
    CHECK(silu_##kind(largest) == largest && silu_##kind(-largest) == 0 && signbit(silu_##kind(-0.0)));   \
    CHECK(isnan(elu_##kind(NAN)) && elu_##kind(INFINITY) == INFINITY && elu_##kind(-INFINITY) == -1);     \
    CHECK(elu_##kind(largest) == largest && elu_##kind(-largest) == -1)

int main(int count, char **arguments)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (count > 1 && !strcmp(arguments[1], "all")) {
            if (count == 2 || !strcmp(arguments[2], functions[i].name))
                measure_all(functions + i);
            continue;
        }
        measure(functions + i, FLOAT);
        if (LDBL_MANT_DIG > DBL_MANT_DIG)
            measure(functions + i, DOUBLE);
    }
    CHECK_RARE(float, FLT_MIN, FLT_MAX, -87.7f);
    CHECK_RARE(double, DBL_MIN, DBL_MAX, -708.8);
    return wrong;
}
