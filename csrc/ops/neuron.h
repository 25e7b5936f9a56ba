// What the neuron operators share: argument checks, allocation and dispatch around one scan over time.
// These checks keep memory safe whoever calls torch.ops.snnfast; the public Python functions check first, with better words.
#pragma once
#include <optional>
#include <tuple>
#include <vector>

#include "core/neuron.h"
#include "core/surrogate.h"
#include "ops/device.h"

namespace snnfast {

using Optional = std::optional<Tensor>;

struct StateArgument {
  const char* name;
  const Optional& tensor;
};
struct ParamArgument {
  const char* name;
  double value;
  const Optional& tensor;
};
struct Dynamics {
  double gain;
  bool decay_input;
  std::optional<double> v_reset;  // none: soft reset
  double v_rest;
  bool fires;
};

inline Dtype dtype_of(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Dtype::f32;
    case ScalarType::Double: return Dtype::f64;
    case ScalarType::BFloat16: return Dtype::bf16;
    case ScalarType::Half: return Dtype::f16;
    default: STD_TORCH_CHECK(false, op, ": ", name, " must be float32, float64, bfloat16 or float16"); return Dtype::f32;
  }
}

inline std::vector<int64_t> sizes_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return {sizes.begin(), sizes.end()};
}

// Everything a scan reads. Keeps the contiguous copies it had to make alive.
class NeuronInput {
 public:
  NeuronInput(const char* op, const Tensor& x, const std::vector<StateArgument>& states, const std::vector<ParamArgument>& params, const Dynamics& d)
      : op_(op), x_(x), dtype_(dtype_of(op, "x", x)) {
    STD_TORCH_CHECK(x.dim() >= 1, op, ": x must have shape [T, ...], got a tensor without dimensions");
    shape_ = sizes_of(x);
    shape_.erase(shape_.begin());
    scan.T = x.size(0);
    scan.N = 1;
    for (const int64_t s : shape_) scan.N *= s;
    scan.x = rows(x, "x");
    for (size_t k = 0; k < kMaxStates; k++) scan.state_in[k] = k < states.size() ? neuron_pointer(states[k].tensor, states[k].name) : nullptr;
    for (size_t k = 0; k < params.size(); k++) {
      scan.param[k] = param(params[k]);
      is_tensor[k] = params[k].tensor.has_value();
    }
    scan.gain = d.gain;
    scan.decay_input = d.decay_input;
    scan.v_reset = d.v_reset.value_or(0.);
    scan.v_rest = d.v_rest;
    scan.reset = !d.fires ? Reset::none : d.v_reset ? Reset::hard : Reset::soft;
  }

  NeuronScan scan{};
  bool is_tensor[kMaxParams]{};  // a tensor without elements has no data pointer

  ScalarType state_type() const { return dtype_ == Dtype::f64 ? ScalarType::Double : ScalarType::Float; }
  const std::vector<int64_t>& neuron_shape() const { return shape_; }

  Tensor nothing() const { return torch::stable::new_empty(x_, {0}, state_type()); }

  // A [T, ...] tensor as rows: in place where a row is contiguous or repeats one value, else from a contiguous copy.
  Rows rows(const Tensor& given, const char* name) {
    check_device(given, name);
    bool repeats = true, contiguous = true;
    int64_t expected = 1;
    for (int64_t d = given.dim() - 1; d >= 1; d--) {
      if (given.size(d) == 1) continue;
      repeats = repeats && given.stride(d) == 0;
      contiguous = contiguous && given.stride(d) == expected;
      expected *= given.size(d);
    }
    const Tensor& t = repeats || contiguous ? given : keep(torch::stable::contiguous(given));
    const bool row_of_one_value = repeats && !contiguous;
    return {t.const_data_ptr(), dtype_of(op_, name, t), t.dim() ? t.stride(0) : 0, row_of_one_value ? 0 : 1};
  }

  Rows optional_rows(const Optional& t, const char* name, const Tensor& like, ScalarType type) {
    if (!t) return {nullptr, Dtype::f32, 0, 1};
    STD_TORCH_CHECK(sizes_of(*t) == sizes_of(like), op_, ": ", name, " must have the shape of x");
    STD_TORCH_CHECK(t->scalar_type() == type, op_, ": ", name, " has a wrong dtype");
    return rows(*t, name);
  }

  const void* neuron_pointer(const Optional& t, const char* name) {
    if (!t) return nullptr;
    check_device(*t, name);
    STD_TORCH_CHECK(sizes_of(*t) == shape_, op_, ": ", name, " must have shape x.shape[1:]");
    STD_TORCH_CHECK(t->scalar_type() == state_type(), op_, ": ", name, " must be float64 for float64 x, else float32");
    return keep(torch::stable::contiguous(*t)).const_data_ptr();
  }

  void set_checkpoints(const Tensor& checkpoints, int64_t every, int64_t states) {
    STD_TORCH_CHECK(every >= 1, op_, ": checkpoint_every must be at least 1");
    STD_TORCH_CHECK(checkpoints.numel() == checkpoint_count(every) * states * scan.N && checkpoints.is_contiguous(), op_, ": checkpoints have a wrong shape");
    STD_TORCH_CHECK(checkpoints.scalar_type() == state_type(), op_, ": checkpoints have a wrong dtype");
    scan.checkpoint_every = every;
    scan.checkpoints = checkpoints.const_data_ptr();
  }
  int64_t checkpoint_count(int64_t every) const { return scan.T > 0 ? (scan.T - 1) / every : 0; }

 private:
  const char* op_;
  Tensor x_;
  Dtype dtype_;
  std::vector<int64_t> shape_;
  std::vector<Tensor> kept_;

