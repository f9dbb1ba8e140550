#define ISA avx512wide
#include "../kernels.h" /* with the whole list of kernels */
#define ONLY_WIDE
#include "../template.h"
