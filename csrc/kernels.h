/* The kernels of one instruction set, and the arguments they take.
 *
 * A kernel does part [begin, end) of a job: of the elements, the channels or the blocks of rows, as
 * said at its name. It cannot fail, allocates nothing and prints nothing; the parts of one job may
 * run at the same time and in any order, and how a job is divided does not change a bit of the result.
 * What each operation computes is written at its twin in src/numfuse/reference/. */
#ifndef NUMFUSE_KERNELS_H
#define NUMFUSE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { FLOAT, DOUBLE, TYPES };

/* `count` tensors of an optimizer step, none of them empty. Array i of each list has the elements
 * offsets[i] to offsets[i + 1] of the job. Lists that an option leaves unused are NULL. */
typedef struct {
    ptrdiff_t count;
    const ptrdiff_t *offsets; /* (count + 1) */
    const int64_t *steps;     /* (count): of this step, so at least 1 */
} tensor_list;

/* The arguments that all optimizer steps share. With regularisation a step works in blocks of this many elements. */
enum { REGULARIZE_BLOCK = 256 };

typedef struct {
    tensor_list tensors;
    void **params, **grads, **ema_params;
    double lr, weight_decay, l1, max_grad_value, ema_decay, grad_scale;
    bool decoupled, proximal, maximize;
} step_args;

typedef struct {
    step_args step;
    void **momentum_buffers;
    double momentum, dampening;
    bool running_average, nesterov;
} sgd_args;

typedef struct {
    step_args step;
    void **square_avgs, **grad_avgs, **momentum_buffers;
    double alpha, eps, momentum;
    bool nesterov;
} rmsprop_args;

typedef struct {
    step_args step;
    void **exp_avgs, **exp_avg_sqs, **max_exp_avg_sqs;
    double beta1, beta2, eps;
} adam_args;

typedef struct {
    step_args step;
    void **sums;
    double lr_decay, eps;
} adagrad_args;

typedef struct {
    step_args step;
    void **exp_avgs;
    double beta1, beta2;
} lion_args;

typedef struct {
    tensor_list rows;         /* offsets count rows; no steps */
    const ptrdiff_t *lengths; /* (count): elements in a row */
    const bool *limited;      /* (count): or left as they are */
    void **params, **ema_params;
    double max_norm, ema_decay;
} max_norm_args;

enum { GRAD_NORM_BLOCK = 4096 };

typedef struct {
    tensor_list blocks;     /* offsets count blocks; no steps */
    const ptrdiff_t *sizes; /* (count): elements */
    void **grads;
    double *squares, *norm; /* (blocks); one */
} grad_norm_args;

/* An array seen as (outer, channels, inner); strides in elements. */
typedef struct {
    void *data;
    ptrdiff_t outer_stride, channel_stride, inner_stride;
} view;

/* Rows are the outer * inner vectors of `channels` values that share an outer and an inner index. */
enum { BATCH_NORM_BLOCK_ROWS = 128 };

typedef struct {
    ptrdiff_t outer, channels, inner;
    view x, y, grad_y, grad_x;
    const void *weight, *bias;        /* (channels), or NULL */
    void *running_mean, *running_var; /* (channels), or NULL */
    void *grad_weight, *grad_bias;    /* (channels), or NULL */
    double *mean, *rstd;              /* (channels) */
    double momentum, eps;
    bool training;
    double *partial;    /* by rows: (blocks, 2, channels) */
    void *coefficients; /* by rows: (5, channels), of the arrays' type */
    /* What follows, of arrays in C order: y = dropout(max(y, 0)). */
    bool relu;
    double p;
    uint32_t *mask; /* (ceil(size / 32)): in: what dropout keeps; out: that, where y > 0; or NULL */
} batch_norm_args;

typedef struct {
    ptrdiff_t size;
    const void *x;
    void *y;
    uint32_t *mask; /* (ceil(size / 32)) */
    double p;
    uint64_t seed;
    uint32_t offset;
    bool inverted;
} dropout_args;

typedef struct {
    dropout_args elements; /* but its mask is of the channels: (ceil(samples * channels / 32)) */
    ptrdiff_t channels, inner;
    bool channels_last; /* x is (samples, inner, channels), else (samples, channels, inner) */
} channel_dropout_args;

