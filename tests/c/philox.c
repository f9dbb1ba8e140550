/* Reads lines "round counts, counter, key, expected words" and compares those with 10 rounds. */
#include <stdio.h>
#include <string.h>

#include "kernels.h"
#include "kernels/philox.h"

int main(void)
{
    unsigned rounds, c[4], k[2], expected[4];
    uint32_t words[4][PHILOX_LANES], lanes[PHILOX_LANES];
    int compared = 0, wrong = 0;
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "philox4x32 %u %x %x %x %x %x %x %x %x %x %x", &rounds, &c[0], &c[1], &c[2], &c[3], &k[0],
                   &k[1], &expected[0], &expected[1], &expected[2], &expected[3]) != 11 ||
            rounds != 10)
            continue;
        uint64_t block = (uint64_t)c[1] << 32 | c[0];
        for (int lane = 0; lane < PHILOX_LANES; lane++) {
            for (uint32_t l = 0; l < PHILOX_LANES; l++)
                lanes[l] = 3 * l;
            philox(words, block - 3 * (uint64_t)lane, lanes, lane + 1, c[2], c[3], (uint64_t)k[1] << 32 | k[0]);
            for (int j = 0; j < 4; j++)
                wrong += words[j][lane] != expected[j];
        }
        compared++;
    }
    printf("%d compared, %d wrong\n", compared, wrong);
    return compared == 0 || wrong != 0;
}
