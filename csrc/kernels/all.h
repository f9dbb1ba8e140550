/* Every kernel that exists for both types, in the order of need. */
#include "rounding.h"
#include "tensors.h"

#include "adam.h"
#include "rmsprop.h"
#include "sgd.h"

#include "batch_norm.h"
#include "batch_norm_channels.h"
#include "batch_norm_rows.h"

#include "dropout.h"
#include "bias_relu_dropout.h"
