/* Runs every kernel but stream, on every instruction set that this CPU has, and prints the hash of all that it wrote:
 * "isa kernel type hash". Equal bits give equal hashes on any CPU and compiler. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { SIZE = 5003, CHANNELS = 13, INNER = 37, OUTER = 7, ARRAYS = 6 };

static uint64_t state;

/* In (-1, 1), the same everywhere. */
static double draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / 4503599627370496.0 - 1;
}

static void *array(int type, ptrdiff_t n, double shift, int positive)
{
    void *data = malloc((size_t)n * sizeof(double));
    for (ptrdiff_t i = 0; i < n; i++) {
        double x = positive ? fabs(draw()) : shift + draw();
        if (type == FLOAT)
            ((float *)data)[i] = (float)x;
        else
            ((double *)data)[i] = x;
    }
    return data;
}

static void add(uint64_t *hash, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *hash = (*hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
}

static size_t width(int type)
{
    return type == FLOAT ? sizeof(float) : sizeof(double);
}

static void print(const kernel_table *k, const char *name, int type, uint64_t hash)
{
    printf("%s %s %s %016llx\n", k->isa, name, type == FLOAT ? "float" : "double", (unsigned long long)hash);
}

/* With `more`, all that a step can do beside its own formula. */
static void optimizers(const kernel_table *k, int type, bool more)
{
    task *const tasks[] = {k->sgd_step.of[type], k->rmsprop_step.of[type], k->adam_step.of[type],
                           k->adagrad_step.of[type], k->lion_step.of[type]};
    const char *names[][2] = {{"sgd_step", "sgd_step_regularized"},
                              {"rmsprop_step", "rmsprop_step_regularized"},
                              {"adam_step", "adam_step_regularized"},
                              {"adagrad_step", "adagrad_step_regularized"},
                              {"lion_step", "lion_step_regularized"}};
    for (int which = 0; which < 5; which++) {
        void *a[ARRAYS];
        void **lists[ARRAYS];
        state = 1;
        for (int i = 0; i < ARRAYS; i++) {
            a[i] = array(type, SIZE, 0, i == 2 || i == 4);
            lists[i] = &a[i];
        }
        ptrdiff_t offsets[2] = {0, SIZE};
        for (int64_t step = 1; step <= 20; step++) {
            step_args c = {.tensors = {1, offsets, &step},
                           .params = lists[0],
                           .grads = lists[1],
                           .lr = 0.01,
                           .weight_decay = 0.1,
                           .max_grad_value = INFINITY,
                           .grad_scale = 0.3};
            if (more) {
                c.ema_params = lists[5];
                c.ema_decay = 0.9;
                c.max_grad_value = 0.2;
                c.l1 = 0.1;
                c.decoupled = which & 1;
                c.proximal = which != 3;
            }
            sgd_args s = {c, lists[3], 0.9, 0, more, true};
            rmsprop_args r = {c, lists[2], lists[3], lists[4], 0.9, 1e-8, 0.9, more};
            adam_args m = {c, lists[3], lists[2], lists[4], 0.9, 0.999, 1e-8};
            adagrad_args g = {c, lists[2], 0.1, 1e-8};
            lion_args l = {c, lists[3], 0.9, 0.99};
            const void *args[] = {&s, &r, &m, &g, &l};
            /* In two uneven parts: how a job is divided must not matter. */
            tasks[which](args[which], 0, 1001 + step);
            tasks[which](args[which], 1001 + step, SIZE);
        }
        uint64_t hash = 14695981039346656037u;
        for (int i = 0; i < ARRAYS; i++) {
            add(&hash, a[i], SIZE * width(type));
            free(a[i]);
        }
        print(k, names[which][more], type, hash);
    }
}

static void max_norm(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    state = 6;
    void *p[2] = {array(type, SIZE, 0, 0), array(type, CHANNELS * INNER, 0, 0)};
    void *e[2] = {array(type, SIZE, 0, 0), array(type, CHANNELS * INNER, 0, 0)};
    ptrdiff_t offsets[3] = {0, 1, 1 + CHANNELS}, lengths[2] = {SIZE, INNER};
    bool limited[2] = {false, true};
    max_norm_args a = {{2, offsets, NULL}, lengths, limited, p, e, 3.5, 0.9};
    k->max_norm.of[type](&a, 5, offsets[2]);
    k->max_norm.of[type](&a, 0, 5);
    for (int i = 0; i < 2; i++) {
        add(&hash, p[i], (size_t)(i ? CHANNELS * INNER : SIZE) * width(type));
        add(&hash, e[i], (size_t)(i ? CHANNELS * INNER : SIZE) * width(type));
        free(p[i]);
        free(e[i]);
    }
    print(k, "max_norm", type, hash);
}

static void grad_norm(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    state = 4;
    void *g[2] = {array(type, SIZE, 0, 0), array(type, 2 * SIZE, 0, 0)};
    ptrdiff_t sizes[2] = {SIZE, 2 * SIZE}, offsets[3] = {0};
    for (int i = 0; i < 2; i++)
        offsets[i + 1] = offsets[i] + (sizes[i] - 1) / GRAD_NORM_BLOCK + 1;
    double squares[3 * SIZE / GRAD_NORM_BLOCK + 2], norm;
    grad_norm_args a = {{2, offsets, NULL}, sizes, g, squares, &norm};
    k->grad_norm_squares.of[type](&a, 1, offsets[2]);
    k->grad_norm_squares.of[type](&a, 0, 1);
    k->grad_norm_merge.of[type](&a, 0, offsets[2]);
    add(&hash, &norm, sizeof norm);
    free(g[0]);
    free(g[1]);
    print(k, "grad_norm", type, hash);
}

static void dropout(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    uint32_t mask[SIZE / 32 + 1];
    state = 2;
    void *x = array(type, SIZE, 0, 0), *y = array(type, SIZE, 0, 0);
    for (int p = 0; p <= 10; p++) {
        dropout_args a = {SIZE, x, y, mask, p / 10.0, 0x123456789ABCDEF0u, (uint32_t)p, p % 2 == 0};
        k->dropout_forward.of[type](&a, 0, SIZE);
        add(&hash, y, SIZE * width(type));
        add(&hash, mask, sizeof mask);
        k->dropout_backward.of[type](&a, 0, SIZE);
        add(&hash, y, SIZE * width(type));
        channel_dropout_args c = {a, 7, SIZE / 7 / 5, p % 3 == 0};
        c.elements.size = SIZE / 7 / 5 * 7 * 5;
        k->channel_dropout.of[type](&c, 0, c.elements.size);
        add(&hash, y, (size_t)c.elements.size * width(type));
    }
    free(x);
    free(y);
    print(k, "dropout", type, hash);
}

/* With `more`, ReLU and dropout follow in one pass. */
static void batch_norm(const kernel_table *k, int type, bool rows, bool more)
{
    const ptrdiff_t n = OUTER * CHANNELS * INNER;
    uint64_t hash = 14695981039346656037u;
    state = 3;
    void *x = array(type, n, 1000, 0), *g = array(type, n, 0, 0), *y = array(type, n, 0, 0);
    void *c[6];
    for (int i = 0; i < 6; i++)
        c[i] = array(type, CHANNELS, 0, 1);
    double mean[CHANNELS], rstd[CHANNELS], partial[2 * CHANNELS * (OUTER * INNER / BATCH_NORM_BLOCK_ROWS + 1)];
    double coefficients[5 * CHANNELS];
    view first = {x, CHANNELS * INNER, rows ? 1 : INNER, rows ? CHANNELS : 1}, second = first, third = first;
    second.data = y;
    third.data = g;
    batch_norm_args a = {
        OUTER, CHANNELS, INNER, first, second, third, second, c[0], c[1],    c[2],
        c[3],  c[4],     c[5],  mean,  rstd,   0.1,   1e-5,   true, partial, coefficients,
    };
    uint32_t mask[OUTER * CHANNELS * INNER / 32 + 1];
    dropout_args draw = {.size = n, .mask = mask, .p = 0.2, .seed = 5, .offset = 6};
    if (more) {
        k->dropout_mask.of[FLOAT](&draw, 0, n);
        a.relu = true;
        a.p = draw.p;
        a.mask = mask;
    }
    ptrdiff_t lines = OUTER * INNER, blocks = (lines - 1) / BATCH_NORM_BLOCK_ROWS + 1;
    for (int which = 0; which < 3; which++) {
        if (rows) {
            if (which != 1)
                (which ? k->batch_norm_row_sums : k->batch_norm_row_moments).of[type](&a, 0, blocks);
            (which == 0   ? k->batch_norm_merge_moments
             : which == 1 ? k->batch_norm_prepare_inference
                          : k->batch_norm_merge_sums)
                .of[type](&a, 0, CHANNELS);
            (which == 0   ? k->batch_norm_normalize_rows
             : which == 1 ? k->batch_norm_inference_rows
                          : k->batch_norm_grad_rows)
                .of[type](&a, 0, lines);
        } else
            (which == 0   ? k->batch_norm_forward
             : which == 1 ? k->batch_norm_inference
                          : k->batch_norm_backward)
                .of[type](&a, 0, CHANNELS);
        if (more)
            add(&hash, mask, sizeof mask);
        add(&hash, y, (size_t)n * width(type));
        add(&hash, mean, sizeof mean);
        add(&hash, rstd, sizeof rstd);
        for (int i = 0; i < 6; i++)
            add(&hash, c[i], CHANNELS * width(type));
    }
    for (int i = 0; i < 6; i++)
        free(c[i]);
    free(x);
    free(g);
    free(y);
    const char *names[] = {"batch_norm_channels", "batch_norm_rows", "batch_norm_relu_dropout_channels",
                           "batch_norm_relu_dropout_rows"};
    print(k, names[2 * more + rows], type, hash);
}

static void run_loss(const kernel_table *k, kernel loss, int type, loss_args *a, uint64_t *hash)
{
    ptrdiff_t blocks = (a->rows - 1) / a->block_rows + 1;
    loss.of[type](a, 1, blocks);
    loss.of[type](a, 0, 1);
    k->loss_value.of[FLOAT](a, 0, 1);
    add(hash, a->partial, sizeof *a->partial);
    add(hash, a->grad, (size_t)(a->rows * a->classes) * width(type));
}

static void losses(const kernel_table *k, int type, ptrdiff_t classes)
{
    uint64_t hash = 14695981039346656037u;
    ptrdiff_t rows = SIZE / classes, size = rows * classes;
    int64_t labels[SIZE];
    double partial[SIZE];
    state = 4;
    for (ptrdiff_t i = 0; i < rows; i++)
        labels[i] = (int64_t)(fabs(draw()) * (double)classes);
    void *x = array(type, size, 0, 0), *t = array(type, size, 0, 1), *grad = array(type, size, 0, 0);
    void *v = array(type, classes, 0, 1), *w = array(type, size, 0, 1);
    loss_args a = {rows, classes, 1 + 40 / classes, x, labels, grad, partial, (double)rows, .sample_size = 1};
    loss_args pairs = {size, 1, 70, x, t, grad, partial, 1, .sample_size = 3, .delta = 0.5};
    a.weight_sum = (double)classes;
    for (int weighted = 0; weighted < 2; weighted++) {
        run_loss(k, k->cross_entropy, type, &a, &hash);
        a.label_smoothing = 0.1;
        run_loss(k, k->cross_entropy, type, &a, &hash);
        run_loss(k, k->mse, type, &pairs, &hash);
        run_loss(k, k->huber, type, &pairs, &hash);
        pairs.weight = weighted ? v : NULL;
        run_loss(k, k->bce_with_logits, type, &pairs, &hash);
        run_loss(k, k->loss_sum_weights, type, &a, &hash);
        a.label_smoothing = 0;
        a.weight = v;
        a.sample_weight = pairs.sample_weight = w;
        pairs.weight_count = classes;
    }
    free(x);
    free(t);
    free(v);
    free(w);
    free(grad);
    print(k, classes == CHANNELS ? "losses_of_short_rows" : "losses_of_long_rows", type, hash);
}

static void activations(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    ptrdiff_t period = (BIAS_MIN_PERIOD / CHANNELS + 1) * CHANNELS, size = 2 * SIZE * CHANNELS;
    ptrdiff_t blocks = (size - 1) / (period * BIAS_BLOCK_ROWS) + 1;
    double partial[(2 * SIZE * CHANNELS / (BIAS_MIN_PERIOD * BIAS_BLOCK_ROWS) + 1) * (BIAS_MIN_PERIOD + CHANNELS)];
    state = 5;
    void *x = array(type, size, 0, 0), *y = array(type, size, 0, 0), *g = array(type, size, 0, 0);
    void *grad_x = array(type, size, 0, 0), *bias = array(type, period, 0, 0);
    activation_args a = {size, period, x, bias, y, g, grad_x, partial, 0.3, SIGMOID};
    for (a.function = SIGMOID; a.function <= GELU_TANH; a.function++)
        for (int biased = 0; biased < 2; biased++) {
            a.bias = biased ? bias : NULL;
            k->activation_forward.of[type](&a, 0, SIZE);
            k->activation_forward.of[type](&a, SIZE, size);
            k->activation_row_sums.of[type](&a, 0, blocks);
            add(&hash, y, (size_t)size * width(type));
            add(&hash, grad_x, (size_t)size * width(type));
            add(&hash, partial, (size_t)(blocks * period) * sizeof *partial);
            k->activation_backward.of[type](&a, 0, SIZE);
            k->activation_backward.of[type](&a, SIZE, size);
            add(&hash, grad_x, (size_t)size * width(type));
        }
    free(x);
    free(y);
    free(g);
    free(grad_x);
    free(bias);
    print(k, "activations", type, hash);
}

static void bias(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    ptrdiff_t period = (BIAS_MIN_PERIOD / CHANNELS + 1) * CHANNELS, size = SIZE * CHANNELS;
    ptrdiff_t blocks = (size - 1) / (period * BIAS_BLOCK_ROWS) + 1;
    double partial[(SIZE * CHANNELS / (BIAS_MIN_PERIOD * BIAS_BLOCK_ROWS) + 1) * (BIAS_MIN_PERIOD + CHANNELS)];
    state = 10;
    void *x = array(type, size, 0, 0), *b = array(type, period, 0, 0), *grad_bias = array(type, CHANNELS, 0, 0);
    bias_args a = {size, CHANNELS, period, x, x, b, grad_bias, partial};
    k->bias_forward.of[type](&a, SIZE, size);
    k->bias_forward.of[type](&a, 0, SIZE);
    k->bias_backward.of[type](&a, 1, blocks);
    k->bias_backward.of[type](&a, 0, 1);
    k->bias_merge_sums.of[type](&a, 0, CHANNELS);
    add(&hash, x, (size_t)size * width(type));
    add(&hash, grad_bias, CHANNELS * width(type));
    free(x);
    free(b);
    free(grad_bias);
    print(k, "bias", type, hash);
}

static void bias_relu_dropout(const kernel_table *k, int type)
{
    enum { PART = 16384, WORDS = (SIZE * CHANNELS + 31) / 32 };
    uint64_t hash = 14695981039346656037u;
    uint32_t mask[WORDS];
    ptrdiff_t period = (BIAS_MIN_PERIOD - 1) / CHANNELS * CHANNELS + CHANNELS, size = SIZE * CHANNELS;
    ptrdiff_t blocks = (size - 1) / (period * BIAS_BLOCK_ROWS) + 1;
    double partial[(SIZE * CHANNELS / (BIAS_MIN_PERIOD * BIAS_BLOCK_ROWS) + 1) * (BIAS_MIN_PERIOD + CHANNELS)];
    state = 8;
    void *x = array(type, size, 0, 0), *y = array(type, size, 0, 0), *g = array(type, size, 0, 0);
    void *bias = array(type, CHANNELS + 32, 0, 0), *grad_bias = array(type, CHANNELS, 0, 0);
    bias_relu_dropout_args forward = {size, CHANNELS, x, y, bias, mask, true, 0.3, .seed = 12345, .offset = 7};
    k->bias_relu_dropout_forward.of[type](&forward, PART, size);
    k->bias_relu_dropout_forward.of[type](&forward, 0, PART);
    add(&hash, y, (size_t)size * width(type));
    add(&hash, mask, sizeof mask);
    bias_relu_dropout_args backward = {
        size, CHANNELS, g, x, .mask = mask, .p = 0.3, .period = period, .partial = partial};
    k->bias_relu_dropout_backward.of[type](&backward, 1, blocks);
    k->bias_relu_dropout_backward.of[type](&backward, 0, 1);
    bias_args sums = {size, CHANNELS, period, .grad_bias = grad_bias, .partial = partial};
    k->bias_merge_sums.of[type](&sums, 0, CHANNELS);
    add(&hash, x, (size_t)size * width(type));
    add(&hash, grad_bias, CHANNELS * width(type));
    free(x);
    free(y);
    free(g);
    free(bias);
    free(grad_bias);
    print(k, "bias_relu_dropout", type, hash);
}

static void outside(const kernel_table *k, int type)
{
    uint64_t hash = 14695981039346656037u;
    double partial[SIZE];
    state = 9;
    void *t = array(type, SIZE, 0.5, 0), *grad = array(type, SIZE, 0, 0);
    loss_args a = {SIZE, 1, 70, .target = t, .grad = grad, .partial = partial, .divisor = 1, .sample_size = 1};
    run_loss(k, k->bce_with_logits_count_outside, type, &a, &hash);
    free(t);
    free(grad);
    print(k, "bce_with_logits_count_outside", type, hash);
}

static void softmax(const kernel_table *k, int type, ptrdiff_t channels)
{
    uint64_t hash = 14695981039346656037u;
    ptrdiff_t rows = SIZE / channels, size = rows * channels;
    state = 6;
    void *x = array(type, size, 0, 0), *y = array(type, size, 0, 0), *g = array(type, size, 0, 0);
    softmax_args a = {rows, channels, x, g, y, x};
    k->softmax_forward.of[type](&a, 0, rows / 3);
    k->softmax_forward.of[type](&a, rows / 3, rows);
    add(&hash, y, (size_t)size * width(type));
    k->softmax_backward.of[type](&a, 0, rows / 3);
    k->softmax_backward.of[type](&a, rows / 3, rows);
    add(&hash, x, (size_t)size * width(type));
    free(x);
    free(y);
    free(g);
    print(k, channels == CHANNELS ? "softmax_of_short_rows" : "softmax_of_long_rows", type, hash);
}

int main(void)
{
    const kernel_table *tables[MAX_ISAS];
    int ranks[MAX_ISAS], count = list_kernels(tables, ranks);
    for (int i = 0; i < count; i++)
        for (int type = 0; ranks[i] && type < TYPES; type++) {
            optimizers(tables[i], type, false);
            optimizers(tables[i], type, true);
            max_norm(tables[i], type);
            grad_norm(tables[i], type);
            dropout(tables[i], type);
            for (int which = 0; which < 4; which++)
                batch_norm(tables[i], type, which & 1, which & 2);
            losses(tables[i], type, CHANNELS);
            losses(tables[i], type, 101);
            activations(tables[i], type);
            bias(tables[i], type);
            bias_relu_dropout(tables[i], type);
            outside(tables[i], type);
            softmax(tables[i], type, CHANNELS);
            softmax(tables[i], type, 101);
        }
    return 0;
}
