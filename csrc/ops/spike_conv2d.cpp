#include "core/spike_conv2d.h"

#include <algorithm>
#include <array>

#include "cpu/dispatch.h"
#include "ops/neuron.h"
#include "ops/scratch.h"
#include "ops/spike_bits.h"

SNNFAST_CPU_KERNEL(spike_conv2d_pack, (const SpikeConv2d&))
SNNFAST_CPU_KERNEL(spike_conv2d_forward, (const SpikeConv2d&, int64_t begin, int64_t end, char* scratch))
SNNFAST_CPU_KERNEL(spike_conv2d_backward, (const SpikeConv2d&, int64_t begin, int64_t end, char* scratch))
SNNFAST_CPU_KERNEL(spike_conv2d_unpack, (const SpikeConv2d&))
SNNFAST_CPU_KERNEL(spike_conv2d_winograd_pack, (const SpikeConv2d&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spike_conv2d_winograd, (const SpikeConv2d&, int64_t begin, int64_t end, char* scratch))

#define SNNFAST_SPIKE_CONV2D_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                            \
  FIELD(Tensor, weight)                       \
  FIELD(Optional, bias)                       \
  FIELD(int64_t, stride_h)                    \
  FIELD(int64_t, stride_w)                    \
  FIELD(int64_t, padding_h)                   \
  FIELD(int64_t, padding_w)                   \
  FIELD(int64_t, method)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPIKE_CONV2D_ARGUMENTS)

constexpr const char* kOp = "spike_conv2d";
// With the weight flipped, for the gradient of x: kTurned, kAuto or by Winograd; kTurnedDirect, without Winograd.
enum Method : int64_t { kAuto, kEvents, kDense, kTurned, kTurnedDirect };

void check(const char* name, const Tensor& t, const Tensor& x, const std::vector<int64_t>& shape) {
  check_tensor(kOp, name, t, x.scalar_type(), shape, "x", x);
}

SpikeConv2d sizes(const Arguments& arguments) {
  const Tensor &x = arguments.x, &weight = arguments.weight;
  SNNFAST_CHECK(x.dim() == 4, kOp, ": x must have shape [B, C, H, W], got ", shape_of(x));
  SNNFAST_CHECK(x.is_cpu(), kOp, ": x must be on the CPU");
  const bool turned = arguments.method >= kTurned;
  SNNFAST_CHECK(weight.dim() == 4 && weight.size(turned ? 0 : 1) == x.size(1), kOp, ": weight must have shape ",
                turned ? "[C, O, kh, kw]" : "[O, C, kh, kw]", " with C = ", x.size(1), ", got ", shape_of(weight));
  check("weight", weight, x, sizes_of(weight));
  SpikeConv2d a{};
  a.N = x.size(0), a.C = x.size(1), a.H = x.size(2), a.W = x.size(3);
  a.turned = turned, a.O = weight.size(turned ? 1 : 0), a.kh = weight.size(2), a.kw = weight.size(3);
  a.stride_h = arguments.stride_h, a.stride_w = arguments.stride_w, a.pad_h = arguments.padding_h,
  a.pad_w = arguments.padding_w;
  constexpr int64_t most = int64_t{1} << 20;
  SNNFAST_CHECK(a.kh >= 1 && a.kw >= 1 && a.kh <= most && a.kw <= most && a.H <= most && a.W <= most, kOp,
                ": images and kernels must have 1 to ", most, " rows and columns, got images ", a.H, " x ", a.W,
                " and kernels ", a.kh, " x ", a.kw);
  SNNFAST_CHECK(a.pad_h >= 0 && a.pad_h < a.kh && a.pad_w >= 0 && a.pad_w < a.kw, kOp,
                ": padding must be at least 0 and less than the kernel's size, ", a.kh, " x ", a.kw, ", got ", a.pad_h,
                " and ", a.pad_w);
  SNNFAST_CHECK(a.stride_h >= 1 && a.stride_w >= 1 && a.stride_h <= most && a.stride_w <= most &&
                    (!turned || a.stride_h * a.stride_w == 1),
                kOp, ": stride must be 1 to ", turned ? 1 : most, ", got ", a.stride_h, " and ", a.stride_w);
  const int64_t rows = a.H + 2 * a.pad_h - a.kh, columns = a.W + 2 * a.pad_w - a.kw;
  a.out_h = rows / a.stride_h + 1, a.out_w = columns / a.stride_w + 1;
  SNNFAST_CHECK(rows >= 0 && columns >= 0, kOp, ": the kernel must be no larger than the images with their padding, ",
                a.H + 2 * a.pad_h, " x ", a.W + 2 * a.pad_w, ", got ", a.kh, " x ", a.kw);
  a.int8 = x.scalar_type() == ScalarType::Char;
  a.dtype = a.int8 ? Dtype::f32 : dtype_of(kOp, "x", x);
  // Keys are 32 bits wide.
  SNNFAST_CHECK(a.C <= most && elements(kOp, {a.H + 2 * a.kh, a.W + 2 * a.kw, a.C}) < (int64_t{1} << 31), kOp,
                ": an image must have fewer than 2^31 pixels, with a kernel's size around it and all channels, got ",
                a.C, " channels of ", a.H, " x ", a.W);
  elements(kOp, {a.N, a.out_h, a.out_w, a.O});
  elements(kOp, {kConvUnits, a.kh, a.kw, a.C, a.O + kConvLine});
  // Results depend on groups, so these do not depend on the number of threads.
  a.parts = std::max<int64_t>((a.C + kConvPart - 1) / kConvPart, 1);
  const int64_t tables = std::max<int64_t>(kConvUnits / a.parts, 1),
                groups = std::clamp<int64_t>(a.N * a.H * a.W / kConvPixels, 1, tables);
  a.images = std::max<int64_t>((a.N + groups - 1) / groups, 1);
  a.groups = (a.N + a.images - 1) / a.images;
  return a;
}

