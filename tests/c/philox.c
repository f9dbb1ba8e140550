/* Reads lines "round counts, counter, key, expected words" and compares those with 10 rounds. */
#include <stdio.h>
#include <string.h>

#include "kernels.h"
#include "kernels/philox.h"

int main(void)
{
    unsigned rounds, c[4], k[2], expected[4];
    wide words[4][PHILOX_VECTORS], blocks[PHILOX_VECTORS];
    int compared = 0, wrong = 0;
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "philox4x32 %u %x %x %x %x %x %x %x %x %x %x", &rounds, &c[0], &c[1], &c[2], &c[3], &k[0],
                   &k[1], &expected[0], &expected[1], &expected[2], &expected[3]) != 11 ||
            rounds != 10)
            continue;
        uint64_t block = (uint64_t)c[1] << 32 | c[0];
        for (int lane = 0; lane < PHILOX_LANES; lane++) {
            for (int l = 0; l < PHILOX_LANES; l++)
                blocks[l / WIDE][l % WIDE] = block + 3 * (uint64_t)(l - lane);
            philox(words, blocks, c[2], c[3], (uint64_t)k[1] << 32 | k[0]);
            for (int j = 0; j < 4; j++)
                wrong += (uint32_t)words[j][lane / WIDE][lane % WIDE] != expected[j];
        }
        compared++;
    }
    printf("%d compared, %d wrong\n", compared, wrong);
    return compared == 0 || wrong != 0;
}
