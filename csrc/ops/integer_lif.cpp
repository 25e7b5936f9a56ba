#include "core/integer_lif.h"

#include <algorithm>
#include <atomic>

#include "cpu/dispatch.h"
#include "ops/arguments.h"

SNNFAST_CPU_KERNEL(integer_lif, (const IntegerLif&, int64_t begin, int64_t end, IntegerLifFound*))

#define SNNFAST_INTEGER_LIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                           \
  FIELD(Optional, v)                         \
  FIELD(Tensor, gain)                        \
  FIELD(Tensor, bias)                        \
  FIELD(int64_t, decay)                      \
  FIELD(int64_t, v_threshold)                \
  FIELD(int64_t, v_reset)                    \
  FIELD(int64_t, limit)                      \
  FIELD(bool, reads)                         \
  FIELD(bool, hard_reset)                    \
  FIELD(int64_t, channel)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_INTEGER_LIF_ARGUMENTS)

constexpr const char* kOp = "integer_lif";

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  SNNFAST_CHECK(low <= value && value <= high, kOp, ": ", name, " must lie in [", low, ", ", high, "], got ", value);
}

void check_values(const char* name, const Tensor& t, int64_t low) {
  const int32_t* values = static_cast<const int32_t*>(t.const_data_ptr());
  for (int64_t c = 0; c < t.numel(); c++) check_range(name, values[c], low, kMostWholeCurrent);
}

// Returns y, v and the number of clamped membranes. `channel` is the dimension of x along which gain and bias vary.
// A step of x is contiguous; the stride between steps is arbitrary.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> integer_lif(const Arguments& arguments) {
  const Tensor& x = arguments.x;
  check_dtype(kOp, "x", x, ScalarType::Int);
  SNNFAST_CHECK(x.is_cpu(), kOp, ": x must be on the CPU");
  check_range("channel", arguments.channel, 1, x.dim() - 1);
  std::vector<int64_t> shape = sizes_of(x);
  elements(kOp, shape);
  IntegerLif a{};
  a.T = shape[0], a.channels = shape[static_cast<size_t>(arguments.channel)], a.inner = 1, a.N = 1;
  for (size_t d = shape.size() - 1; d > 0; d--) {
    SNNFAST_CHECK(shape[d] == 1 || x.numel() == 0 || x.stride(static_cast<int64_t>(d)) == a.N, kOp,
                  ": a step of x must be contiguous");
    a.N *= shape[d];
    if (static_cast<int64_t>(d) > arguments.channel) a.inner *= shape[d];
  }
  const std::vector<int64_t> neurons(shape.begin() + 1, shape.end());
  check_tensor(kOp, "gain", arguments.gain, ScalarType::Int, {a.channels}, "x", x);
  check_tensor(kOp, "bias", arguments.bias, ScalarType::Int, {a.channels}, "x", x);
  if (arguments.v) check_tensor(kOp, "v", *arguments.v, ScalarType::Int, neurons, "x", x);
  check_range("limit", arguments.limit, 1, kMostWholeMembrane);
  check_range("decay", arguments.decay, 0, kWholeDecay);
  check_range("v_threshold", arguments.v_threshold, 1, arguments.limit);
  check_range("v_reset", arguments.v_reset, -arguments.limit, arguments.limit);
  const Tensor gain = contiguous_of(arguments.gain), bias = contiguous_of(arguments.bias),
               v = arguments.v ? contiguous_of(*arguments.v) : gain;
  check_values("gain", gain, 0);
  check_values("bias", bias, -kMostWholeCurrent);
  const Device device(x);
  const Tensor y = device.allocate(x, shape, arguments.reads ? ScalarType::Int : ScalarType::Char),
               v_out = device.allocate(x, neurons, ScalarType::Int),
               saturated = device.allocate(x, {}, ScalarType::Long);
  a.x = static_cast<const int32_t*>(x.const_data_ptr()), a.time_stride = x.stride(0);
  a.v = arguments.v ? static_cast<const int32_t*>(v.const_data_ptr()) : nullptr;
  a.gain = static_cast<const int32_t*>(gain.const_data_ptr()),
  a.bias = static_cast<const int32_t*>(bias.const_data_ptr());
  a.decay = static_cast<int32_t>(arguments.decay), a.threshold = static_cast<int32_t>(arguments.v_threshold);
  a.v_reset = static_cast<int32_t>(arguments.v_reset), a.limit = static_cast<int32_t>(arguments.limit);
  a.reset = arguments.reads ? Reset::none : arguments.hard_reset ? Reset::hard : Reset::soft;
  a.y = y.mutable_data_ptr(), a.v_out = static_cast<int32_t*>(v_out.mutable_data_ptr());
  const Tensor most = device.allocate(x, {a.channels}, ScalarType::Int);
  int32_t* largest = static_cast<int32_t*>(most.mutable_data_ptr());
  for (int64_t c = 0; c < a.channels; c++) largest[c] = kMostWholeCurrent / std::max(a.gain[c], 1);
  a.most = largest;
  std::atomic<int64_t> cut{0}, beyond{0};
  device.parallel(a.N, a.T, [&](int64_t begin, int64_t end) {
    IntegerLifFound here{};
    cpu::integer_lif()(a, begin, end, &here);
    cut += here.saturated, beyond += here.beyond;
  });
  SNNFAST_CHECK(beyond == 0, kOp, ": x gain must lie in [", -kMostWholeCurrent, ", ", kMostWholeCurrent, "], got ",
                beyond.load(), " values beyond");
  *static_cast<int64_t*>(saturated.mutable_data_ptr()) = cut;
  return {y, v_out, saturated};
}

SNNFAST_CPU_OPERATOR("integer_lif", integer_lif, "(Tensor y, Tensor v_out, Tensor saturated)")

}  // namespace
}  // namespace snnfast
