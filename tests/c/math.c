/* Prints how far each function of kernels/math.h is from long double's: "function type error", the error in
 * units in the last place of the result. Ends with 1 and names it if a rare number gives something else. */
#include <stdio.h>

#define ISA math
#include "template.h"

enum { SAMPLES = 1 << 20 };

static int wrong;

static void expect(const char *what, bool holds)
{
    if (!holds) {
        printf("wrong: %s\n", what);
        wrong = 1;
    }
}

static long double sigmoid_exactly(long double x)
{
    return 1 / (1 + expl(-x));
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

static long double phi_exactly(long double x)
{
    return erfcl(-x * sqrtl(0.5L)) / 2;
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

static long double bell_exactly(long double x)
{
    return expl(-x * x / 2);
}

typedef struct {
    const char *name;
    float (*of_float)(float);
    double (*of_double)(double);
    long double (*exactly)(long double);
    double low[TYPES], high[TYPES];
} function;

static float call_float(float (*f)(float), double x)
{
    return f((float)x);
}

/* The error at x, which is rounded to the type first; 0 where the result is not a normal number. */
static double error(const function *f, int type, double x)
{
    double rounded = type == FLOAT ? (double)(float)x : x;
    double y = type == FLOAT ? (double)call_float(f->of_float, rounded) : f->of_double(rounded);
    long double exact = f->exactly(rounded);
    int exponent, digits = type == FLOAT ? FLT_MANT_DIG : DBL_MANT_DIG;
    if (fabsl(exact) < (type == FLOAT ? FLT_MIN : DBL_MIN) || fabsl(exact) > (type == FLOAT ? FLT_MAX : DBL_MAX))
        return 0;
    frexpl(exact, &exponent);
    return (double)(fabsl(y - exact) / ldexpl(1, exponent - digits));
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
            worst = fmax(worst, error(f, type, points[k]));
    }
    printf("%s %s %.3f\n", f->name, type == FLOAT ? "float" : "double", worst);
}

#define CHECK(condition) expect(#condition, condition)

#define CHECK_RARE(kind, tiny, largest, overflow, underflow)                                            \
    CHECK(isnan(exp_##kind(NAN)) && isnan(log1p_##kind(NAN)) && isnan(log_##kind(NAN)));                \
    CHECK(isnan(sigmoid_##kind(NAN)) && isnan(tanh_##kind(NAN)));                                       \
    CHECK(exp_##kind(INFINITY) == INFINITY && exp_##kind(-INFINITY) == 0 && exp_##kind(0) == 1);        \
    CHECK(exp_##kind(overflow) == INFINITY && exp_##kind(underflow) == 0 && exp_##kind(-largest) == 0); \
    CHECK(log_##kind(INFINITY) == INFINITY && log_##kind(1) == 0 && log1p_##kind(0) == 0);              \
    CHECK(sigmoid_##kind(INFINITY) == 1 && sigmoid_##kind(-INFINITY) == 0 && sigmoid_##kind(0) == 0.5); \
    CHECK(sigmoid_##kind(largest) == 1 && sigmoid_##kind(-largest) == 0);                               \
    CHECK(tanh_##kind(INFINITY) == 1 && tanh_##kind(-INFINITY) == -1 && tanh_##kind(-largest) == -1);   \
    CHECK(tanh_##kind(0) == 0 && !signbit(tanh_##kind(0)) && signbit(tanh_##kind(-0.0)));               \
    CHECK(tanh_##kind(tiny) == tiny && tanh_##kind(-tiny) == -tiny);                                    \
    CHECK(isnan(expm1_##kind(NAN)) && expm1_##kind(-INFINITY) == -1 && expm1_##kind(-largest) == -1);   \
    CHECK(expm1_##kind(0) == 0 && expm1_##kind(tiny) == tiny && expm1_##kind(-tiny) == -tiny);          \
    CHECK(isnan(phi_##kind(NAN)) && isnan(bell_##kind(NAN)));                                           \
    CHECK(phi_##kind(0) == 0.5 && phi_##kind(INFINITY) == 1 && phi_##kind(-INFINITY) == 0);             \
    CHECK(phi_##kind(largest) == 1 && phi_##kind(-largest) == 0);                                       \
    CHECK(bell_##kind(0) == 1 && bell_##kind(INFINITY) == 0 && bell_##kind(-largest) == 0)

int main(void)
{
    const function functions[] = {
        {"exp", exp_float, exp_double, expl, {-87.4, -708.4}, {88.8, 709.8}},
        {"log1p", log1p_float, log1p_double, log1pl, {0, 0}, {1, 1}},
        {"log", log_float, log_double, logl, {1, 1}, {FLT_MAX, DBL_MAX}},
        {"sigmoid", sigmoid_float, sigmoid_double, sigmoid_exactly, {-87.4, -708.4}, {88, 708}},
        {"tanh", tanh_float, tanh_double, tanhl, {-30, -30}, {30, 30}},
        {"expm1", expm1_float, expm1_double, expm1l, {-50, -50}, {40, 40}},
        {"phi", phi_float, phi_double, phi_exactly, {-14, -40}, {14, 40}},
        {"bell", bell_float, bell_double, bell_exactly, {-14, -40}, {14, 40}},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        measure(functions + i, FLOAT);
        if (LDBL_MANT_DIG > DBL_MANT_DIG)
            measure(functions + i, DOUBLE);
    }
    CHECK_RARE(float, FLT_MIN, FLT_MAX, 88.73f, -87.34f);
    CHECK_RARE(double, DBL_MIN, DBL_MAX, 709.79, -708.4);
    return wrong;
}
