// Libraries that users' neurons and plasticity rules are compiled to while a program runs, by the name under which
// load_own_kernel has loaded them.
#pragma once
#include <string>

#include "core/any_neuron.h"
#include "core/own_rule.h"

namespace snnfast {

// Symbols that a library exports, one of the two; the other is nullptr.
struct OwnLibrary {
  const OwnKernel* neuron;
  const OwnRule* rule;
};

// `op`: the name in the error that the library is not loaded.
OwnLibrary own_library(const char* op, const std::string& name);

}  // namespace snnfast
