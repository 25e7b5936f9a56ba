#include "ops/device.h"

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

}  // namespace snnfast
