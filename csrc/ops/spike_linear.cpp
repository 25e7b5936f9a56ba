#include "core/spike_linear.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "ops/neuron.h"
#include "ops/scratch.h"
#include "ops/spike_bits.h"

SNNFAST_CPU_KERNEL(spike_transpose, (const SpikeTranspose&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spike_counts, (const SpikeLists&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spike_lists, (const SpikeLists&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spike_sums, (const SpikeSums&, int64_t block, int64_t begin, int64_t end, char* scratch))
SNNFAST_CPU_KERNEL(few_outputs_backward, (const FewOutputs&, int64_t begin, int64_t end))

#define SNNFAST_SPIKE_LINEAR_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                            \
  FIELD(Tensor, weight)                       \
  FIELD(Optional, bias)                       \
  FIELD(int64_t, method)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPIKE_LINEAR_ARGUMENTS)

constexpr const char* kOp = "spike_linear";
enum Method : int64_t { kAuto, kEvents, kDense };

void check(const char* name, const Tensor& t, const Tensor& weight, ScalarType type,
           const std::vector<int64_t>& shape) {
  check_tensor(kOp, name, t, type, shape, "weight", weight);
}

// Weights and sizes, for both passes; inputs are rows.
struct Layer {
  Tensor weight;  // with contiguous rows or columns
  int64_t rows = 0, inputs, outputs;
  bool int8;    // weights, summed in int32
  Dtype dtype;  // if int8, one of the width of the sums
  ScalarType type;

  explicit Layer(const Tensor& w)
      : weight(w),
        int8(w.scalar_type() == ScalarType::Char),
        dtype(int8 ? Dtype::f32 : dtype_of(kOp, "weight", w)),
        type(w.scalar_type()) {
    SNNFAST_CHECK(w.dim() == 2, kOp, ": weight must have shape [out, in], got ", shape_of(w));
    outputs = w.size(0), inputs = w.size(1);
    const bool by_rows = w.stride(1) == 1 || inputs == 1, by_columns = w.stride(0) == 1 || outputs == 1;
    if (!by_rows && !by_columns) weight = contiguous_of(w);
  }

  // Number of rows of a [..., size] tensor.
  int64_t rows_of(const char* name, const Tensor& t, int64_t size) const {
    SNNFAST_CHECK(t.dim() >= 1 && t.size(-1) == size, kOp, ": ", name, " must have shape [..., ", size, "], got ",
                  shape_of(t));
    std::vector<int64_t> shape = sizes_of(t);
    elements(kOp, shape);
    shape.pop_back();
    const int64_t n = elements(kOp, shape);
    elements(kOp, {n, std::max(inputs, outputs) + 64});
    return n;
  }

  ScalarType sum_type() const { return int8 ? ScalarType::Int : type; }

  bool input_major() const { return weight.stride(0) == 1 || outputs == 1; }

  // Whether sums read the weights directly: they have the type of the sums, and those of an input are contiguous.
  // If the rows share few cache sets, a copy pays from 64 rows of inputs on.
  bool in_place() const {
    const int64_t stride = weight.stride(1) * static_cast<int64_t>(weight.element_size());
    return input_major() && (dtype == Dtype::f32 || dtype == Dtype::f64) && (stride % 1024 != 0 || rows < 64);
  }
};

SpikeBits bits_of(const Layer& layer, const Tensor& bits) {
  SpikeBits a{};
  a.rows = layer.rows, a.inputs = layer.inputs, a.words = (layer.inputs + 63) / 64;
  a.dtype = layer.dtype;
  a.bits = static_cast<uint64_t*>(bits.mutable_data_ptr());
  return a;
}

Tensor ones(const Layer& layer, const Tensor& bits, const std::vector<int64_t>& shape) {
  const Tensor x = Cpu(bits).allocate(layer.weight, shape, layer.type);
  const SpikeBits a = bits_of(layer, bits);
  in_parallel(a.rows, a.inputs,
              [&](int64_t begin, int64_t end) { cpu::spike_values()(a, begin, end, x.mutable_data_ptr()); });
  return x;
}

// result = bias + sums over the events of the rows of `bits`; their values are in x, with strides x_row and x_column.
void sum_events(const Layer& layer, const SpikeBits& bits, int64_t x_row, int64_t x_column, bool scaled, SpikeSums a) {
  const Cpu device(layer.weight);
  SpikeLists lists{};
  lists.of = bits, lists.x_row = x_row, lists.x_column = x_column;
  a.N = bits.rows, a.K = bits.inputs, a.O = layer.outputs, a.dtype = layer.dtype, a.int8 = layer.int8;
  a.chunks = std::max<int64_t>((a.K + kSpikeChunk - 1) / kSpikeChunk, 1);
  a.chunk = std::max<int64_t>(((a.K + a.chunks - 1) / a.chunks + 63) / 64 * 64, 64);
  lists.chunk = a.chunk, lists.chunks = a.chunks;

  const int64_t count = a.N * a.chunks, work = bits.words * 4;
  const Tensor starts = device.allocate(layer.weight, {count + 1}, ScalarType::Long);
  lists.starts = static_cast<int64_t*>(starts.mutable_data_ptr());
  in_parallel(a.N, work, [&](int64_t begin, int64_t end) { cpu::spike_counts()(lists, begin, end); });
  int64_t events = 0;
  for (int64_t k = 0; k < count; k++) {
    const int64_t here = lists.starts[k];
    lists.starts[k] = events;
    events += here;
  }
  lists.starts[count] = events;
  const Tensor indices = device.allocate(layer.weight, {events}, ScalarType::Int);
  const Tensor values =
      device.allocate(layer.weight, {scaled ? events : 0},
                      layer.dtype == Dtype::f64 ? ScalarType::Double : ScalarType::Float);  // int32, too
  lists.indices = static_cast<int32_t*>(indices.mutable_data_ptr());
  lists.values = scaled ? values.mutable_data_ptr() : nullptr;
  in_parallel(a.N, 4 * work, [&](int64_t begin, int64_t end) { cpu::spike_lists()(lists, begin, end); });

  a.starts = lists.starts, a.indices = lists.indices, a.values = lists.values;
  // A thread takes a block of outputs, or a part of its results where there are fewer blocks than threads.
  const int64_t width = kSpikeBlock / (layer.dtype == Dtype::f64 ? 8 : 4), blocks = (a.O + width - 1) / width;
  const int64_t threads = static_cast<int64_t>(torch::stable::get_num_threads());
  const int64_t parts = std::max<int64_t>(std::min((threads + blocks - 1) / blocks, a.N / 256), 1),
                part = (a.N + parts - 1) / parts;
  const size_t scratch = static_cast<size_t>(kSpikeBlock * (kSpikeChunk + kSpikeTile));
  in_parallel(blocks * parts, (events / 8 + a.K) * width / parts, [&](int64_t begin, int64_t end) {
    char* memory = static_cast<char*>(thread_scratch(scratch));
    for (int64_t k = begin; k < end; k++)
      cpu::spike_sums()(a, k / parts, k % parts * part, std::min((k % parts + 1) * part, a.N), memory);
  });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Optional& bias) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(x), from(weight), from(bias)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor> spike_linear_forward(const Arguments& arguments) {
  Layer layer(arguments.weight);
  const Optional& bias = arguments.bias;
  layer.rows = layer.rows_of("x", arguments.x, layer.inputs);
  const ScalarType type = arguments.x.scalar_type();
  SNNFAST_CHECK(type == layer.type || type == ScalarType::Bool, kOp, ": x must be ", text_of(layer.type),
                ", the dtype of weight, or bool, got ", text_of(type));
  check("x", arguments.x, layer.weight, type, sizes_of(arguments.x));
  if (bias) check("bias", *bias, layer.weight, layer.sum_type(), {layer.outputs});
  SNNFAST_CHECK(arguments.method >= kAuto && arguments.method <= kDense, kOp, ": method must be 0, 1 or 2, got ",
                arguments.method);
  SNNFAST_CHECK(!layer.int8 || arguments.method != kDense, kOp, ": int8 weights are summed by events, got method 2");
  if (layer.int8) check_int8(kOp, layer.inputs, bias);
  const Device device(layer.weight);
  const Tensor x = contiguous_of(arguments.x);
  const Tensor bits = device.allocate(x, {layer.rows, (layer.inputs + 63) / 64}, ScalarType::Long);
  const Tensor found = device.allocate(x, {kFound}, ScalarType::Long);
  SpikeBits spikes = bits_of(layer, bits);
  spikes.x = x.const_data_ptr();
  spikes.bytes = type == ScalarType::Bool || layer.int8;
  const auto [nonzeros, others] = find_bits(spikes);
  const bool by_events = layer.int8                  ? true
                         : arguments.method == kAuto ? spikes_by_events(nonzeros, layer.rows, layer.inputs,
                                                                        layer.outputs, layer.dtype, layer.in_place())
                                                     : arguments.method == kEvents;
  int64_t* words = static_cast<int64_t*>(found.mutable_data_ptr());
  words[kNonzeros] = nonzeros, words[kOthers] = others, words[kByEvents] = by_events;
  std::vector<int64_t> shape = sizes_of(x);
  if (!by_events) return {linear(spikes.bytes ? ones(layer, bits, shape) : x, layer.weight, bias), bits, found};
  shape.back() = layer.outputs;
  const Tensor y = device.allocate(x, shape, layer.sum_type());
  if (layer.rows == 0 || layer.outputs == 0) return {y, bits, found};
  const Tensor kept = bias ? contiguous_of(*bias) : layer.weight;
  SpikeSums a{};
  a.source = layer.weight.const_data_ptr();
  a.source_row = layer.input_major() ? layer.weight.stride(1) : 1,
  a.source_column = layer.input_major() ? 1 : layer.weight.stride(0);
  a.in_place = layer.in_place();
  a.bias = bias ? kept.const_data_ptr() : nullptr;
  a.result = y.mutable_data_ptr();
  a.result_row = layer.outputs, a.result_column = 1;
  sum_events(layer, spikes, layer.inputs, 1, others > 0, a);
  return {y, bits, found};
}

// Computes the gradient of x from that of y, both as rows.
Tensor grad_inputs(const Layer& layer, const Tensor& grad) {
  if (!has_few_outputs(layer.outputs, layer.inputs, layer.dtype)) return torch::stable::matmul(grad, layer.weight);
  const Tensor weight = contiguous_of(layer.weight),
               grad_x = Cpu(weight).allocate(weight, {layer.rows, layer.inputs}, layer.type);
  const FewOutputs a{layer.outputs,
                     layer.inputs,
                     layer.dtype,
                     grad.const_data_ptr(),
                     weight.const_data_ptr(),
                     grad_x.mutable_data_ptr()};
  in_parallel(layer.rows, layer.inputs * layer.outputs / 8,
              [&](int64_t begin, int64_t end) { cpu::few_outputs_backward()(a, begin, end); });
  return grad_x;
}

// Returns the gradients of x, weight and bias; those not needed are empty. x may be empty if its bits determine it.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> spike_linear_backward(const Arguments& arguments, Tensor bits, Tensor found,
                                                         Tensor grad_y, bool x_wanted, bool weight_wanted,
                                                         bool bias_wanted) {
  const Tensor &weight = arguments.weight, &x = arguments.x;
  Layer layer(weight);
  SNNFAST_CHECK(!layer.int8, kOp, ": int8 weights have no gradient");
  layer.rows = layer.rows_of("grad_y", grad_y, layer.outputs);
  check("grad_y", grad_y, weight, layer.type, sizes_of(grad_y));
  check("bits", bits, weight, ScalarType::Long, {layer.rows, (layer.inputs + 63) / 64});
  check("found", found, weight, ScalarType::Long, {kFound});
  check_contiguous(kOp, "bits", bits);
  check_contiguous(kOp, "found", found);
  std::vector<int64_t> shape = sizes_of(grad_y);
  shape.back() = layer.inputs;
  const bool scaled = x.scalar_type() != ScalarType::Bool && x.numel() > 0;
  if (scaled) check("x", x, weight, layer.type, shape);
  const Device device(weight);
  const auto nothing = [&] { return device.allocate(weight, {0}, layer.type); };
  const Tensor grad = contiguous_of(grad_y), by_row = torch::stable::view(grad, {layer.rows, layer.outputs});
  const Tensor grad_x = x_wanted ? torch::stable::view(grad_inputs(layer, by_row), shape) : nothing();
  const std::vector<int64_t> over_rows{0};
  const Tensor grad_bias = bias_wanted ? torch::stable::sum(by_row, over_rows) : nothing();
  if (!weight_wanted) return {grad_x, nothing(), grad_bias};
  const Tensor kept = scaled ? contiguous_of(x) : grad;
  if (!static_cast<const int64_t*>(found.const_data_ptr())[kByEvents]) {
    const Tensor values =
        scaled ? torch::stable::view(kept, {layer.rows, layer.inputs}) : ones(layer, bits, {layer.rows, layer.inputs});
    return {grad_x, torch::stable::matmul(torch::stable::transpose(by_row, 0, 1), values), grad_bias};
  }
  const Tensor grad_weight = device.allocate(weight, {layer.outputs, layer.inputs}, layer.type);
  if (layer.inputs == 0 || layer.outputs == 0) return {grad_x, grad_weight, grad_bias};
  SpikeBits spikes = bits_of(layer, bits);
  spikes.x = scaled ? kept.const_data_ptr() : nullptr;
  SpikeSums a{};
  a.in_blocks = true;
  a.source = grad.const_data_ptr();
  a.source_row = layer.outputs, a.source_column = 1;
  a.result = grad_weight.mutable_data_ptr();
  a.result_row = 1, a.result_column = layer.inputs;
  SpikeBits of_inputs = spikes;
  of_inputs.rows = layer.inputs, of_inputs.inputs = layer.rows, of_inputs.words = (layer.rows + 63) / 64;
  const Tensor transposed = device.allocate(weight, {of_inputs.rows, of_inputs.words}, ScalarType::Long);
  of_inputs.bits = static_cast<uint64_t*>(transposed.mutable_data_ptr());
  const SpikeTranspose inputs{spikes, of_inputs.words, of_inputs.bits};
  in_parallel(spikes.words, layer.rows * 8,
              [&](int64_t begin, int64_t end) { cpu::spike_transpose()(inputs, begin, end); });
  sum_events(layer, of_inputs, 1, layer.inputs, scaled, a);
  return {grad_x, grad_weight, grad_bias};
}

SNNFAST_CPU_OPERATOR("spike_linear_forward", spike_linear_forward, "(Tensor y, Tensor bits, Tensor found)")
SNNFAST_CPU_OPERATOR("spike_linear_backward", spike_linear_backward,
                     "(Tensor grad_x, Tensor grad_weight, Tensor grad_bias)",
                     "Tensor bits, Tensor found, Tensor grad_y, bool x_wanted, bool weight_wanted, bool bias_wanted")

}  // namespace
}  // namespace snnfast
