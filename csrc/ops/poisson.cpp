#include "core/poisson.h"

#include <vector>

#include "cpu/dispatch.h"
#include "ops/arguments.h"

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
    default: fail("poisson: dtype must be bool, uint8, float32, float64, bfloat16 or float16, got ", text_of(dtype));
  }
}

#define SNNFAST_POISSON_ARGUMENTS(FIELD) \
  FIELD(Tensor, p)                       \
  FIELD(Tensor, seed)                    \
  FIELD(int64_t, num_steps)              \
  FIELD(ScalarType, dtype)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_POISSON_ARGUMENTS)

template <class Device>
Tensor poisson(const Arguments& arguments) {
  const Tensor& seed = arguments.seed;
  check_dtype("poisson", "p", arguments.p, ScalarType::Float);
  check_dtype("poisson", "seed", seed, ScalarType::Long);
  SNNFAST_CHECK(seed.numel() == 1, "poisson: seed must be one value, got shape ", shape_of(seed));
  check_device("poisson", "seed", seed, "p", arguments.p);
  SNNFAST_CHECK(arguments.num_steps >= 0, "poisson: num_steps must be at least 0, got ", arguments.num_steps);
  const uint64_t one = bits_of_one(arguments.dtype);
  std::vector<int64_t> shape(arguments.p.sizes().begin(), arguments.p.sizes().end());
  shape.insert(shape.begin(), arguments.num_steps);
  elements("poisson", shape);
  const Device device(arguments.p);
  const Tensor p = contiguous_of(arguments.p);
  Tensor spikes = device.allocate(p, shape, arguments.dtype);
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

SNNFAST_OPERATOR("poisson", poisson, "Tensor")

}  // namespace
}  // namespace snnfast
