/* dropout_forward, dropout_backward, and dropout_mask alone: dropout (Srivastava et al. 2014).
 *
 *   y = x / (1 - p) where the mask's bit is 1, else 0          (inverted)
 *   y = x           where the mask's bit is 1, else 0          (not inverted)
 *
 * x (n) in, y (n) out, mask (ceil(n / 32)) words, one bit an element. Forward draws the mask as
 * reference/dropout.py defines it: bits of 1 - p are compared with random bits, the most significant
 * first, until every bit is decided. Parts of a job begin at multiples of DROPOUT_GROUP elements.
 * Bytes per element in float32: 8.125. */
#ifndef NUMFUSE_DROPOUT_H
#define NUMFUSE_DROPOUT_H

/* Elements whose mask is drawn together: 128 for each Philox counter, a block. */
enum { DROPOUT_BLOCKS = 128, DROPOUT_GROUP = 128 * DROPOUT_BLOCKS, DROPOUT_WORDS = DROPOUT_GROUP / 32 };

/* Elements that wait in the first cache on their way around the others: few, so that reading and writing alternate. */
enum { DROPOUT_TILE = 128 };

/* So many digits are compared in every block: after fewer, nearly all have a bit that is not decided. */
enum { DROPOUT_DENSE_PLANES = 8 };

/* Of bits and undecided the low halves count, as of what Philox draws. */
typedef struct {
    wide bits[4][DROPOUT_BLOCKS / WIDE], undecided[4][DROPOUT_BLOCKS / WIDE];
    wide left[DROPOUT_BLOCKS / WIDE]; /* the blocks with an undecided bit */
} dropout_blocks;

/* Random words for PHILOX_LANES of the blocks that are left. */
INLINE void draw_words(wide words[4][PHILOX_VECTORS], const wide *left, uint64_t block, uint32_t plane, uint64_t seed,
                       uint32_t offset)
{
    wide blocks[PHILOX_VECTORS];
    for (int v = 0; v < PHILOX_VECTORS; v++)
        blocks[v] = left[v] + block;
    philox(words, blocks, plane, offset, seed);
}

/* Compares random words with one digit of the probability. */
INLINE void compare(wide bits[4][PHILOX_VECTORS], wide undecided[4][PHILOX_VECTORS], wide words[4][PHILOX_VECTORS],
                    bool digit)
{
    for (int j = 0; j < 4; j++)
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            if (digit)
                bits[j][v] |= undecided[j][v] & ~words[j][v];
            undecided[j][v] &= digit ? words[j][v] : ~words[j][v];
        }
}

/* The first digits, in blocks l to l + PHILOX_LANES - 1. */
INLINE void decide_first(dropout_blocks *b, int l, uint64_t block, uint64_t digits, uint64_t seed, uint32_t offset)
{
    wide words[4][PHILOX_VECTORS], bits[4][PHILOX_VECTORS], undecided[4][PHILOX_VECTORS];
    for (int j = 0; j < 4; j++)
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            bits[j][v] = (wide){0};
            undecided[j][v] = ~bits[j][v];
        }
    for (uint32_t plane = 0; plane < DROPOUT_DENSE_PLANES && digits << plane; plane++) {
        draw_words(words, b->left + l / WIDE, block, plane, seed, offset);
        if (digits << plane >> 63)
            compare(bits, undecided, words, true);
        else
            compare(bits, undecided, words, false);
    }
    for (int j = 0; j < 4; j++)
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            b->bits[j][l / WIDE + v] = bits[j][v];
            b->undecided[j][l / WIDE + v] = undecided[j][v];
        }
}

/* One digit, in the n blocks that are left; returns how many are left after it. */
INLINE int decide_next(dropout_blocks *b, int n, uint64_t block, uint32_t plane, uint64_t digit, uint64_t seed,
                       uint32_t offset)
{
    uint64_t *blocks = (uint64_t *)b->left;
    int left = 0;
    for (int l = 0; l < n; l += PHILOX_LANES) {
        wide words[4][PHILOX_VECTORS];
        uint64_t random[4][PHILOX_LANES];
        draw_words(words, b->left + l / WIDE, block, plane, seed, offset);
        memcpy(random, words, sizeof random);
        for (int i = 0; i < PHILOX_LANES && l + i < n; i++) {
            uint64_t which = blocks[l + i], any = 0;
            for (int j = 0; j < 4; j++) {
                uint64_t *bits = (uint64_t *)b->bits[j] + which, *undecided = (uint64_t *)b->undecided[j] + which;
                *bits |= *undecided & ~random[j][i] & digit;
                any |= *undecided &= ~(random[j][i] ^ digit);
            }
            blocks[left] = which;
            left += (uint32_t)any != 0;
        }
    }
    return left;
}