void check_dtype(const SpikeConv2d& a) {
  SNNFAST_CHECK(a.dtype == Dtype::f32 || a.dtype == Dtype::f64, kOp, ": by events x must be float32 or float64, got ",
                a.dtype == Dtype::bf16 ? "bfloat16" : "float16");
}

void check_bits(const SpikeConv2d& a, const Tensor& x, const Tensor& bits, const Tensor& found) {
  check_tensor(kOp, "bits", bits, ScalarType::Long, {a.N, conv_words(a)}, "x", x);
  check_tensor(kOp, "found", found, ScalarType::Long, {kFound}, "x", x);
  check_contiguous(kOp, "bits", bits);
  check_contiguous(kOp, "found", found);
}

// PyTorch's product. Channels-last it copies the weights, which costs more than the product if they are much larger
// than x: measured, several times as much for 512 channels of 2 x 2.
constexpr int64_t kLargeWeights = 2;

Tensor product(const Tensor& x, const Arguments& arguments) {
  using torch::stable::detail::from;
  const std::vector<int64_t> one{1, 1}, stride{arguments.stride_h, arguments.stride_w},
      padding{arguments.padding_h, arguments.padding_w};
  if (arguments.method >= kTurned) {
    const std::vector<int64_t> zero{0, 0},
        cut{arguments.weight.size(2) - 1 - padding[0], arguments.weight.size(3) - 1 - padding[1]};
    std::array<StableIValue, 8> stack{
        from(x),  from(arguments.weight), from(arguments.bias), from(one), from(cut), from(zero), from(int64_t{1}),
        from(one)};
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::conv_transpose2d", "input", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
  }
  std::array<StableIValue, 7> stack{
      from(x), from(arguments.weight), from(arguments.bias), from(stride), from(padding), from(one), from(int64_t{1})};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::conv2d", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Dense product of x [N, H, W, C]; y has the same layout, viewed as [N, O, ...].
Tensor dense(const Tensor& x, const Arguments& arguments) {
  const Tensor images = channels_first(x);
  if (arguments.weight.numel() <= kLargeWeights * x.numel()) return product(images, arguments);
  // As rows: with the strides of an image of one pixel, PyTorch would treat it as channels-last.
  const Tensor by_channels = torch::stable::view(torch::stable::flatten(images, 1), images.sizes());
  return channels_first(contiguous_of(channels_last(product(by_channels, arguments))));
}

// Winograd's product of x [N, H, W, C]; the weight is flipped.
template <class Device>
Tensor winograd(const Device& device, SpikeConv2d a, const Tensor& x, const Tensor& weight_of_x) {
  const Tensor weight = contiguous_of(weight_of_x),
               y = device.allocate(x, {a.N, a.out_h, a.out_w, a.O}, x.scalar_type());
  const Tensor table = device.allocate(x, {winograd_in_scratch(a) ? 0 : winograd_table(a)}, x.scalar_type());
  a.weight = weight.const_data_ptr(), a.y = y.mutable_data_ptr(), a.table = table.mutable_data_ptr();
  const int64_t blocks = (a.O + kConvBlock - 1) / kConvBlock;
  if (!winograd_in_scratch(a))
    parallel_for(blocks, 1, [&](int64_t begin, int64_t end) { cpu::spike_conv2d_winograd_pack()(a, begin, end); });
  const int64_t units = winograd_in_scratch(a) ? blocks : (winograd_tiles(a) + kWinogradTiles - 1) / kWinogradTiles;
  parallel_for(units, 1, [&](int64_t begin, int64_t end) {
    cpu::spike_conv2d_winograd()(a, begin, end,
                                 static_cast<char*>(thread_scratch(static_cast<size_t>(winograd_scratch(a)))));
  });
  return channels_first(y);
}

// Returns y in channels-last layout, the bits of x, and `found`.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> spike_conv2d_forward(const Arguments& arguments) {
  SNNFAST_CHECK(arguments.method >= kAuto && arguments.method <= kTurnedDirect, kOp,
                ": method must be 0, 1, 2, 3 or 4, got ", arguments.method);
  SpikeConv2d a = sizes(arguments);
  const Optional& bias = arguments.bias;
  const ScalarType type = a.int8 ? ScalarType::Int : arguments.x.scalar_type();
  if (bias) check_tensor(kOp, "bias", *bias, type, {a.O}, "x", arguments.x);
  if (a.int8) check_int8(kOp, a.C * a.kh * a.kw, bias);
  SNNFAST_CHECK(!a.int8 || arguments.method == kAuto || arguments.method == kEvents, kOp,
                ": int8 weights are summed by events, got method ", arguments.method);
  if (arguments.method == kEvents) check_dtype(a);
  const Device device(arguments.x);
  const Tensor x = contiguous_of(channels_last(arguments.x));
  const Tensor bits = device.allocate(x, {a.N, conv_words(a)}, ScalarType::Long),
               found = device.allocate(x, {kFound}, ScalarType::Long);
  a.x = x.const_data_ptr(), a.bits = static_cast<uint64_t*>(bits.mutable_data_ptr());
  const auto [nonzeros, others] = find_bits(
      {a.N, a.H * a.W * a.C, conv_words(a), a.x, a.dtype, a.int8, static_cast<uint64_t*>(bits.mutable_data_ptr())});
  a.binary = others == 0;
  const bool able = a.dtype == Dtype::f32 || a.dtype == Dtype::f64;
  const bool by_events =
      a.int8 || arguments.method == kEvents || (arguments.method != kDense && able && conv_by_events(nonzeros, a));
  int64_t* words = static_cast<int64_t*>(found.mutable_data_ptr());
  words[kNonzeros] = nonzeros, words[kOthers] = others;
  // of the gradient of the weights
  words[kByEvents] = by_events || (arguments.method == kAuto && able && conv_weight_by_events(nonzeros, a));
  if (!by_events && arguments.method == kTurned && !bias && winograd_pays(a))
    return {winograd(device, a, x, arguments.weight), bits, found};
  if (!by_events) return {dense(x, arguments), bits, found};
  const Tensor y = device.allocate(x, {a.N, a.out_h, a.out_w, a.O}, type);
  if (y.numel() == 0) return {channels_first(y), bits, found};
  const Tensor weight = contiguous_of(arguments.weight), bias_copy = bias ? contiguous_of(*bias) : weight;
  const Tensor table = device.allocate(x, {conv_table_size(a)}, type);
  a.weight = weight.const_data_ptr(), a.bias = bias ? bias_copy.const_data_ptr() : nullptr;
  a.table = table.mutable_data_ptr(), a.y = y.mutable_data_ptr();
  cpu::spike_conv2d_pack()(a);
  parallel_for(a.N, 1, [&](int64_t begin, int64_t end) {
    cpu::spike_conv2d_forward()(a, begin, end,
                                static_cast<char*>(thread_scratch(static_cast<size_t>(conv_forward_scratch(a)))));
  });
  return {channels_first(y), bits, found};
}

