/* Compiles every kernel for float, then for double, for the instruction set that the including file
 * names by ISA, and fills the table `kernels_<ISA>`. All functions are static, so that the linker cannot
 * take one for that of another instruction set. A file of kernels/ is included once for each type: what does
 * not depend on the type stands inside its include guard. With ONLY_WIDE the table has only what gains by vectors of
 * 512 bits, and dispatch.c fills it up. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#ifdef __FAST_MATH__
#error "numfuse promises the same bits everywhere, which -ffast-math breaks: build without it"
#endif

#if FLT_EVAL_METHOD != 0
#error "numfuse needs float and double arithmetic in their own precision: on 32-bit x86 add -msse2 -mfpmath=sse"
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define TYPED(name) PASTE(name, real)
#define TYPE(name) TYPED(name) /* the same for types, which clang-format must know */
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#include "kernels/philox.h"
#include "kernels/nontemporal.h"
#include "kernels/stream.h"
#include "kernels/lanes.h"
#include "kernels/loss.h"

#define real float
#define REAL_TINY FLT_MIN
#define REAL_MANT_DIG FLT_MANT_DIG
#define REAL_MAX_EXP FLT_MAX_EXP
#define ABS fabsf
#define COPYSIGN copysignf
#define SQRT sqrtf
#define BITS uint32_t
#include "kernels/all.h"
#undef real
#undef REAL_TINY
#undef REAL_MANT_DIG
#undef REAL_MAX_EXP
#undef ABS
#undef COPYSIGN
#undef SQRT
#undef BITS

#ifndef ONLY_WIDE /* measured with float alone */
#define real double
#define REAL_TINY DBL_MIN
#define REAL_MANT_DIG DBL_MANT_DIG
#define REAL_MAX_EXP DBL_MAX_EXP
#define ABS fabs
#define COPYSIGN copysign
#define SQRT sqrt
#define BITS uint64_t
#include "kernels/all.h"
#endif

/* A kernel takes its own argument struct; a task of the table takes any, and passes it on. */
#define TASK(task_name, kernel_name, arguments)                             \
    static void task_name(const void *args, ptrdiff_t begin, ptrdiff_t end) \
    {                                                                       \
        kernel_name((const arguments *)args, begin, end);                   \
    }

#ifdef ONLY_WIDE
#define TYPED_KERNEL(name, operation, arguments, cost) TASK(name##_float_task, name##_float, arguments)
#else
#define TYPED_KERNEL(name, operation, arguments, cost) \
    TASK(name##_float_task, name##_float, arguments) TASK(name##_double_task, name##_double, arguments)
#endif
#define KERNEL(name, operation, arguments, cost) TASK(name##_task, name, arguments)
#define COMPOSITE(name, operation, cost)
#include "kernel_list.h"

const kernel_table PASTE(kernels, ISA) = {
    .isa = TEXT(ISA),
#ifdef ONLY_WIDE
#define TYPED_KERNEL(name, operation, arguments, cost) .name = {{name##_float_task, NULL}, cost},
#else
#define TYPED_KERNEL(name, operation, arguments, cost) .name = {{name##_float_task, name##_double_task}, cost},
#endif
#define KERNEL(name, operation, arguments, cost) .name = {{name##_task, name##_task}, cost},
#define COMPOSITE(name, operation, cost)
#include "kernel_list.h"
};