/* The mask of elements `first`, a multiple of DROPOUT_GROUP, to last - 1, of as many at most. */
static void draw_mask(uint32_t mask[DROPOUT_WORDS], ptrdiff_t first, ptrdiff_t last, double keep, uint64_t seed,
                      uint32_t offset)
{
    int n = (int)((last - first + 127) / 128);
    if (keep >= 1) {
        memset(mask, 0xFF, (size_t)n * 4 * sizeof *mask);
        return;
    }
    /* The digits of 1 - p, exactly: as a difference of doubles from 1 it is a multiple of 2^-53. */
    uint64_t digits = (uint64_t)(keep * 0x1p53) << 11, block = (uint64_t)first / 128;
    dropout_blocks b;
    for (int l = 0; l < DROPOUT_BLOCKS; l++)
        ((uint64_t *)b.left)[l] = (uint64_t)l;
    for (int l = 0; l < n; l += PHILOX_LANES)
        decide_first(&b, l, block, digits, seed, offset);
    int left = n;
    for (uint32_t plane = DROPOUT_DENSE_PLANES; plane < 64 && digits << plane && left > 0; plane++)
        left = decide_next(&b, left, block, plane, -(digits << plane >> 63), seed, offset);
    for (int l = 0; l < n; l++)
        for (int j = 0; j < 4; j++)
            mask[4 * l + j] = (uint32_t)((uint64_t *)b.bits[j])[l];
}

/* The same, stored; `last` is the element after the group's last one. */
INLINE void store_mask(const dropout_args *a, uint32_t mask[DROPOUT_WORDS], ptrdiff_t first, ptrdiff_t last)
{
    draw_mask(mask, first, last, 1 - a->p, a->seed, a->offset);
    if (last % 32)
        mask[(last - first) / 32] &= ((uint32_t)1 << last % 32) - 1;
    memcpy(a->mask + first / 32, mask, (size_t)((last - first + 31) / 32) * sizeof *mask);
}

/* The mask alone, by elements. */
static void dropout_mask(const dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        uint32_t mask[DROPOUT_WORDS];
        store_mask(a, mask, first, end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP);
    }
}

static const uint32_t dropout_bit[32] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31,
};

#endif

INLINE real TYPED(dropout_scale)(double p)
{
    return p < 1 ? (real)(1 / (1 - p)) : 0;
}

INLINE real TYPED(keep)(real x, uint32_t word, int j, real scale)
{
    real kept = x * scale;
    return word & dropout_bit[j] ? kept : 0;
}

INLINE void TYPED(apply_word)(const real *x, real *y, uint32_t word, int n, real scale)
{
#pragma omp simd
    for (int j = 0; j < n; j++)
        y[j] = TYPED(keep)(x[j], word, j, scale);
}

/* n elements; mask[0] holds the bits of the first 32. */
INLINE void TYPED(apply_words)(const real *x, real *y, const uint32_t *mask, ptrdiff_t n, real scale)
{
    ptrdiff_t i = 0;
    for (; i + 32 <= n; i += 32)
        TYPED(apply_word)(x + i, y + i, mask[i / 32], 32, scale);
    if (i < n)
        TYPED(apply_word)(x + i, y + i, mask[i / 32], (int)(n - i), scale);
}

/* Elements [begin, end) of y; mask[0] holds the bits of element `begin`, a multiple of 32. */
INLINE void TYPED(apply_mask)(const dropout_args *a, const uint32_t *mask, ptrdiff_t begin, ptrdiff_t end)
{
    const real *x = a->x;
    real *y = a->y, scale = a->inverted ? TYPED(dropout_scale)(a->p) : 1;
    if (x == y || (size_t)a->size * sizeof(real) < nontemporal_bytes) {
        TYPED(apply_words)(x + begin, y + begin, mask, end - begin, scale);
        return;
    }
    real block[DROPOUT_TILE];
    for (ptrdiff_t i = begin; i < end; i += DROPOUT_TILE, mask += DROPOUT_TILE / 32) {
        ptrdiff_t n = end - i < DROPOUT_TILE ? end - i : DROPOUT_TILE;
        TYPED(apply_words)(x + i, block, mask, n, scale);
        copy_nontemporal(y + i, block, (size_t)n * sizeof(real));
    }
    finish_nontemporal();
}

static void TYPED(dropout_forward)(const dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        ptrdiff_t last = end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP;
        uint32_t mask[DROPOUT_WORDS];
        store_mask(a, mask, first, last);
        TYPED(apply_mask)(a, mask, first, last);
    }
}

static void TYPED(dropout_backward)(const dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(apply_mask)(a, a->mask + begin / 32, begin, end);
}
