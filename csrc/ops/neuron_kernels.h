// Declares the CPU kernels and CUDA launchers of neuron operator OP, and run_OP_forward / run_OP_backward over either device.
#pragma once
#include <cstdlib>
#include <memory>

#include "cpu/dispatch.h"
#include "ops/device.h"

namespace snnfast {

// Scratch of the calling thread, kept between calls: the tapes of one segment (cpu/neuron_loop.h).
inline void* thread_scratch(size_t bytes) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  static thread_local std::unique_ptr<void, Free> memory;
  static thread_local size_t size = 0;
  if (bytes > size) {
    size = (bytes + 4095) / 4096 * 4096;
    memory.reset(std::aligned_alloc(4096, size));
    STD_TORCH_CHECK(memory, "snnfast: no memory for ", size, " bytes of scratch");
  }
  return memory.get();
}

constexpr int64_t kMaxBlock = 256;  // neurons: cpu::kBlock

}  // namespace snnfast

#define SNNFAST_NEURON_KERNELS(OP, NEURON)                                                                                            \
  SNNFAST_CPU_KERNEL(OP##_forward, (const NeuronForward&, int64_t begin, int64_t end))                                                \
  SNNFAST_CPU_KERNEL(OP##_backward, (const NeuronBackward&, int64_t begin, int64_t end, void* scratch))                               \
  namespace snnfast {                                                                                                                 \
  int launch_##OP##_forward(const NeuronForward&, void* stream);                                                                      \
  int launch_##OP##_backward(const NeuronBackward&, void* stream);                                                                    \
  template <class Device>                                                                                                             \
  void run_##OP##_forward(const Device& device, const NeuronForward& a) {                                                             \
    if constexpr (Device::kCuda)                                                                                                      \
      device.launch(#OP, [&](void* stream) { return launch_##OP##_forward(a, stream); });                                             \
    else                                                                                                                              \
      device.parallel(a.N, a.T, [&](int64_t begin, int64_t end) { cpu::OP##_forward()(a, begin, end); });                             \
  }                                                                                                                                   \
  template <class Device>                                                                                                             \
  void run_##OP##_backward(const Device& device, const NeuronBackward& a) {                                                           \
    if constexpr (Device::kCuda) {                                                                                                    \
      device.launch(#OP, [&](void* stream) { return launch_##OP##_backward(a, stream); });                                            \
    } else {                                                                                                                          \
      const int64_t steps = a.T < a.checkpoint_every ? a.T : a.checkpoint_every;                                                      \
      const size_t bytes = sizeof(double) * static_cast<size_t>((steps > 0 ? steps : 1) * (NEURON::kStates + 2) * kMaxBlock);         \
      device.parallel(a.N, 2 * a.T, [&](int64_t begin, int64_t end) { cpu::OP##_backward()(a, begin, end, thread_scratch(bytes)); }); \
    }                                                                                                                                 \
  }                                                                                                                                   \
  }
