// Slopes of a row of margins for every surrogate: declared in neuron_loop.h.
#include "cpu/neuron_loop.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <Surrogate S, class C>
void slopes_of(C* row, C alpha, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) row[i] = surrogate_derivative<S, C>(row[i], alpha);
}

template <class C>
void slopes_as(int32_t surrogate, C* row, C alpha, int64_t m) {
  with_surrogate(surrogate, [&](auto known) { slopes_of<decltype(known)::value>(row, alpha, m); });
}

}  // namespace

void slopes(int32_t surrogate, float* row, float alpha, int64_t m) { slopes_as(surrogate, row, alpha, m); }
void slopes(int32_t surrogate, double* row, double alpha, int64_t m) { slopes_as(surrogate, row, alpha, m); }

}  // namespace snnfast::cpu::SNNFAST_ISA
