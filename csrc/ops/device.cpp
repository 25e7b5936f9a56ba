#include "ops/device.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

// Exists only in PyTorch's CUDA builds; a weak reference lets this file load in a CPU-only PyTorch too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace snnfast {

bool torch_has_cuda() { return aoti_torch_get_current_cuda_stream != nullptr; }

void* current_cuda_stream(int32_t device) {
  STD_TORCH_CHECK(torch_has_cuda(), "snnfast: this PyTorch was built without CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

void expect_large_write([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kHugePage - 1);
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: failure changes nothing
#endif
}

}  // namespace snnfast
