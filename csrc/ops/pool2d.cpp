#include "core/pool2d.h"

#include "cpu/dispatch.h"
#include "ops/neuron.h"

SNNFAST_CPU_KERNEL(pool2d_forward, (const Pool2d&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(pool2d_backward, (const Pool2d&, int64_t begin, int64_t end))

#define SNNFAST_POOL2D_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                      \
  FIELD(int64_t, kernel_h)              \
  FIELD(int64_t, kernel_w)              \
  FIELD(bool, average)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_POOL2D_ARGUMENTS)

constexpr const char* kOp = "pool2d";

// Sizes of a pooling, without its memory.
Pool2d sizes(const Arguments& arguments) {
  const Tensor& x = arguments.x;
  SNNFAST_CHECK(x.dim() == 4, kOp, ": x must have shape [B, C, H, W], got ", shape_of(x));
  SNNFAST_CHECK(x.is_cpu(), kOp, ": x must be on the CPU");
  Pool2d a{};
  a.N = x.size(0), a.C = x.size(1), a.H = x.size(2), a.W = x.size(3);
  a.kh = arguments.kernel_h, a.kw = arguments.kernel_w, a.average = arguments.average;
  a.dtype = dtype_of(kOp, "x", x);
  SNNFAST_CHECK(a.dtype != Dtype::f16, kOp, ": x must be float32, float64 or bfloat16, got float16");
  const int64_t least = a.dtype == Dtype::f64 ? kPoolChannels<double> : kPoolChannels<float>;
  SNNFAST_CHECK(a.C >= least, kOp, ": x must have at least ", least, " channels, got ", a.C);
  SNNFAST_CHECK(a.kh >= 1 && a.kw >= 1 && a.kh <= a.H && a.kw <= a.W, kOp,
                ": the window must have at least 1 x 1 pixels and at most those of the image, ", a.H, " x ", a.W,
                ", got ", a.kh, " x ", a.kw);
  SNNFAST_CHECK(a.average || a.kh <= kPoolPixels / a.kw, kOp, ": the window of a maximum must have at most ",
                kPoolPixels, " pixels, got ", a.kh, " x ", a.kw);
  elements(kOp, sizes_of(x));
  a.out_h = a.H / a.kh, a.out_w = a.W / a.kw;
  return a;
}

template <class Run>
void each_row(const Pool2d& a, const Run& run) {
  in_parallel(a.N * a.out_h, a.kh * a.W * a.C, run);
}

// Returns y and, for a maximum, its index in each window.
template <class Device>
std::tuple<Tensor, Tensor> pool2d_forward(const Arguments& arguments) {
  Pool2d a = sizes(arguments);
  const Tensor x = contiguous_of(channels_last(arguments.x));
  const Device device(x);
  const std::vector<int64_t> shape{a.N, a.out_h, a.out_w, a.C};
  const Tensor y = device.allocate(x, shape, x.scalar_type()),
               argmax = device.allocate(x, a.average ? std::vector<int64_t>{0} : shape, ScalarType::Byte);
  if (a.N > 0) {
    a.x = x.const_data_ptr(), a.y = y.mutable_data_ptr(), a.argmax = static_cast<uint8_t*>(argmax.mutable_data_ptr());
    each_row(a, [&](int64_t begin, int64_t end) { cpu::pool2d_forward()(a, begin, end); });
  }
  return {channels_first(y), argmax};
}

// Only the sizes of x are read.
template <class Device>
Tensor pool2d_backward(const Arguments& arguments, Tensor argmax, Tensor grad_y) {
  Pool2d a = sizes(arguments);
  const Tensor& x = arguments.x;
  check_tensor(kOp, "grad_y", grad_y, x.scalar_type(), {a.N, a.C, a.out_h, a.out_w}, "x", x);
  check_tensor(kOp, "places", argmax, ScalarType::Byte,
               a.average ? std::vector<int64_t>{0} : std::vector<int64_t>{a.N, a.out_h, a.out_w, a.C}, "x", x);
  check_contiguous(kOp, "places", argmax);
  const Tensor grad = contiguous_of(channels_last(grad_y)),
               grad_x = Device(grad).allocate(grad, {a.N, a.H, a.W, a.C}, grad.scalar_type());
  if (a.N > 0) {
    a.grad = grad.const_data_ptr(), a.grad_x = grad_x.mutable_data_ptr(),
    a.argmax = static_cast<uint8_t*>(argmax.mutable_data_ptr());
    each_row(a, [&](int64_t begin, int64_t end) { cpu::pool2d_backward()(a, begin, end); });
  }
  return channels_first(grad_x);
}

SNNFAST_CPU_OPERATOR("pool2d_forward", pool2d_forward, "(Tensor y, Tensor places)")
SNNFAST_CPU_OPERATOR("pool2d_backward", pool2d_backward, "Tensor", "Tensor places, Tensor grad_y")

}  // namespace
}  // namespace snnfast
