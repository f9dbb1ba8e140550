"""What csrc/ declares."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport numpy as cnp

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "kernels.h" nogil:
    ctypedef struct tensors:
        ptrdiff_t count
        const ptrdiff_t *offsets
        const int64_t *steps
    ctypedef struct step_args:
        tensors tensors
        void **params
        void **grads
        void **ema_params
        double lr, weight_decay, l1, max_grad_value, ema_decay, grad_scale
        bint decoupled, proximal, maximize
    ctypedef struct sgd_args:
        step_args step
        void **momentum_buffers
        double momentum, dampening
        bint running_average, nesterov
    ctypedef struct rmsprop_args:
        step_args step
        void **square_avgs
        void **grad_avgs
        void **momentum_buffers
        double alpha, eps, momentum
        bint nesterov
    ctypedef struct adam_args:
        step_args step
        void **exp_avgs
        void **exp_avg_sqs
        void **max_exp_avg_sqs
        double beta1, beta2, eps
    ctypedef struct adagrad_args:
        step_args step
        void **sums
        double lr_decay, eps
    ctypedef struct max_norm_args:
        tensors rows
        const ptrdiff_t *lengths
        const c_bool *limited
        void **params
        void **ema_params
        double max_norm, ema_decay
    int GRAD_NORM_BLOCK
    ctypedef struct grad_norm_args:
        tensors blocks
        const ptrdiff_t *sizes
        void **grads
        double *squares
        double *norm
    ctypedef struct view:
        void *data
        ptrdiff_t outer_stride, channel_stride, inner_stride
    int BATCH_NORM_BLOCK_ROWS
    ctypedef struct batch_norm_args:
        ptrdiff_t outer, channels, inner
        view x, y, grad_y, grad_x
        const void *weight
        const void *bias
        void *running_mean
        void *running_var
        void *grad_weight
        void *grad_bias
        double *mean
        double *rstd
        double momentum, eps
        bint training, relu
        double p
        uint32_t *mask
        double *partial
        void *coefficients
    ctypedef struct dropout_args:
        ptrdiff_t size
        const void *x
        void *y
        uint32_t *mask
        double p
        uint64_t seed
        uint32_t offset
        c_bool inverted
    ctypedef struct channel_dropout_args:
        dropout_args elements
        ptrdiff_t channels, inner
        c_bool channels_last
    int BIAS_BLOCK_ROWS, BIAS_MIN_PERIOD
    ctypedef struct bias_relu_dropout_args:
        ptrdiff_t size, channels
        const void *x
        void *y
        const void *bias
        uint32_t *mask
        c_bool relu
        double p
        uint64_t seed
        uint32_t offset
        void *grad_bias
        ptrdiff_t period
        double *partial
    int LOSS_BLOCK, LOSS_BLOCK_ROWS
    ctypedef struct loss_args:
        ptrdiff_t rows, classes, block_rows
        const void *prediction
        const void *target
        void *grad
        double *partial
        double divisor
        const void *weight
        ptrdiff_t weights
        double weight_sum
        const void *sample_weight
        ptrdiff_t sample_size
        double label_smoothing, delta
    int SIGMOID, TANH, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH
    ctypedef struct activation_args:
        ptrdiff_t size, period
        const void *x
        const void *bias
        void *y
        const void *grad_y
        void *grad_x
        double *partial
        double alpha
        int function
    ctypedef struct softmax_args:
        ptrdiff_t rows, channels
        const void *x
        const void *grad_y
        void *y
        void *grad_x
    enum: STREAM_ARRAYS
    ctypedef struct stream_args:
        ptrdiff_t size, reads, updates, writes
        uint32_t **arrays
        uint32_t zero
        c_bool nontemporal
    ctypedef void kernel(const void *args, ptrdiff_t begin, ptrdiff_t end) noexcept nogil
    ctypedef struct kernels:
        const char *isa
        kernel *sgd_step[2]
        kernel *rmsprop_step[2]
        kernel *adam_step[2]
        kernel *adagrad_step[2]
        kernel *max_norm[2]
        kernel *grad_norm_squares[2]
        kernel *grad_norm_merge[2]
        kernel *dropout_forward[2]
        kernel *dropout_backward[2]
        kernel *channel_dropout[2]
        kernel *bias_relu_dropout_forward[2]
        kernel *bias_relu_dropout_backward[2]
        kernel *bias_relu_dropout_merge_sums[2]
        kernel *dropout_mask
        kernel *stream
        kernel *batch_norm_forward[2]
        kernel *batch_norm_inference[2]
        kernel *batch_norm_backward[2]
        kernel *batch_norm_row_moments[2]
        kernel *batch_norm_merge_moments[2]
        kernel *batch_norm_normalize_rows[2]
        kernel *batch_norm_prepare_inference[2]
        kernel *batch_norm_row_sums[2]
        kernel *batch_norm_merge_sums[2]
        kernel *batch_norm_grad_rows[2]
        kernel *cross_entropy[2]
        kernel *mse[2]
        kernel *huber[2]
        kernel *bce_with_logits[2]
        kernel *count_outside[2]
        kernel *sum_weights[2]
        kernel *loss_value
        kernel *activation_forward[2]
        kernel *activation_backward[2]
        kernel *activation_row_sums[2]
        kernel *softmax_forward[2]
        kernel *softmax_backward[2]
    enum: MAX_ISAS
    int list_kernels(const kernels **kernel_tables, c_bool *runs) noexcept

cdef extern from "pool.h" nogil:
    int POOL_MAX_THREADS, POOL_THRESHOLD
    void pool_init() noexcept
    void pool_set_threads(int threads) noexcept
    int pool_get_threads() noexcept
    void pool_run(kernel *task, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t work) noexcept

cdef extern from "buffers.h" nogil:
    void buffers_init() noexcept
    void *buffer_take(size_t bytes) noexcept
    void buffer_give(void *data) noexcept
    void buffers_set_limit(size_t bytes) noexcept
    size_t buffers_get_limit() noexcept
    size_t buffers_kept() noexcept
    void buffers_empty() noexcept

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)
