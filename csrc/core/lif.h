// Leaky integrate and fire: the membrane of leaky.h.
#pragma once
#include "leaky.h"

#define SNNFAST_LIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                   \
  FIELD(State, v)                    \
  FIELD(Parameter, decay)            \
  FIELD(Parameter, gain)             \
  FIELD(Parameter, v_threshold)      \
  FIELD(Parameter, v_reset)          \
  FIELD(Parameter, v_rest)           \
  SNNFAST_FIRING_ARGUMENTS(FIELD)
#define SNNFAST_LIF_REFRACTORY  // the build makes it with a refractory period, too (refractory.h)

namespace snnfast {

struct Lif : Leaky {};

}  // namespace snnfast
