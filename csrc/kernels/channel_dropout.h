/* channel_dropout: dropout of whole channels (Tompson et al. 2015), forward once the mask is drawn, and backward.
 *
 *   y[n, c, i] = x[n, c, i] / (1 - p) where bit n * channels + c of the mask is 1, else 0
 *
 * x, y (samples, channels, inner) or, with channels_last, (samples, inner, channels); mask
 * (ceil(samples * channels / 32)). The bits of a group of elements are first put together from those of their
 * channels: then it is dropout by elements. Bytes per element in float32: 8, and 1 bit a channel. */
#ifndef NUMFUSE_CHANNEL_DROPOUT_H
#define NUMFUSE_CHANNEL_DROPOUT_H

/* Sets bits `begin` to end - 1. */
INLINE void set_bits(uint32_t *words, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t i = begin; i < end; i = (i / 32 + 1) * 32) {
        uint32_t ones = 0xFFFFFFFF << i % 32;
        if (end - i / 32 * 32 < 32)
            ones &= ((uint32_t)1 << end % 32) - 1;
        words[i / 32] |= ones;
    }
}

/* The bits of n elements from `first` on where a channel's lie side by side. */
static void spread_runs(const channel_dropout_args *a, uint32_t *words, ptrdiff_t first, ptrdiff_t n)
{
    const uint32_t *mask = a->elements.mask;
    ptrdiff_t channel = first / a->inner, last = (channel + 1) * a->inner - first;
    memset(words, 0, DROPOUT_WORDS * sizeof *words);
    for (ptrdiff_t i = 0; i < n; i = last, last += a->inner, channel++)
        if (mask[channel / 32] >> channel % 32 & 1)
            set_bits(words, i, last < n ? last : n);
}

/* `count` <= 32 bits of the mask from number `bit` on. */
INLINE uint32_t mask_bits(const uint32_t *mask, ptrdiff_t bit, ptrdiff_t count)
{
    uint64_t pair = mask[bit / 32];
    if (bit % 32 + count > 32)
        pair |= (uint64_t)mask[bit / 32 + 1] << 32;
    return (uint32_t)(pair >> bit % 32 & (((uint64_t)1 << count) - 1));
}

/* The bits of n <= 32 elements from number `first` of the array on where the channels lie side by side. */
INLINE uint32_t word_of_rows(const channel_dropout_args *a, ptrdiff_t first, ptrdiff_t n)
{
    uint32_t word = 0;
    for (ptrdiff_t i = 0, count; i < n; i += count) {
        ptrdiff_t row = (first + i) / a->channels, channel = (first + i) % a->channels;
        count = n - i < a->channels - channel ? n - i : a->channels - channel;
        word |= mask_bits(a->elements.mask, row / a->inner * a->channels + channel, count) << i;
    }
    return word;
}

/* The bits of n elements from `first` on, in the same case: the words of a sample repeat themselves. */
static void spread_rows(const channel_dropout_args *a, uint32_t *words, ptrdiff_t first, ptrdiff_t n)
{
    ptrdiff_t twos = a->channels & -a->channels, period = a->channels / (twos < 32 ? twos : 32);
    ptrdiff_t size = a->channels * a->inner, sample = -(first % size); /* where one begins */
    for (ptrdiff_t w = 0; w * 32 < n; w++) {
        while (sample + size <= w * 32)
            sample += size;
        if ((w - period) * 32 >= (sample > 0 ? sample : 0) && (w + 1) * 32 <= sample + size)
            words[w] = words[w - period];
        else
            words[w] = word_of_rows(a, first + w * 32, n - w * 32 < 32 ? n - w * 32 : 32);
    }
}

#endif

/* By elements, in parts that begin at multiples of DROPOUT_GROUP. */
static void TYPED(channel_dropout)(const channel_dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        ptrdiff_t last = end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP;
        uint32_t words[DROPOUT_WORDS];
        if (a->channels_last)
            spread_rows(a, words, first, last - first);
        else
            spread_runs(a, words, first, last - first);
        TYPED(apply_mask)(&a->elements, words, first, last);
    }
}
