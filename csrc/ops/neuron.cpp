#include "ops/neuron.h"

namespace snnfast {

Dtype dtype_of(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Dtype::f32;
    case ScalarType::Double: return Dtype::f64;
    case ScalarType::BFloat16: return Dtype::bf16;
    case ScalarType::Half: return Dtype::f16;
    default: fail(op, ": ", name, " must be float32, float64, bfloat16 or float16, got ", text_of(t.scalar_type()));
  }
}

NeuronTensors::NeuronTensors(const char* op, const Tensor& x)
    : op_(op), x_(x), dtype_(dtype_of(op, "x", x)), shape_(sizes_of(x)) {
  SNNFAST_CHECK(x.dim() >= 1, op, ": x must have shape [T, ...], got []");
  elements(op, shape_);
  shape_.erase(shape_.begin());
  count_ = elements(op, shape_);
  copies_.reserve(128);  // references stay valid
}

Tensor NeuronTensors::nothing() const { return fresh(x_, {0}, state_type()); }

Rows NeuronTensors::rows(const Tensor& input, const char* name, bool wide) {
  check_device(op_, name, input, "x", x_);
  bool repeats = true, contiguous = true;
  int64_t expected = 1;
  for (int64_t d = input.dim() - 1; d >= 1; d--) {
    if (input.size(d) == 1) continue;
    repeats = repeats && input.stride(d) == 0;
    contiguous = contiguous && input.stride(d) == expected;
    expected *= input.size(d);
  }
  const bool row_of_one_value = repeats && !contiguous;
  if (wide && row_of_one_value && input.size(0) > 0 && (input.size(0) == 1 || input.stride(0) == 0)) {
    Tensor whole = input;
    const Tensor& row = keep(contiguous_of(torch::stable::narrow(whole, 0, 0, 1)));
    return {row.const_data_ptr(), dtype_of(op_, name, row), 0, 1};
  }
  const Tensor& t = repeats || contiguous ? input : keep(contiguous_of(input));
  return {t.const_data_ptr(), dtype_of(op_, name, t), t.dim() ? t.stride(0) : 0, row_of_one_value ? 0 : 1};
}

Rows NeuronTensors::optional_rows(const Optional& t, const char* name, ScalarType type, bool wide) {
  if (!t) return {nullptr, Dtype::f32, 0, 1};
  check_shape(op_, name, *t, sizes_of(x_));
  check_dtype(op_, name, *t, type);
  return rows(*t, name, wide);
}

Rows NeuronTensors::past(const Optional& t, int64_t* steps) {
  if (!t) return {nullptr, dtype_, 0, 1};
  std::vector<int64_t> shape = sizes_of(*t);
  SNNFAST_CHECK(!shape.empty(), op_, ": past must have shape [P, *x.shape[1:]], got []");
  *steps = shape[0];
  shape.erase(shape.begin());
  SNNFAST_CHECK(shape == shape_, op_, ": past must have shape [P, *x.shape[1:]], x.shape[1:] = ", text_of(shape_),
                ", got ", shape_of(*t));
  check_dtype(op_, "past", *t, x_.scalar_type());
  elements(op_, sizes_of(*t));
  return rows(*t, "past");
}

const void* NeuronTensors::neurons(const Optional& t, const char* name) {
  return t ? of_shape(*t, name, shape_) : nullptr;
}

const void* NeuronTensors::of_shape(const Tensor& t, const char* name, const std::vector<int64_t>& shape) {
  check_tensor(op_, name, t, state_type(), shape, "x", x_);
  return keep(contiguous_of(t)).const_data_ptr();
}

Param NeuronTensors::param(const Parameter& p, const char* name) {
  if (!p.tensor) return {nullptr, p.value, 1, 1};
  const Tensor& t = *p.tensor;
  check_device(op_, name, t, "x", x_);
  check_dtype(op_, name, t, state_type());
  int64_t count = 1, inner = 1, d = static_cast<int64_t>(shape_.size()) - 1, k = t.dim() - 1;
  SNNFAST_CHECK(t.dim() <= static_cast<int64_t>(shape_.size()), op_, ": ", name,
                " must have no more dimensions than x.shape[1:] = ", text_of(shape_), ", got shape ", shape_of(t));
  for (; k >= 0 && t.size(k) == 1; k--, d--) inner *= shape_[d];
  for (; k >= 0 && t.size(k) == shape_[d]; k--, d--) count *= shape_[d];
  for (; k >= 0 && t.size(k) == 1; k--, d--) {
  }
  SNNFAST_CHECK(k < 0, op_, ": ", name,
                " must be one value or cover a run of the dimensions of x.shape[1:] = ", text_of(shape_),
                ", with 1 for the others, got shape ", shape_of(t));
  return {keep(contiguous_of(t)).const_data_ptr(), p.value, count, inner > 0 ? inner : 1};
}

const void* NeuronTensors::checkpoints(const Tensor& t, int64_t count, int64_t states) const {
  SNNFAST_CHECK(t.numel() == count * states * this->count(), op_, ": checkpoints must have ",
                count * states * this->count(), " elements, got shape ", shape_of(t));
  check_contiguous(op_, "checkpoints", t);
  check_dtype(op_, "checkpoints", t, state_type());
  check_device(op_, "checkpoints", t, "x", x_);
  return t.const_data_ptr();
}

void fill_scan(const NeuronCall& call, NeuronTensors& tensors, NeuronScan<AnyNeuron>& a) {
  SNNFAST_CHECK(call.fires || call.reads, call.op, ": fires must be true, got false");
  a.T = call.x.size(0);
  a.N = tensors.count();
  a.x = tensors.rows(call.x, "x");
  for (size_t k = 0; k < call.more_inputs.size(); k++) {
    const Tensor& t = call.more_inputs[k];
    check_tensor(call.op, "an input", t, call.x.scalar_type(), sizes_of(call.x), "x", call.x);
    a.more_inputs[call.input_row(static_cast<int64_t>(k))] = tensors.rows(t, "an input");
  }
  for (size_t k = 0; k < call.states.size(); k++)
    a.state_in[k] = tensors.neurons(call.states[k].second, call.states[k].first);
  for (size_t k = 0; k < call.parameters.size(); k++)
    a.param[k] = tensors.param(call.parameters[k].second, call.parameters[k].first);
  std::copy(std::begin(call.settings), std::end(call.settings), a.settings);
  a.reset = !call.fires ? Reset::none : call.hard_reset ? Reset::hard : Reset::soft;
}

const Tensor& NeuronTensors::keep(Tensor t) {
  copies_.push_back(std::move(t));
  return copies_.back();
}

}  // namespace snnfast
