from .batch_norm import batch_norm_backward, batch_norm_forward
from .bias_relu_dropout import bias_relu_dropout_backward, bias_relu_dropout_forward
from .dropout import check_p


def batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                    axis, momentum, eps, relu, p, seed, offset, out=None):
    """`batch_norm_forward`, then ReLU if `relu`, then `dropout_forward` if p > 0, with their arguments.

    x : C-contiguous
    out : array for y: x itself, or one of x's shape and dtype, C-contiguous; None makes a new one

    Returns (y, mean, rstd, mask), the mask as `bias_relu_dropout_forward` does: 1 where the gradient passes
    dropout and ReLU, None with neither.
    """
    check_p(p)
    y, mean, rstd = batch_norm_forward(
        x, weight, bias, running_mean, running_var, axis=axis, momentum=momentum, eps=eps, out=out)
    y, mask = bias_relu_dropout_forward(y, None, relu=relu, p=p, seed=seed, offset=offset, out=y)
    return y, mean, rstd, mask


def batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *, axis, p, out=None):
    """The gradient through `batch_norm_relu_dropout_forward`: through the mask, then as `batch_norm_backward`.

    grad_y, x : C-contiguous arrays of one shape and dtype
    mask : what the forward returned
    out : array for grad_x: grad_y itself, or one of x's shape and dtype, C-contiguous; None makes a new one
    """
    check_p(p)
    passed = bias_relu_dropout_backward(grad_y, mask, p=p, grad_bias=None)
    return batch_norm_backward(
        passed, x, weight, mean, rstd, grad_weight, grad_bias, axis=axis, training=True, out=out)
