/* cross_entropy: softmax cross-entropy with integer labels t, smoothed by s, of rows that weigh w.
 *
 *   l_c     = log(sum_c exp(x_c - m)) - (x_c - m),  m = max_c x_c
 *   value   = sum or mean over rows of  target_coef l_t + smoothing_coef sum_c v_c l_c
 *   target_coef = (1 - s) w v_t,   smoothing_coef = s w / C
 *   grad_c  = ((target_coef + smoothing_coef sum_c v_c) softmax_c - smoothing_coef v_c - [c = t] target_coef) / divisor
 *   divisor = 1, or the sum of w v_t over the rows for the mean
 *
 * x prediction (N, C), t target (N), v weight (C) or 1, w sample_weight (N) or 1 in, grad (N, C) out. Bytes per
 * element in float32: 8, without grad 4. A row that weighs nothing counts for nothing, NaN and infinity too. */

/* sum_c v_c (x_c - most); what weighs nothing may be infinite. `scratch` has room for n numbers. */
INLINE real TYPED(weighted_logits)(const real *restrict x, const real *restrict weight, real most, ptrdiff_t n,
                                   real *restrict scratch)
{
    if (weight)
        for (ptrdiff_t c = 0; c < n; c++)
            scratch[c] = weight[c] == 0 ? 0 : weight[c] * (x[c] - most);
    else
        for (ptrdiff_t c = 0; c < n; c++)
            scratch[c] = x[c] - most;
    return (real)TYPED(sum)(scratch, n);
}

/* What a block of n rows comes to: y = exp(x - m), its sum `total`, `chosen` = x_t - m and, unless that is NULL,
 * `logit_sum` = sum_c v_c (x_c - m) of each row. */
INLINE void TYPED(logit_rows)(const loss_args *a, const real *restrict x, const int64_t *restrict target, ptrdiff_t n,
                              real *restrict y, real *restrict total, real *restrict chosen, real *restrict logit_sum)
{
    ptrdiff_t classes = a->classes;
    for (ptrdiff_t r = 0; r < n; r++, x += classes, y += classes) {
        real most = TYPED(row_max)(x, classes);
        chosen[r] = x[target[r]] - most;
        if (logit_sum)
            logit_sum[r] = TYPED(weighted_logits)(x, a->weight, most, classes, y);
        total[r] = TYPED(exp_row)(x, most, classes, y);
    }
}

/* The same of short rows, with y as (classes, n): loops over rows are long. */
INLINE void TYPED(weighted_columns)(const real *restrict y, const real *restrict most, const real *restrict weight,
                                    ptrdiff_t n, ptrdiff_t classes, real *restrict logit_sum)
{
    double sum[LOSS_BLOCK_ROWS] = {0};
    for (ptrdiff_t c = 0; c < classes; c++) {
        real v = weight ? weight[c] : 1;
        if (v != 0)
            for (ptrdiff_t r = 0; r < n; r++)
                sum[r] += (double)(v * (y[c * n + r] - most[r]));
    }
    for (ptrdiff_t r = 0; r < n; r++)
        logit_sum[r] = (real)sum[r];
}

INLINE void TYPED(logit_columns)(const loss_args *a, const real *restrict x, const int64_t *restrict target,
                                 ptrdiff_t n, real *restrict y, real *restrict total, real *restrict chosen,
                                 real *restrict logit_sum)
{
    real most[LOSS_BLOCK_ROWS];
    TYPED(to_columns)(x, n, a->classes, y);
    TYPED(column_max)(y, n, a->classes, most);
    for (ptrdiff_t r = 0; r < n; r++)
        chosen[r] = y[target[r] * n + r] - most[r];
    if (logit_sum)
        TYPED(weighted_columns)(y, most, a->weight, n, a->classes, logit_sum);
    TYPED(exp_columns)(y, most, n, a->classes, total);
}

/* Of n rows from `first` on: target_coef, smoothing_coef and their sum over the classes as shares of the mean, and the
 * terms of the value from l_t, weighed. What weighs nothing may be infinite. */
