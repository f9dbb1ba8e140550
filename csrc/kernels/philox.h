/* Philox4x32-10 (Salmon et al. 2011): random words that are a pure function of counter and key.
 *
 * PHILOX_LANES counters run side by side, each in the low halves of four 64-bit words. What the high halves hold
 * does not matter: a product is shifted, or taken as it is, to have its high or low half. There are several
 * vectors, since one alone would wait for each product. */
#ifndef NUMFUSE_PHILOX_H
#define NUMFUSE_PHILOX_H

#include "wide.h"

enum { PHILOX_VECTORS = 2, PHILOX_LANES = PHILOX_VECTORS * WIDE };

/* words[j] is word j of counter (block, plane, call); the block number is 64 bits wide. */
INLINE void philox(wide words[4][PHILOX_VECTORS], const wide block[PHILOX_VECTORS], uint32_t plane, uint32_t call,
                   uint64_t key)
{
    wide c0[PHILOX_VECTORS], c1[PHILOX_VECTORS], c2[PHILOX_VECTORS], c3[PHILOX_VECTORS];
    for (int v = 0; v < PHILOX_VECTORS; v++) {
        c0[v] = block[v];
        c1[v] = block[v] >> 32;
        c2[v] = (wide){0} + plane;
        c3[v] = (wide){0} + call;
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        for (int v = 0; v < PHILOX_VECTORS; v++) {
            wide product0 = multiply_low(c0[v], 0xD2511F53), product1 = multiply_low(c2[v], 0xCD9E8D57);
            c0[v] = product1 >> 32 ^ (c1[v] ^ k0);
            c1[v] = product1;
            c2[v] = product0 >> 32 ^ (c3[v] ^ k1);
            c3[v] = product0;
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    for (int v = 0; v < PHILOX_VECTORS; v++) {
        words[0][v] = c0[v];
        words[1][v] = c1[v];
        words[2][v] = c2[v];
        words[3][v] = c3[v];
    }
}

#endif
