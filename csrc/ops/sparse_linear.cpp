#include "core/sparse_linear.h"

#include "cpu/dispatch.h"
#include "ops/recurrent.h"

SNNFAST_CPU_KERNEL(sparse_linear_forward, (const SparseLinear&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(sparse_linear_load, (const SparseLinear&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(sparse_linear_backward, (const SparseLinear&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(sparse_linear_store, (const SparseLinear&, int64_t begin, int64_t end, void* scratch))

#define SNNFAST_SPARSE_LINEAR_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                             \
  FIELD(Tensor, weight)                        \
  FIELD(Tensor, first)                         \
  FIELD(Tensor, targets)                       \
  FIELD(int64_t, outputs)

namespace snnfast {

int launch_sparse_linear_forward(const SparseLinear&, void* stream);
int launch_sparse_linear_backward(const SparseLinear&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPARSE_LINEAR_ARGUMENTS)

constexpr const char* kOp = "sparse_linear";
constexpr int64_t kStep = 1;  // the single delay

// Arguments as kernels read them; owns the contiguous copies.
class Layer {
 public:
  SparseLinear a{};
  std::vector<int64_t> shape;  // of x
  ScalarType type;             // of weights and sums

  explicit Layer(const Arguments& arguments)
      : x_(contiguous_of(arguments.x)), weight_(contiguous_of(arguments.weight)) {
    const Tensor& x = arguments.x;
    a.dtype = dtype_of(kOp, "x", x);
    type = a.dtype == Dtype::f64 ? ScalarType::Double : ScalarType::Float;
    SNNFAST_CHECK(x.dim() >= 1, kOp, ": x must have shape [..., n_pre], got ", shape_of(x));
    SNNFAST_CHECK(arguments.outputs >= 0, kOp, ": outputs must be at least 0, got ", arguments.outputs);
    shape = sizes_of(x);
    elements(kOp, shape);
    a.inputs = shape.back(), a.outputs = arguments.outputs;
    a.rows = elements(kOp, std::vector<int64_t>(shape.begin(), shape.end() - 1));
    elements(kOp, {a.rows + kSparseGroup, std::max(a.inputs, a.outputs) + 16});
    a.synapses = synapses_of(kOp, x, arguments.first, arguments.targets, &kStep, 1, a.inputs);
    const int64_t count = arguments.targets.numel();
    a.synapses.one_a_row = arguments.weight.numel() != count;
    check_tensor(kOp, "weight", arguments.weight, type, {a.synapses.one_a_row ? a.inputs : count}, "x", x);
    a.x = x_.const_data_ptr(), a.weight = weight_.const_data_ptr();
  }

  // Number of multiplications of a row.
  int64_t work() const { return a.synapses.size + a.inputs + a.outputs; }

  // Calls kernel(arguments, begin, end, scratch) for ranges of tiles.
  template <class Kernel>
  void each_tile(const Kernel& kernel) const {
    const int64_t bytes = type == ScalarType::Double ? SparseLinearMemory<double>(nullptr, a).bytes
                                                     : SparseLinearMemory<float>(nullptr, a).bytes;
    in_parallel(a.tiles(), kSparseGroup * work(),
                [&](int64_t begin, int64_t end) { kernel(a, begin, end, thread_scratch(static_cast<size_t>(bytes))); });
  }

 private:
  Tensor x_, weight_;
};

template <class Device>
Tensor sparse_linear_forward(const Arguments& arguments) {
  Layer layer(arguments);
  SparseLinear& a = layer.a;
  const Tensor& x = arguments.x;
  std::vector<int64_t> shape = layer.shape;
  shape.back() = a.outputs;
  const Device device(x);
  const Tensor y = device.allocate(x, shape, x.scalar_type());
  a.y = y.mutable_data_ptr();
  if constexpr (Device::kCuda) {
    const Tensor sums = layer.type == x.scalar_type() ? y : device.allocate(x, shape, layer.type);
    a.sums = sums.mutable_data_ptr();
    if (y.numel() > 0) device.launch(kOp, [&](void* stream) { return launch_sparse_linear_forward(a, stream); });
  } else {
    check_synapses(kOp, a.synapses, a.inputs, a.outputs);
    if (y.numel() > 0) layer.each_tile(cpu::sparse_linear_forward());
  }
  return y;
}

// Returns the gradients of x and weight; those not wanted are empty.
template <class Device>
std::tuple<Tensor, Tensor> sparse_linear_backward(const Arguments& arguments, Tensor grad_y, bool x_wanted,
                                                  bool weight_wanted) {
  Layer layer(arguments);
  SparseLinear& a = layer.a;
  const Tensor& x = arguments.x;
  std::vector<int64_t> shape = layer.shape;
  shape.back() = a.outputs;
  check_tensor(kOp, "grad_y", grad_y, x.scalar_type(), shape, "x", x);
  const Device device(x);
  const auto output = [&](bool wanted, const std::vector<int64_t>& sizes, ScalarType type) {
    return device.allocate(x, wanted ? sizes : std::vector<int64_t>{0}, type);
  };
  const Tensor grad_x = output(x_wanted, layer.shape, x.scalar_type()),
               grad_weight = output(weight_wanted, sizes_of(arguments.weight), layer.type),
               grad = contiguous_of(grad_y);
  a.grad_y = grad.const_data_ptr();
  a.grad_x = x_wanted ? grad_x.mutable_data_ptr() : nullptr;
  a.grad_weight = weight_wanted ? grad_weight.mutable_data_ptr() : nullptr;
  if constexpr (Device::kCuda) {
    device.launch(kOp, [&](void* stream) { return launch_sparse_linear_backward(a, stream); });
  } else {
    check_synapses(kOp, a.synapses, a.inputs, a.outputs);
    const Tensor tiles_in = device.allocate(x, {a.tiles(), a.tile_size(a.inputs)}, layer.type),
                 tiles_out = device.allocate(x, {a.tiles(), a.tile_size(a.outputs)}, layer.type);
    a.tiles_in = tiles_in.mutable_data_ptr(), a.tiles_out = tiles_out.mutable_data_ptr();
    layer.each_tile(cpu::sparse_linear_load());
    in_parallel(a.inputs, a.rows * layer.work() / std::max<int64_t>(a.inputs, 1) + 1,
                [&](int64_t begin, int64_t end) { cpu::sparse_linear_backward()(a, begin, end); });
    if (x_wanted) layer.each_tile(cpu::sparse_linear_store());
  }
  return {grad_x, grad_weight};
}

SNNFAST_OPERATOR("sparse_linear_forward", sparse_linear_forward, "Tensor")
SNNFAST_OPERATOR("sparse_linear_backward", sparse_linear_backward, "(Tensor grad_x, Tensor grad_weight)",
                 "Tensor grad_y, bool x_wanted, bool weight_wanted")

}  // namespace
}  // namespace snnfast
