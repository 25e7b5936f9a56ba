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
  switch (static_cast<Surrogate>(surrogate)) {
    case Surrogate::atan: return slopes_of<Surrogate::atan>(row, alpha, m);
    case Surrogate::sigmoid: return slopes_of<Surrogate::sigmoid>(row, alpha, m);
    case Surrogate::fast_sigmoid: return slopes_of<Surrogate::fast_sigmoid>(row, alpha, m);
    case Surrogate::rectangle: return slopes_of<Surrogate::rectangle>(row, alpha, m);
    case Surrogate::triangle: return slopes_of<Surrogate::triangle>(row, alpha, m);
    case Surrogate::gaussian: return slopes_of<Surrogate::gaussian>(row, alpha, m);
    default: return slopes_of<Surrogate::straight_through>(row, alpha, m);
  }
}

}  // namespace

void slopes(int32_t surrogate, float* row, float alpha, int64_t m) { slopes_as(surrogate, row, alpha, m); }
void slopes(int32_t surrogate, double* row, double alpha, int64_t m) { slopes_as(surrogate, row, alpha, m); }

}  // namespace snnfast::cpu::SNNFAST_ISA
