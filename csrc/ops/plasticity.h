// Plasticity rule, as an argument of operators.
#pragma once
#include "core/plasticity.h"
#include "ops/arguments.h"

namespace snnfast {

SNNFAST_ARGUMENTS(PlasticityArguments, SNNFAST_PLASTICITY_ARGUMENTS)

inline Plasticity<double> rule_of(const char* op, const PlasticityArguments& arguments) {
  SNNFAST_CHECK(arguments.kind >= 0 && arguments.kind < static_cast<int64_t>(PlasticityKind::count), op,
                ": kind of rule must be a number from 0 to ", static_cast<int64_t>(PlasticityKind::count) - 1, ", got ",
                arguments.kind);
  return plasticity<double>(arguments);
}

}  // namespace snnfast
