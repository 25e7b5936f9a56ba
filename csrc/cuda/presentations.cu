#include "core/presentations.h"

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) bound_kernel(const T* from, int64_t count, int64_t most, T* to) {
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= count) return;
  const T value = from[e];
  to[e] = value < 0 ? 0 : value > most ? static_cast<T>(most) : value;
}

template <class T>
void bound(const T* from, int64_t count, int64_t most, T* to, void* stream) {
  if (count > 0)
    SNNFAST_LAUNCH((bound_kernel<T>), blocks_of(count, kThreads), kThreads, 0, static_cast<cudaStream_t>(stream), from,
                   count, most, to);
}

}  // namespace

// Copies the events, with `fired` inputs and the offsets of each network clamped to where a kernel may read and write.
int launch_bounded_events(const Presentations& x, int64_t networks, int64_t fired, int32_t* inputs, int64_t* offsets,
                          void* stream) {
  bound(x.inputs, fired, x.I - 1, inputs, stream);
  bound(x.offsets, networks * x.P * (x.T + 1), x.I > 0 ? fired : 0, offsets, stream);
  return cudaGetLastError();
}

}  // namespace snnfast