// Gradient of the weight, by events. If x is all 0 or 1, only its sizes are read.
template <class Device>
Tensor spike_conv2d_backward(const Arguments& arguments, Tensor bits, Tensor found, Tensor grad_y) {
  SpikeConv2d a = sizes(arguments);
  SNNFAST_CHECK(!a.int8, kOp, ": int8 weights have no gradient");
  check_dtype(a);
  check_bits(a, arguments.x, bits, found);
  check("grad_y", grad_y, arguments.x, {a.N, a.O, a.out_h, a.out_w});
  const Device device(arguments.x);
  a.bits = static_cast<const uint64_t*>(bits.const_data_ptr());
  a.binary = static_cast<const int64_t*>(found.const_data_ptr())[kOthers] == 0;
  const Tensor x = a.binary ? arguments.x : contiguous_of(channels_last(arguments.x)),
               grad = contiguous_of(channels_last(grad_y));
  if (a.N == 0 || conv_table_size(a) == 0) return zeros(x, sizes_of(arguments.weight), x.scalar_type());
  const Tensor grad_weight = device.allocate(x, sizes_of(arguments.weight), x.scalar_type());
  const Tensor tables = device.allocate(x, {a.groups, conv_table_size(a)}, x.scalar_type());
  a.x = x.const_data_ptr(), a.grad = grad.const_data_ptr();
  a.grad_tables = tables.mutable_data_ptr(), a.grad_weight = grad_weight.mutable_data_ptr();
  parallel_for(a.groups * a.parts, 1, [&](int64_t begin, int64_t end) {
    cpu::spike_conv2d_backward()(a, begin, end,
                                 static_cast<char*>(thread_scratch(static_cast<size_t>(conv_backward_scratch(a)))));
  });
  cpu::spike_conv2d_unpack()(a);
  return grad_weight;
}

SNNFAST_CPU_OPERATOR("spike_conv2d_forward", spike_conv2d_forward, "(Tensor y, Tensor bits, Tensor found)")
SNNFAST_CPU_OPERATOR("spike_conv2d_backward", spike_conv2d_backward, "Tensor",
                     "Tensor bits, Tensor found, Tensor grad_y")

}  // namespace
}  // namespace snnfast