INLINE void TYPED(weigh_rows)(const loss_args *a, ptrdiff_t first, ptrdiff_t n, const real *restrict log_total,
                              const real *restrict logit_sum, real *restrict term, real *restrict target_coef,
                              real *restrict smoothing_coef, real *restrict coef_sum)
{
    const real *weight = a->sample_weight;
    double share = 1 / a->divisor, stay = 1 - a->label_smoothing, each = a->label_smoothing / (double)a->classes;
    real weight_sum = (real)a->weight_sum;
    TYPED(row_weights)(a, first, n, target_coef);
    for (ptrdiff_t r = 0; r < n; r++) {
        target_coef[r] = (real)(stay * (double)target_coef[r]);
        term[r] = target_coef[r] == 0 ? 0 : target_coef[r] * term[r];
        coef_sum[r] = target_coef[r] = (real)((double)target_coef[r] * share);
    }
    if (each > 0)
        for (ptrdiff_t r = 0; r < n; r++) {
            smoothing_coef[r] = (real)(each * (weight ? (double)weight[first + r] : 1));
            term[r] += smoothing_coef[r] == 0 ? 0 : smoothing_coef[r] * (weight_sum * log_total[r] - logit_sum[r]);
            smoothing_coef[r] = (real)((double)smoothing_coef[r] * share);
            coef_sum[r] += smoothing_coef[r] * weight_sum;
        }
}

/* grad -= smoothing_coef v_c in n rows, and 0 in those that weigh nothing. */
INLINE void TYPED(weigh_grad)(const loss_args *a, ptrdiff_t n, const real *restrict smoothing_coef,
                              const real *restrict coef_sum, real *restrict grad)
{
    const real *weight = a->weight;
    ptrdiff_t classes = a->classes;
    for (ptrdiff_t r = 0; r < n; r++, grad += classes) {
        if (coef_sum[r] == 0)
            memset(grad, 0, (size_t)classes * sizeof *grad);
        else if (a->label_smoothing > 0 && weight)
            for (ptrdiff_t c = 0; c < classes; c++)
                grad[c] -= smoothing_coef[r] * weight[c];
        else if (a->label_smoothing > 0)
            for (ptrdiff_t c = 0; c < classes; c++)
                grad[c] -= smoothing_coef[r];
    }
}

INLINE void TYPED(cross_entropy_blocks)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end, bool weighed)
{
    ptrdiff_t classes = a->classes;
    bool columns = classes < LANES, smooth = weighed && a->label_smoothing > 0;
    real share = (real)(1 / a->divisor), y[LOSS_BLOCK], total[LOSS_BLOCK_ROWS], term[LOSS_BLOCK_ROWS];
    real log_total[LOSS_BLOCK_ROWS], logit_sum[LOSS_BLOCK_ROWS];
    real target_coef[LOSS_BLOCK_ROWS], smoothing_coef[LOSS_BLOCK_ROWS], coef_sum[LOSS_BLOCK_ROWS];
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *x = (const real *)a->prediction + first * classes;
        const int64_t *target = (const int64_t *)a->target + first;
        real *restrict grad = a->grad ? (real *)a->grad + first * classes : NULL;
        if (columns)
            TYPED(logit_columns)(a, x, target, n, y, total, term, smooth ? logit_sum : NULL);
        else
            TYPED(logit_rows)(a, x, target, n, grad ? grad : y, total, term, smooth ? logit_sum : NULL);
        for (ptrdiff_t r = 0; r < n; r++) {
            log_total[r] = TYPED(log)(total[r]);
            term[r] = log_total[r] - term[r];
        }
        if (weighed)
            TYPED(weigh_rows)(a, first, n, log_total, logit_sum, term, target_coef, smoothing_coef, coef_sum);
        a->partial[block] = TYPED(sum)(term, n);
        if (!grad)
            continue;
        for (ptrdiff_t r = 0; r < n; r++)
            total[r] = (weighed ? coef_sum[r] : share) / total[r];
        if (columns)
            for (ptrdiff_t c = 0; c < classes; c++)
                for (ptrdiff_t r = 0; r < n; r++)
                    grad[r * classes + c] = y[c * n + r] * total[r];
        else
            for (ptrdiff_t r = 0; r < n; r++)
                for (ptrdiff_t c = 0; c < classes; c++)
                    grad[r * classes + c] *= total[r];
        if (weighed)
            TYPED(weigh_grad)(a, n, smoothing_coef, coef_sum, grad);
        for (ptrdiff_t r = 0; r < n; r++)
            grad[r * classes + target[r]] -= weighed ? target_coef[r] : share;
    }
}

/* By blocks of rows, without gradients where a->grad is NULL, which takes rows of LOSS_BLOCK classes at most. */
static void TYPED(cross_entropy)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    if (a->weight || a->sample_weight || a->label_smoothing > 0)
        TYPED(cross_entropy_blocks)(a, begin, end, true);
    else
        TYPED(cross_entropy_blocks)(a, begin, end, false);
}
