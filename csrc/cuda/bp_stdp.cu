#include "core/bp_stdp.h"

#include "cuda/bp_stdp.cuh"

namespace snnfast {
namespace {

template <class C>
int run(const BpStdp& a, cudaStream_t stream) {
  const Trains pre{a.pre, a.B * a.I, a.I, a.I, a.B, a.width};
  C *w = static_cast<C*>(a.w), *windows = static_cast<C*>(a.windows);
  for (int64_t t0 = 0; t0 < a.T; t0 += a.span) {
    const int64_t t1 = t0 + a.span < a.T ? t0 + a.span : a.T, slots = (t1 - t0) * a.B;
    const C* error = static_cast<const C*>(a.error) + t0 * a.B * a.O;
    launch_windows(pre, a.epsilon, t0, t1, static_cast<int32_t*>(a.counts), windows, stream);
    if (a.passed) launch_pass_back(w, a.I, a.O, error, windows, slots, static_cast<C*>(a.passed) + t0 * a.B * a.I, stream);
    launch_weights(w, a.I, a.O, error, static_cast<C>(a.scale), windows, slots, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int launch_bp_stdp(const BpStdp& a, void* stream) {
  return a.is_double ? run<double>(a, static_cast<cudaStream_t>(stream)) : run<float>(a, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
