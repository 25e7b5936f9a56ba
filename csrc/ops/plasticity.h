// A rule of plasticity as operators take it.
#pragma once
#include "core/plasticity.h"
#include "ops/arguments.h"

namespace snnfast {

SNNFAST_ARGUMENTS(PlasticityArguments, SNNFAST_PLASTICITY_ARGUMENTS)

inline Plasticity<double> rule_of(const char* op, const PlasticityArguments& given) {
  SNNFAST_CHECK(given.kind >= 0 && given.kind < static_cast<int64_t>(PlasticityKind::count), op,
                ": kind of rule must be a number from 0 to ", static_cast<int64_t>(PlasticityKind::count) - 1, ", got ",
                given.kind);
  return plasticity<double>(given);
}

}  // namespace snnfast
