#define ISA baseline
#include "../template.h"
