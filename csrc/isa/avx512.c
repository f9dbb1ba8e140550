#define ISA avx512
#include "../template.h"
