/* lanes: a sum as LANES running sums, which vectors of any width hold, added up pairwise in the end. With more than
 * 16 the compiler keeps the loop over them, to make vectors of it. */
#ifndef NUMFUSE_LANES_H
#define NUMFUSE_LANES_H

enum { LANES = 32 };

/* By vectors: of zeros in a loop gcc makes a call for strings, which takes as long as a hundred sums. */
INLINE void clear_lanes(double lane[LANES])
{
    wide_double zero = {0};
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l += WIDE_DOUBLES)
        memcpy(lane + l, &zero, sizeof zero);
}

INLINE double sum_lanes(double *lane)
{
#pragma GCC unroll 8
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

#endif
