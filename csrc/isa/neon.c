#define ISA neon
#include "../template.h"
