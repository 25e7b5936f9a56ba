#include "ops/device.h"

#include <torch/csrc/stable/stableivalue_conversions.h>

#include <algorithm>

// In PyTorch's CUDA builds, and from 2.13 on; weak references let this file load elsewhere, too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace snnfast {

bool torch_has_cuda() { return aoti_torch_get_current_cuda_stream != nullptr; }

void* current_cuda_stream(int32_t device) {
  SNNFAST_CHECK(torch_has_cuda(), "snnfast: this PyTorch was built without CUDA");
  void* stream = nullptr;
  SNNFAST_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == 0,
                "snnfast: there is no current stream on CUDA device ", device);
  return stream;
}

namespace {

int32_t number_of(ScalarType type) { return torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)); }

// Errors of the stable ABI contain only the line in its headers.
[[noreturn]] void no_memory(const std::vector<int64_t>& shape, ScalarType type, const char* error) {
  const double bytes = static_cast<double>(elements("snnfast", shape)) *
                       static_cast<double>(aoti_torch_dtype_element_size(number_of(type)));
  fail("snnfast: no memory for a tensor of shape ", text_of(shape), ", which takes ", bytes / 1e9, " GB\n",
       torch_exception_get_what_without_backtrace ? torch_exception_get_what_without_backtrace() : error);
}

template <class Make>
Tensor allocated(const std::vector<int64_t>& shape, ScalarType type, const Make& make) {
  elements("snnfast", shape);
  try {
    return make();
  } catch (const std::exception& error) {
    no_memory(shape, type, error.what());
  }
}

}  // namespace

// new_empty would cost two calls of the dispatcher: a small op has several outputs.
Tensor fresh(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) {
  return allocated(shape, type, [&] {
    std::vector<int64_t> strides(shape.size());
    int64_t stride = 1;
    for (size_t d = shape.size(); d-- > 0; stride *= std::max<int64_t>(shape[d], 1)) strides[d] = stride;
    int32_t device = 0;
    AtenTensorHandle result = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(),
                                                    number_of(type), device, like.get_device_index(), &result));
    return Tensor(result);
  });
}

Tensor zeros(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) {
  return allocated(shape, type, [&] { return torch::stable::new_zeros(like, shape, type); });
}

Tensor contiguous_of(const Tensor& t) {
  if (t.is_contiguous()) return t;
  const auto sizes = t.sizes();
  return allocated({sizes.begin(), sizes.end()}, t.scalar_type(), [&] { return torch::stable::contiguous(t); });
}

}  // namespace snnfast
