// Where an operator runs: threads over neurons on the CPU, the current stream on CUDA. Written against PyTorch's stable
// ABI (>= 2.10) only, so one build loads in every later PyTorch.
#pragma once
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "ops/check.h"
#include "ops/output_memory.h"

namespace snnfast {

// Allocations by PyTorch; errors state the requested memory.
Tensor fresh(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type);
Tensor zeros(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type);
Tensor contiguous_of(const Tensor& t);

// [N, C, H, W] -> [N, H, W, C] and back: views.
inline Tensor channels_last(const Tensor& t) {
  return torch::stable::transpose(torch::stable::transpose(t, 1, 2), 2, 3);
}
inline Tensor channels_first(const Tensor& t) {
  return torch::stable::transpose(torch::stable::transpose(t, 2, 3), 1, 2);
}

// Calls body(begin, end) for ranges of [0, n) on PyTorch's threads. Rethrows the first error of a body, since its text
// is lost across the stable ABI.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
  std::mutex mutex;
  std::exception_ptr error;
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
    try {
      body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!error) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

// Calls kernel(begin, end) for ranges of [0, n) in parallel, with about `work` operations per item.
template <class Kernel>
void in_parallel(int64_t n, int64_t work, const Kernel& kernel) {
  parallel_for(n, std::max<int64_t>(32768 / std::max<int64_t>(work, 1), 1), kernel);
}

struct Cpu {
  static constexpr bool kCuda = false;
  explicit Cpu(const Tensor&) {}

  Tensor allocate(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) const {
    if (elements("snnfast", shape) > 0)
      if (auto cached = output_memory::allocate(shape, type)) return *cached;
    return fresh(like, shape, type);
  }

  // Calls kernel(begin, end) for ranges of [0, n) that start at multiples of 64, with about `work` operations per
  // element.
  template <class Kernel>
  void parallel(int64_t n, int64_t work, const Kernel& kernel) const {
    constexpr int64_t kUnit = 64;
    const int64_t per_unit = kUnit * std::max<int64_t>(work, 1);
    const int64_t grain = per_unit < 65536 ? 65536 / per_unit : 1;
    parallel_for((n + kUnit - 1) / kUnit, grain,
                 [&](int64_t begin, int64_t end) { kernel(begin * kUnit, std::min(end * kUnit, n)); });
  }
};

#if defined(SNNFAST_WITH_CUDA) || defined(SNNFAST_CUDA_EMULATION)
std::string cuda_error(int error);  // csrc/cuda/error.cu
#endif

// Whether the PyTorch that loaded this library is a CUDA build.
bool torch_has_cuda();
void* current_cuda_stream(int32_t device);

struct Cuda {
  static constexpr bool kCuda = true;
#ifdef SNNFAST_CUDA_EMULATION
  explicit Cuda(const Tensor&) {}
  void* stream() const { return nullptr; }
#else
  torch::stable::accelerator::DeviceGuard guard;  // otherwise the kernel would be launched on the current device
  int32_t device;
  explicit Cuda(const Tensor& t) : guard(t.get_device_index()), device(t.get_device_index()) {}
  void* stream() const { return current_cuda_stream(device); }
#endif
  Tensor allocate(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) const {
    return fresh(like, shape, type);
  }

#if defined(SNNFAST_WITH_CUDA) || defined(SNNFAST_CUDA_EMULATION)
  // launcher(stream) returns a cudaError_t.
  template <class Launcher>
  void launch(const char* op, const Launcher& launcher) const {
    const int error = launcher(stream());
    SNNFAST_CHECK(error == 0, op, ": CUDA error ", error, ": ", cuda_error(error));
  }
#endif
};

}  // namespace snnfast

// Registers operators on every device this build has: DEFINE adds their schemas to the library `m`, IMPLEMENT their
// implementations on `Device`. The emulated CUDA registers the same wrappers and launchers for CPU tensors, as
// torch.ops.snnfast_emulated.
#define SNNFAST_REGISTER_ON(NAMESPACE, KEY, DEVICE, IMPLEMENT) \
  STABLE_TORCH_LIBRARY_IMPL(NAMESPACE, KEY, m) {               \
    using Device = snnfast::DEVICE;                            \
    IMPLEMENT;                                                 \
  }
#define SNNFAST_REGISTER_CPU(DEFINE, IMPLEMENT)         \
  STABLE_TORCH_LIBRARY_FRAGMENT(snnfast, m) { DEFINE; } \
  SNNFAST_REGISTER_ON(snnfast, CPU, Cpu, IMPLEMENT)
#if defined(SNNFAST_CUDA_EMULATION)
#define SNNFAST_REGISTER(DEFINE, IMPLEMENT)                      \
  STABLE_TORCH_LIBRARY_FRAGMENT(snnfast_emulated, m) { DEFINE; } \
  SNNFAST_REGISTER_ON(snnfast_emulated, CPU, Cuda, IMPLEMENT)
#elif defined(SNNFAST_WITH_CUDA)
#define SNNFAST_REGISTER(DEFINE, IMPLEMENT) \
  SNNFAST_REGISTER_CPU(DEFINE, IMPLEMENT)   \
  SNNFAST_REGISTER_ON(snnfast, CUDA, Cuda, IMPLEMENT)
#else
#define SNNFAST_REGISTER SNNFAST_REGISTER_CPU
#endif