  const Tensor& keep(Tensor t) {
    if (kept_.capacity() == 0) kept_.reserve(16);  // references stay valid
    kept_.push_back(std::move(t));
    return kept_.back();
  }

  void check_device(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.is_cuda() == x_.is_cuda() && t.get_device_index() == x_.get_device_index(), op_, ": ", name, " must be on the device of x");
  }

  // A parameter tensor holds one value, or covers a run of neuron dimensions with 1s around it: [C, 1, 1] for [B, C, H, W].
  Param param(const ParamArgument& p) {
    if (!p.tensor) return {nullptr, p.value, 1, 1};
    const Tensor& t = *p.tensor;
    check_device(t, p.name);
    STD_TORCH_CHECK(t.scalar_type() == state_type(), op_, ": ", p.name, " must be float64 for float64 x, else float32");
    int64_t count = 1, inner = 1, d = static_cast<int64_t>(shape_.size()) - 1, k = t.dim() - 1;
    STD_TORCH_CHECK(t.dim() <= static_cast<int64_t>(shape_.size()), op_, ": ", p.name, " has more dimensions than x.shape[1:]");
    for (; k >= 0 && t.size(k) == 1; k--, d--) inner *= shape_[d];
    for (; k >= 0 && t.size(k) == shape_[d]; k--, d--) count *= shape_[d];
    for (; k >= 0 && t.size(k) == 1; k--, d--) {
    }
    STD_TORCH_CHECK(k < 0, op_, ": ", p.name, " must be one value or cover a run of the dimensions of x.shape[1:], with 1 for the others");
    return {keep(torch::stable::contiguous(t)).const_data_ptr(), p.value, count, inner > 0 ? inner : 1};
  }
};

using ForwardResult = std::tuple<Tensor, std::vector<Tensor>, Tensor, Tensor>;  // spikes, states, v_seq, checkpoints

// run(device, NeuronForward) launches the scan.
template <class Neuron, class Device, class Run>
ForwardResult neuron_forward(NeuronInput& input, const Tensor& x, bool return_state, bool return_v_seq, int64_t checkpoint_every, const Run& run) {
  const Device device(x);
  NeuronForward a{};
  static_cast<NeuronScan&>(a) = input.scan;
  const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type) {
    return wanted ? device.allocate(x, shape, type) : input.nothing();
  };
  const bool fires = a.reset != Reset::none;
  const Tensor spikes = output(fires, sizes_of(x), x.scalar_type());
  const Tensor v_seq = output(return_v_seq, sizes_of(x), input.state_type());
  std::vector<int64_t> checkpoint_shape = input.neuron_shape();
  checkpoint_shape.insert(checkpoint_shape.begin(), {checkpoint_every ? input.checkpoint_count(checkpoint_every) : 0, Neuron::kStates});
  const Tensor checkpoints = output(checkpoint_every > 0, checkpoint_shape, input.state_type());
  std::vector<Tensor> states;
  for (int k = 0; k < Neuron::kStates; k++) {
    states.push_back(output(return_state, input.neuron_shape(), input.state_type()));
    a.state_out[k] = return_state ? states.back().mutable_data_ptr() : nullptr;
  }
  a.spikes = fires ? spikes.mutable_data_ptr() : nullptr;
  a.v_seq = return_v_seq ? v_seq.mutable_data_ptr() : nullptr;
  a.checkpoints_out = checkpoint_every > 0 ? checkpoints.mutable_data_ptr() : nullptr;
  a.checkpoint_every = checkpoint_every;
  if (a.N > 0) run(device, a);
  return {spikes, states, v_seq, checkpoints};
}

struct OutputGradients {
  const Optional& spikes;
  std::vector<StateArgument> states;
  const Optional& v_seq;
};
struct BackwardResult {
  Tensor x;
  std::vector<Tensor> states, params;
};

template <class Neuron, class Device, class Run>
BackwardResult neuron_backward(NeuronInput& input, const Tensor& x, const Tensor& checkpoints, int64_t checkpoint_every, const OutputGradients& g,
                               int64_t surrogate, double alpha, bool detach_reset, bool state_needed, const Run& run) {
  const Device device(x);
  STD_TORCH_CHECK(surrogate >= 0 && surrogate < static_cast<int64_t>(Surrogate::count), "snnfast: there is no surrogate number ", surrogate);
  input.set_checkpoints(checkpoints, checkpoint_every, Neuron::kStates);
  NeuronBackward a{};
  static_cast<NeuronScan&>(a) = input.scan;
  a.grad_spikes = input.optional_rows(g.spikes, "grad_spikes", x, x.scalar_type());
  a.grad_v_seq = input.optional_rows(g.v_seq, "grad_v_seq", x, input.state_type());
  for (int k = 0; k < Neuron::kStates; k++) a.grad_state_out[k] = input.neuron_pointer(g.states[k].tensor, g.states[k].name);
  a.surrogate = static_cast<int32_t>(surrogate);
  a.alpha = alpha;
  a.detach_reset = detach_reset;
  BackwardResult result{device.allocate(x, sizes_of(x), x.scalar_type()), {}, {}};
  a.grad_x = result.x.mutable_data_ptr();
  const auto per_neuron = [&](bool wanted, std::vector<Tensor>& results) -> void* {
    results.push_back(wanted ? device.allocate(x, input.neuron_shape(), input.state_type()) : input.nothing());
    return wanted ? results.back().mutable_data_ptr() : nullptr;
  };
  for (int k = 0; k < Neuron::kStates; k++) a.grad_state_in[k] = per_neuron(state_needed, result.states);
  for (int k = 0; k < Neuron::kParams; k++) a.grad_param[k] = per_neuron(input.is_tensor[k], result.params);
  if (a.N > 0) run(device, a);
  return result;
}

}  // namespace snnfast
