/* The one list of kernels. Each entry has a kernel's name, which begins with that of its operation; the operation,
 * which is the name of its files; its argument struct; and its cost: the picoseconds for an element of float32 on one
 * thread, in cache, with the cheapest options. The thread pool decides by it whether threads pay; a factor of 1.5
 * matters little. Costs were measured with AVX2, as `numfuse bench KERNEL --isa avx2 --sizes 16384` does, and divided
 * among the parts of a function.
 *
 * A TYPED_KERNEL is compiled for float and for double, a KERNEL once. A COMPOSITE is a function that has no kernel of
 * its own, and so no struct, but runs those of other operations; its cost is the cheapest of those that go over all
 * elements. To use the list, define the three macros and include this file, which undefines them. setup.py reads it,
 * too: an entry is one line with nothing behind it, and bindings are included in this order. */

TYPED_KERNEL(sgd_step, sgd, sgd_args, 300)
TYPED_KERNEL(rmsprop_step, rmsprop, rmsprop_args, 550)
TYPED_KERNEL(adam_step, adam, adam_args, 600)
TYPED_KERNEL(adagrad_step, adagrad, adagrad_args, 550)
TYPED_KERNEL(lion_step, lion, lion_args, 350)
TYPED_KERNEL(max_norm, max_norm, max_norm_args, 250)

TYPED_KERNEL(grad_norm_squares, grad_norm, grad_norm_args, 100)
TYPED_KERNEL(grad_norm_merge, grad_norm, grad_norm_args, 100)

/* Not for vectors of 512 bits: on a Zen 5 ReLU forward took 1.15 times as long with them, dropout of 16 Mi
 * elements 1.08 times; the mask has vectors of 256 bits anyway, and the others, not measured, are of their kind. */
#ifndef ONLY_WIDE
KERNEL(dropout_mask, dropout, dropout_args, 50)
TYPED_KERNEL(dropout_forward, dropout, dropout_args, 180)
TYPED_KERNEL(dropout_backward, dropout, dropout_args, 130)
TYPED_KERNEL(channel_dropout, channel_dropout, channel_dropout_args, 250)

TYPED_KERNEL(bias_forward, bias, bias_args, 100)
TYPED_KERNEL(bias_backward, bias, bias_args, 100)
TYPED_KERNEL(bias_merge_sums, bias, bias_args, 100)
TYPED_KERNEL(bias_relu_dropout_forward, bias_relu_dropout, bias_relu_dropout_args, 180)
TYPED_KERNEL(bias_relu_dropout_backward, bias_relu_dropout, bias_relu_dropout_args, 180)
#endif

/* Arrays whose channels lie apart: by channels. */
TYPED_KERNEL(batch_norm_forward, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_inference, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_backward, batch_norm, batch_norm_args, 180)
/* Arrays whose channels lie side by side: by blocks of rows, by channels, by rows. */
TYPED_KERNEL(batch_norm_row_moments, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_merge_moments, batch_norm, batch_norm_args, 100)
TYPED_KERNEL(batch_norm_prepare_inference, batch_norm, batch_norm_args, 100)
TYPED_KERNEL(batch_norm_normalize_rows, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_inference_rows, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_row_sums, batch_norm, batch_norm_args, 180)
TYPED_KERNEL(batch_norm_merge_sums, batch_norm, batch_norm_args, 100)
TYPED_KERNEL(batch_norm_grad_rows, batch_norm, batch_norm_args, 180)
COMPOSITE(batch_norm_relu_dropout_forward, batch_norm_relu_dropout, 50)
COMPOSITE(batch_norm_relu_dropout_backward, batch_norm_relu_dropout, 180)

TYPED_KERNEL(loss_sum_weights, loss, loss_args, 100)
KERNEL(loss_value, loss, loss_args, 1)
TYPED_KERNEL(cross_entropy, cross_entropy, loss_args, 1200)
TYPED_KERNEL(mse, mse, loss_args, 230)
TYPED_KERNEL(huber, huber, loss_args, 300)
TYPED_KERNEL(bce_with_logits_count_outside, bce_with_logits, loss_args, 100)
TYPED_KERNEL(bce_with_logits, bce_with_logits, loss_args, 1800)

TYPED_KERNEL(activation_forward, activation, activation_args, 180)
TYPED_KERNEL(activation_backward, activation, activation_args, 240)
TYPED_KERNEL(activation_row_sums, activation, activation_args, 240)
TYPED_KERNEL(softmax_forward, softmax, softmax_args, 1000)
TYPED_KERNEL(softmax_backward, softmax, softmax_args, 240)

KERNEL(stream, stream, stream_args, 100)

#undef TYPED_KERNEL
#undef KERNEL
#undef COMPOSITE
