/* Philox4x32-10 (Salmon et al. 2011): random words that are a pure function of counter and key.
 *
 * PHILOX_LANES counters run side by side in arrays, which the compiler turns into vectors of
 * whatever width the instruction set has; the words do not depend on it. */
#ifndef ONEPASS_PHILOX_H
#define ONEPASS_PHILOX_H

enum { PHILOX_LANES = 32 };

/* words[j][l] is word j of counter (block + lane[l], plane, call), for l < n; the block number is 64 bits wide. */
INLINE void philox(uint32_t words[4][PHILOX_LANES], uint64_t block, const uint32_t lane[PHILOX_LANES], int n,
                   uint32_t plane, uint32_t call, uint64_t key)
{
    uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
    for (int l = 0; l < n; l++) {
        c0[l] = (uint32_t)(block + lane[l]);
        c1[l] = (uint32_t)((block + lane[l]) >> 32);
        c2[l] = plane;
        c3[l] = call;
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        /* Left as a loop even where it is short: it then becomes vectors. */
#pragma GCC unroll 1
        for (int l = 0; l < n; l++) {
            uint64_t product0 = (uint64_t)0xD2511F53 * c0[l], product1 = (uint64_t)0xCD9E8D57 * c2[l];
            c0[l] = (uint32_t)(product1 >> 32) ^ c1[l] ^ k0;
            c1[l] = (uint32_t)product1;
            c2[l] = (uint32_t)(product0 >> 32) ^ c3[l] ^ k1;
            c3[l] = (uint32_t)product0;
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    for (int l = 0; l < n; l++) {
        words[0][l] = c0[l];
        words[1][l] = c1[l];
        words[2][l] = c2[l];
        words[3][l] = c3[l];
    }
}

#endif