/* Sums over rows are taken in blocks of BIAS_BLOCK_ROWS rows, each of `period` elements. */
enum { BIAS_BLOCK_ROWS = 128, BIAS_ROWS_AT_ONCE = 4, BIAS_MIN_PERIOD = 256 };

typedef struct {
    ptrdiff_t size, channels;
    ptrdiff_t period; /* the smallest multiple of `channels` from BIAS_MIN_PERIOD on */
    const void *x;    /* grad_y in backward */
    void *y;
    const void *bias; /* (period), repeating itself from `channels` on */
    void *grad_bias;  /* (channels) */
    double *partial;  /* (blocks, period) */
} bias_args;

typedef struct {
    ptrdiff_t size, channels;
    const void *x;    /* grad_y in backward */
    void *y;          /* grad_x in backward */
    const void *bias; /* (channels + 32), repeating itself from `channels` on; or NULL */
    uint32_t *mask;   /* (ceil(size / 32)); NULL in forward with neither relu nor dropout */
    bool relu;
    double p;
    uint64_t seed;
    uint32_t offset;
    ptrdiff_t period; /* as in bias_args */
    double *partial;  /* (blocks, period) */
} bias_relu_dropout_args;

/* A block of a loss has at most LOSS_BLOCK elements, or one row if that is longer, and at most LOSS_BLOCK_ROWS rows. */
enum { LOSS_BLOCK = 2048, LOSS_BLOCK_ROWS = 256 };

typedef struct {
    ptrdiff_t rows, classes;         /* an element-wise loss has rows of one element */
    ptrdiff_t block_rows;            /* rows in a block */
    const void *prediction, *target; /* (rows, classes), and the same or int64 labels (rows) */
    void *grad;                      /* (rows, classes) */
    double *partial;                 /* (blocks), and at least 1 */
    double divisor;                  /* for the mean: what all rows weigh together; for the sum: 1 */
    const void *weight;              /* (weight_count), of the classes, the last axis of element-wise losses; or NULL */
    ptrdiff_t weight_count;
    double weight_sum;         /* of the classes, each 1 if weight is NULL */
    const void *sample_weight; /* (rows / sample_size), or NULL */
    ptrdiff_t sample_size;     /* rows that have one weight together; 1 with labels */
    double label_smoothing, delta;
} loss_args;

enum { SIGMOID, TANH, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH };

/* Rows of `period` elements, as in bias_args; the last one may be short. */
typedef struct {
    ptrdiff_t size, period;
    const void *x, *bias; /* (size), y in backward of sigmoid and tanh; (period), repeating itself, or NULL */
    void *y;              /* (size) */
    const void *grad_y;
    void *grad_x;
    double *partial; /* (blocks of BIAS_BLOCK_ROWS rows, period) */
    double alpha;
    int function;
} activation_args;

typedef struct {
    ptrdiff_t rows, channels;
    const void *x, *grad_y; /* (rows, channels) */
    void *y, *grad_x;       /* (rows, channels) */
} softmax_args;

enum { STREAM_ARRAYS = 16 };

/* All arrays have `size` words of 32 bits. */
typedef struct {
    ptrdiff_t size, reads, updates, writes;
    uint32_t **arrays; /* those to read, then to update, then to write */
    uint32_t zero;     /* 0, unknown to the compiler */
    bool nontemporal;  /* for 1 or 2 reads, no update and 1 write */
} stream_args;

typedef void task(const void *args, ptrdiff_t begin, ptrdiff_t end);

/* The task for each type (the same one twice where no array has a type), and what it costs; see kernel_list.h. */
typedef struct {
    task *of[TYPES];
    int64_t cost;
} kernel;

typedef struct {
    const char *isa;
#define TYPED_KERNEL(name, operation, arguments, cost) kernel name;
#define KERNEL(name, operation, arguments, cost) kernel name;
#define COMPOSITE(name, operation, cost)
#include "kernel_list.h"
} kernel_table;

enum { MAX_ISAS = 4 };

/* Fills in the tables that were compiled, the widest vectors first, and the rank of each: 0 if this CPU cannot run it,
 * else the higher the better. Returns their number. The last one always runs. */
int list_kernels(const kernel_table *tables[MAX_ISAS], int ranks[MAX_ISAS]);

/* Results of at least this many bytes are written around the cache; list_kernels sets it. */
extern size_t nontemporal_bytes;

/* Tells the CPU that this thread is spinning. */
void cpu_relax(void);

#endif
