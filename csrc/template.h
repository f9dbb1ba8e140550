/* Compiles every kernel for float, then for double, for the instruction set that the including file
 * names by ISA, and fills the table `kernels_<ISA>`. All functions are static: those of different
 * instruction sets must not be mistaken for one another by the linker. */
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

#define real double
#define REAL_TINY DBL_MIN
#define REAL_MANT_DIG DBL_MANT_DIG
#define REAL_MAX_EXP DBL_MAX_EXP
#define ABS fabs
#define COPYSIGN copysign
#define SQRT sqrt
#define BITS uint64_t
#include "kernels/all.h"

#define BOTH(name) .name = {name##_float, name##_double}

const kernels PASTE(kernels, ISA) = {
    .isa = TEXT(ISA),
    BOTH(sgd_step),
    BOTH(rmsprop_step),
    BOTH(adam_step),
    BOTH(adagrad_step),
    BOTH(max_norm),
    BOTH(grad_norm_squares),
    BOTH(grad_norm_merge),
    BOTH(dropout_forward),
    BOTH(dropout_backward),
    BOTH(channel_dropout),
    BOTH(bias_relu_dropout_forward),
    BOTH(bias_relu_dropout_backward),
    BOTH(bias_relu_dropout_merge_sums),
    .dropout_mask = dropout_mask,
    .stream = stream,
    BOTH(cross_entropy),
    BOTH(mse),
    BOTH(huber),
    BOTH(bce_with_logits),
    BOTH(count_outside),
    BOTH(sum_weights),
    .loss_value = loss_value,
    BOTH(activation_forward),
    BOTH(activation_backward),
    BOTH(activation_row_sums),
    BOTH(softmax_forward),
    BOTH(softmax_backward),
    BOTH(batch_norm_forward),
    BOTH(batch_norm_inference),
    BOTH(batch_norm_backward),
    BOTH(batch_norm_row_moments),
    BOTH(batch_norm_merge_moments),
    BOTH(batch_norm_normalize_rows),
    BOTH(batch_norm_prepare_inference),
    BOTH(batch_norm_row_sums),
    BOTH(batch_norm_merge_sums),
    BOTH(batch_norm_grad_rows),
};
