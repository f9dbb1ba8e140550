/* dropout_forward, dropout_backward: inverted dropout (Srivastava et al. 2014).
 *
 *   y = x / (1 - p) where the mask's bit is 1, else 0
 *
 * x (n) in, y (n) out, mask (ceil(n / 32)) words, one bit an element. Forward draws the mask as
 * reference/dropout.py defines it: bits of 1 - p are compared with random bits, the most significant
 * first, until every bit is decided. Parts of a job begin at multiples of DROPOUT_GROUP elements.
 * Bytes per element in float32: 8.125. */
#ifndef ONEPASS_DROPOUT_H
#define ONEPASS_DROPOUT_H

/* Elements whose mask is drawn together: 128 for each Philox counter. */
enum { DROPOUT_GROUP = 128 * PHILOX_LANES, DROPOUT_WORDS = DROPOUT_GROUP / 32 };

/* Elements that wait in the first cache on their way around the others. */
enum { DROPOUT_BLOCK = 1024 };

/* From this plane on, blocks that are decided are left out: at first nearly all of them have a bit that is not. */
enum { DROPOUT_FIRST_LEAVE = 6 };

typedef struct {
    uint32_t bits[4][PHILOX_LANES], undecided[4][PHILOX_LANES];
    uint32_t lane[PHILOX_LANES]; /* which of the group's blocks this is */
} dropout_blocks;

INLINE void decide(dropout_blocks *b, int n, uint64_t block, uint32_t plane, uint32_t digit, uint64_t seed,
                   uint32_t offset)
{
    uint32_t random[4][PHILOX_LANES];
    philox(random, block, b->lane, n, plane, offset, seed);
    for (int j = 0; j < 4; j++)
        for (int l = 0; l < n; l++) {
            b->bits[j][l] |= b->undecided[j][l] & ~random[j][l] & digit;
            b->undecided[j][l] &= ~(random[j][l] ^ digit);
        }
}

/* Stores the bits of the decided blocks, or of all, and closes ranks; returns how many are left. */
static int leave(dropout_blocks *b, int n, bool all, uint32_t mask[DROPOUT_WORDS])
{
    int left = 0;
    for (int l = 0; l < n; l++) {
        if (all || !(b->undecided[0][l] | b->undecided[1][l] | b->undecided[2][l] | b->undecided[3][l])) {
            for (int j = 0; j < 4; j++)
                mask[4 * b->lane[l] + j] = b->bits[j][l];
            continue;
        }
        for (int j = 0; j < 4; j++) {
            b->bits[j][left] = b->bits[j][l];
            b->undecided[j][left] = b->undecided[j][l];
        }
        b->lane[left++] = b->lane[l];
    }
    return left;
}

/* The mask of the group that begins with element `first`, a multiple of DROPOUT_GROUP. */
static void draw_mask(uint32_t mask[DROPOUT_WORDS], ptrdiff_t first, double keep, uint64_t seed, uint32_t offset)
{
    dropout_blocks b;
    int n = PHILOX_LANES;
    memset(b.bits, keep >= 1 ? 0xFF : 0, sizeof b.bits);
    memset(b.undecided, 0xFF, sizeof b.undecided);
    for (uint32_t l = 0; l < PHILOX_LANES; l++)
        b.lane[l] = l;
    for (uint32_t plane = 0; keep > 0 && keep < 1 && n > 0; plane++) {
        keep *= 2;
        uint32_t digit = keep >= 1 ? 0xFFFFFFFF : 0;
        keep -= keep >= 1 ? 1 : 0;
        uint64_t block = (uint64_t)first / 128;
        /* Constant numbers make better loops; a few blocks behind the n are decided again for nothing. */
        if (n > PHILOX_LANES / 2)
            decide(&b, PHILOX_LANES, block, plane, digit, seed, offset);
        else if (n > PHILOX_LANES / 4)
            decide(&b, PHILOX_LANES / 2, block, plane, digit, seed, offset);
        else
            decide(&b, PHILOX_LANES / 4, block, plane, digit, seed, offset);
        if (plane >= DROPOUT_FIRST_LEAVE)
            n = leave(&b, n, false, mask);
    }
    leave(&b, n, true, mask);
}

/* The same, stored; `last` is the element after the group's last one. */
INLINE void store_mask(const dropout_args *a, uint32_t mask[DROPOUT_WORDS], ptrdiff_t first, ptrdiff_t last)
{
    draw_mask(mask, first, 1 - a->p, a->seed, a->offset);
    if (last % 32)
        mask[(last - first) / 32] &= ((uint32_t)1 << last % 32) - 1;
    memcpy(a->mask + first / 32, mask, (size_t)((last - first + 31) / 32) * sizeof *mask);
}

/* The mask alone, by elements. */
static void dropout_mask(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        uint32_t mask[DROPOUT_WORDS];
        store_mask(args, mask, first, end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP);
    }
}

#endif

static const BITS TYPED(bit)[32] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31,
};

INLINE real TYPED(dropout_scale)(double p)
{
    return p < 1 ? (real)(1 / (1 - p)) : 0;
}

INLINE void TYPED(apply_word)(const real *x, real *y, uint32_t word, int n, real scale)
{
#pragma omp simd
    for (int j = 0; j < n; j++) {
        real kept = x[j] * scale;
        y[j] = word & TYPED(bit)[j] ? kept : 0;
    }
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
    real *y = a->y, scale = TYPED(dropout_scale)(a->p);
    if (x == y || (size_t)a->size * sizeof(real) < NONTEMPORAL_RESULT) {
        TYPED(apply_words)(x + begin, y + begin, mask, end - begin, scale);
        return;
    }
    real block[DROPOUT_BLOCK];
    for (ptrdiff_t i = begin; i < end; i += DROPOUT_BLOCK, mask += DROPOUT_BLOCK / 32) {
        ptrdiff_t n = end - i < DROPOUT_BLOCK ? end - i : DROPOUT_BLOCK;
        TYPED(apply_words)(x + i, block, mask, n, scale);
        copy_nontemporal(y + i, block, (size_t)n * sizeof(real));
    }
    finish_nontemporal();
}

static void TYPED(dropout_forward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const dropout_args *a = args;
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        ptrdiff_t last = end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP;
        uint32_t mask[DROPOUT_WORDS];
        store_mask(a, mask, first, last);
        TYPED(apply_mask)(a, mask, first, last);
    }
}

static void TYPED(dropout_backward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const dropout_args *a = args;
    TYPED(apply_mask)(a, a->mask + begin / 32, begin, end);
}
