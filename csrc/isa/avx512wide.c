#define ISA avx512wide
#include "../template.h"
