#include "core/poisson.h"

#include <vector>

#include "cpu/dispatch.h"
#include "ops/device.h"

SNNFAST_CPU_KERNEL(poisson, (const Poisson&, int64_t begin, int64_t end))

namespace snnfast {

int launch_poisson(const Poisson&, void* stream);

namespace {

uint64_t bits_of_one(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Bool:
    case ScalarType::Byte: return 1;
    case ScalarType::BFloat16: return 0x3f80;
    case ScalarType::Half: return 0x3c00;
    case ScalarType::Float: return 0x3f800000;
    case ScalarType::Double: return 0x3ff0000000000000;
    default: STD_TORCH_CHECK(false, "poisson: dtype must be bool, uint8, float32, float64, bfloat16 or float16"); return 0;
  }
}

template <class Device>
Tensor poisson(const Tensor& given, const Tensor& seed, int64_t time_steps, ScalarType dtype) {
  STD_TORCH_CHECK(given.scalar_type() == ScalarType::Float, "poisson: p must be float32");
  STD_TORCH_CHECK(seed.scalar_type() == ScalarType::Long && seed.numel() == 1, "poisson: seed must be one int64 value");
  STD_TORCH_CHECK(seed.is_cpu() == given.is_cpu() && seed.get_device_index() == given.get_device_index(), "poisson: seed must be on the device of p");
  STD_TORCH_CHECK(time_steps >= 0, "poisson: time_steps must be at least 0, got ", time_steps);
  const uint64_t one = bits_of_one(dtype);
  const Device device(given);
  const Tensor p = torch::stable::contiguous(given);
  std::vector<int64_t> shape(given.sizes().begin(), given.sizes().end());
  shape.insert(shape.begin(), time_steps);
  Tensor spikes = device.allocate(p, shape, dtype);
  const Poisson a{p.const_data_ptr<float>(),
                  seed.const_data_ptr<int64_t>(),
                  spikes.mutable_data_ptr(),
                  p.numel(),
                  spikes.numel(),
                  static_cast<int32_t>(spikes.element_size()),
                  one};
  if (a.total == 0) return spikes;
  if constexpr (Device::kCuda)
    device.launch("poisson", [&](void* stream) { return launch_poisson(a, stream); });
  else
    device.parallel(a.total, 4, [&](int64_t begin, int64_t end) { cpu::poisson()(a, begin, end); });
  return spikes;
}

template <class Library>
void schemas(Library& m) {
  m.def("poisson(Tensor p, Tensor seed, int time_steps, ScalarType dtype) -> Tensor");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("poisson", TORCH_BOX(&poisson<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
