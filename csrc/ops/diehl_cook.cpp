#include "core/diehl_cook.h"

#include "cpu/dispatch.h"
#include "ops/plasticity.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(diehl_cook_memory, (const DiehlCook&, int64_t* shared, int64_t* own, int64_t* encoding))
SNNFAST_CPU_KERNEL(diehl_cook_prepare, (const DiehlCook&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_finish, (const DiehlCook&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_encode, (const DiehlCook&, int64_t p, char* memory, const SpikeTrain&))
SNNFAST_CPU_KERNEL(diehl_cook_present, (const DiehlCook&, char* shared, char* own, const SpikeTrain&, int64_t p))

#define SNNFAST_DIEHL_COOK_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                         \
  FIELD(Changed, theta)                     \
  FIELD(PresentationsArguments, x)          \
  FIELD(bool, learns)                       \
  FIELD(PlasticityArguments, rule)          \
  FIELD(std::vector<double>, numbers)       \
  FIELD(int64_t, refractory)                \
  FIELD(int64_t, inhibition_delay)          \
  FIELD(bool, one_winner)                   \
  FIELD(ChangedList, state)                 \
  FIELD(bool, carry)                        \
  FIELD(bool, return_spikes)

namespace snnfast {

int64_t diehl_cook_workspace(const DiehlCook&);
int launch_diehl_cook(const DiehlCook&, void* workspace, void* stream);

namespace {

constexpr const char* kOp = "diehl_cook";

void run_on_cpu(const DiehlCook& a, const Tensor& w) {
  int64_t shared_bytes, own_bytes, encoding;
  cpu::diehl_cook_memory()(a, &shared_bytes, &own_bytes, &encoding);
  const WorkMemory shared(w, shared_bytes);
  cpu::diehl_cook_prepare()(a, shared.get());
  const auto encode = [&](int64_t p, char* memory, const SpikeTrain& train) { cpu::diehl_cook_encode()(a, p, memory, train); };
  const auto present = [&](char* own, const SpikeTrain& train, int64_t p) { cpu::diehl_cook_present()(a, shared.get(), own, train, p); };
  const bool changes = a.rule || a.theta_plus != 0 || a.theta_decay != 1 || a.carry;
  if (changes || a.state.v)
    present_in_order(w, a.x, own_bytes, encoding, encode, present);
  else
    present_in_parallel(w, a.x, own_bytes, encoding, encode, present);
  cpu::diehl_cook_finish()(a, shared.get());
}

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

DiehlCookState state_of(const std::vector<Tensor>& s, const Tensor& w, int64_t delay) {
  if (s.empty()) return {};
  STD_TORCH_CHECK(s.size() == 8, "diehl_cook: state must have 8 tensors, got ", s.size());
  const int64_t N = w.size(0), I = w.size(1);
  const ScalarType c = w.scalar_type();
  check_like(kOp, "v", s[0], w, c, {N});
  check_like(kOp, "refractory", s[1], w, ScalarType::Int, {N});
  check_like(kOp, "trace_pre", s[2], w, c, {I});
  check_like(kOp, "trace_pre2", s[3], w, c, {I});
  check_like(kOp, "trace_post", s[4], w, c, {N});
  check_like(kOp, "trace_post2", s[5], w, c, {N});
  check_like(kOp, "last_input", s[6], w, ScalarType::Bool, {I});
  check_like(kOp, "last_spikes", s[7], w, ScalarType::Bool, {delay, N});
  for (const Tensor& t : s) STD_TORCH_CHECK(t.is_contiguous(), "diehl_cook: state must be contiguous");
  return {pointer<void>(s[0]), pointer<void>(s[2]),    pointer<void>(s[3]), pointer<void>(s[4]),
          pointer<void>(s[5]), pointer<int32_t>(s[1]), pointer<bool>(s[6]), pointer<bool>(s[7])};
}

SNNFAST_ARGUMENTS(Arguments, SNNFAST_DIEHL_COOK_ARGUMENTS)

// numbers: decay, v_threshold, v_reset, inhibition, theta_plus, theta_decay, norm (0: none).
template <class Device>
std::tuple<Tensor, Tensor> diehl_cook(const Arguments& arguments) {
  const Tensor& w = arguments.w.tensor;
  const Tensor& theta = arguments.theta.tensor;
  const std::vector<double>& numbers = arguments.numbers;
  const int64_t refractory = arguments.refractory;
  const int64_t inhibition_delay = arguments.inhibition_delay;
  const bool one_winner = arguments.one_winner;
  const std::vector<Tensor>& state = arguments.state.tensors;
  const bool carry = arguments.carry;
  const bool return_spikes = arguments.return_spikes;
  STD_TORCH_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, "diehl_cook: w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 2, "diehl_cook: w must have shape [N, I]");
  const int64_t N = w.size(0);
  check_like(kOp, "theta", theta, w, w.scalar_type(), {N});
  STD_TORCH_CHECK(theta.is_contiguous(), "diehl_cook: theta must be contiguous");
  STD_TORCH_CHECK(numbers.size() == 7, "diehl_cook: numbers must be 7");
  STD_TORCH_CHECK(refractory >= 0 && refractory < (int64_t{1} << 31) && inhibition_delay >= 0, "diehl_cook: times must be at least 0 steps");
  const Device device(w);
  std::vector<Tensor> kept;
  DiehlCook a{};
  a.x = presentations_of(kOp, device, w, arguments.x, kept);
  a.N = N;
  a.f64 = w.scalar_type() == ScalarType::Double;
  a.w = w.mutable_data_ptr();
  a.w_stride_neuron = w.stride(0);
  a.w_stride_input = w.stride(1);
  a.theta = theta.mutable_data_ptr();
  const Plasticity<double> rule = rule_of(kOp, arguments.rule);
  a.rule = arguments.learns ? &rule : nullptr;
  a.decay = numbers[0], a.v_threshold = numbers[1], a.v_reset = numbers[2], a.inhibition = numbers[3];
  a.theta_plus = numbers[4], a.theta_decay = numbers[5], a.norm = numbers[6];
  a.refractory = static_cast<int32_t>(refractory);
  a.inhibition_delay = inhibition_delay;
  a.one_winner = one_winner;
  a.state = state_of(state, w, inhibition_delay);
  a.carry = carry && a.state.v;
  Tensor counts = torch::stable::new_zeros(w, {a.x.P, N}, ScalarType::Int);
  Tensor raster = torch::stable::new_zeros(w, {return_spikes ? a.x.P : 0, a.x.T, N}, ScalarType::Bool);
  if (a.x.P == 0 || N == 0) return {counts, raster};
  a.counts = pointer<int32_t>(counts);
  a.spikes = return_spikes ? pointer<bool>(raster) : nullptr;
  if constexpr (Device::kCuda) {
    Tensor workspace = torch::stable::new_empty(w, {diehl_cook_workspace(a)}, ScalarType::Byte);
    device.launch("diehl_cook", [&](void* stream) { return launch_diehl_cook(a, workspace.mutable_data_ptr(), stream); });
  } else {
    run_on_cpu(a, w);
  }
  return {counts, raster};
}

template <class Library>
void schemas(Library& m) {
  m.def(schema<Arguments>("diehl_cook_", "(Tensor counts, Tensor spikes)").c_str());
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("diehl_cook_", SNNFAST_BOX(Arguments, diehl_cook<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
