/* Every kernel that exists for both types, in the order of need. */
#include "math.h"
#include "rounding.h"
#include "tensors.h"

#include "regularize.h"
#include "adagrad.h"
#include "lion.h"
#include "adam.h"
#include "rmsprop.h"
#include "sgd.h"

#include "grad_norm.h"
#include "max_norm.h"

#include "dropout.h"
#include "channel_dropout.h"
#include "bias.h"
#include "bias_relu_dropout.h"

#include "batch_norm.h"
#include "batch_norm_relu_dropout.h"
#include "batch_norm_channels.h"
#include "batch_norm_rows.h"

#include "sum.h"
#include "loss_weights.h"
#include "element_loss.h"
#include "bce_with_logits.h"
#include "exp_rows.h"
#include "cross_entropy.h"
#include "huber.h"
#include "mse.h"

#include "activation.h"
#include "softmax.h"
