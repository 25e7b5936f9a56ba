#include "core/diehl_cook_conductance.h"

#include "cpu/dispatch.h"
#include "ops/plasticity.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(diehl_cook_conductance_memory, (const DiehlCookConductance&, int64_t* shared, int64_t* own, int64_t* encoding))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_prepare, (const DiehlCookConductance&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_encode, (const DiehlCookConductance&, int64_t p, char* memory, const SpikeTrain&))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_present, (const DiehlCookConductance&, char* shared, char* own, const SpikeTrain&, int64_t p))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_finish, (const DiehlCookConductance&, char* shared))

#define SNNFAST_DIEHL_COOK_CONDUCTANCE_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                                     \
  FIELD(Changed, theta)                                 \
  FIELD(PresentationsArguments, x)                      \
  FIELD(Optional, delays)                               \
  FIELD(int64_t, longest_delay)                         \
  FIELD(bool, learns)                                   \
  FIELD(PlasticityArguments, rule)                      \
  FIELD(std::vector<double>, exc)                       \
  FIELD(std::vector<double>, inh)                       \
  FIELD(std::vector<double>, numbers)                   \
  FIELD(int64_t, refractory)                            \
  FIELD(int64_t, refractory_inh)                        \
  FIELD(int64_t, rest_steps)                            \
  FIELD(ChangedList, state)                             \
  FIELD(bool, carry)                                    \
  FIELD(bool, return_spikes)

namespace snnfast {

int64_t diehl_cook_conductance_workspace(const DiehlCookConductance&);
int launch_diehl_cook_conductance(const DiehlCookConductance&, void* workspace, void* stream);

namespace {

constexpr const char* kOp = "diehl_cook_conductance";

void run_on_cpu(const DiehlCookConductance& a, const Tensor& w) {
  int64_t shared_bytes, own_bytes, encoding;
  cpu::diehl_cook_conductance_memory()(a, &shared_bytes, &own_bytes, &encoding);
  const WorkMemory shared(w, shared_bytes);
  cpu::diehl_cook_conductance_prepare()(a, shared.get());
  const auto encode = [&](int64_t p, char* memory, const SpikeTrain& train) { cpu::diehl_cook_conductance_encode()(a, p, memory, train); };
  const auto present = [&](char* own, const SpikeTrain& train, int64_t p) { cpu::diehl_cook_conductance_present()(a, shared.get(), own, train, p); };
  if (a.changes() || a.state.v)
    present_in_order(w, a.x, own_bytes, encoding, encode, present);
  else
    present_in_parallel(w, a.x, own_bytes, encoding, encode, present);
  cpu::diehl_cook_conductance_finish()(a, shared.get());
}

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

DiehlCookConductanceState state_of(const std::vector<Tensor>& s, const Tensor& w, int64_t longest) {
  if (s.empty()) return {};
  STD_TORCH_CHECK(s.size() == 12, kOp, ": state must have 12 tensors, got ", s.size());
  const int64_t N = w.size(0), I = w.size(1);
  const ScalarType c = w.scalar_type();
  for (int k : {0, 1, 2, 4, 5, 9, 10}) check_like(kOp, "state", s[k], w, c, {N});
  for (int k : {3, 6}) check_like(kOp, "refractory", s[k], w, ScalarType::Int, {N});
  for (int k : {7, 8}) check_like(kOp, "trace_pre", s[k], w, c, {longest + 1, I});
  check_like(kOp, "last_inputs", s[11], w, ScalarType::Bool, {longest, I});
  for (const Tensor& t : s) STD_TORCH_CHECK(t.is_contiguous(), kOp, ": state must be contiguous");
  return {pointer<void>(s[0]),    pointer<void>(s[1]), pointer<void>(s[2]), pointer<void>(s[4]), pointer<void>(s[5]),  pointer<int32_t>(s[3]),
          pointer<int32_t>(s[6]), pointer<void>(s[7]), pointer<void>(s[8]), pointer<void>(s[9]), pointer<void>(s[10]), pointer<bool>(s[11])};
}

SNNFAST_ARGUMENTS(Arguments, SNNFAST_DIEHL_COOK_CONDUCTANCE_ARGUMENTS)

// exc, inh: rate, v_rest, v_reset, v_threshold. numbers: e_exc, e_inh, decay_exc, decay_inh, mean_exc, mean_inh, w_exc_inh,
// w_inh_exc, theta_plus, theta_decay, norm (0: none).
template <class Device>
std::tuple<Tensor, Tensor> diehl_cook_conductance(const Arguments& arguments) {
  const Tensor& w = arguments.w.tensor;
  const Tensor& theta = arguments.theta.tensor;
  const Optional& delays = arguments.delays;
  const int64_t longest_delay = arguments.longest_delay;
  const std::vector<double>& exc = arguments.exc;
  const std::vector<double>& inh = arguments.inh;
  const std::vector<double>& numbers = arguments.numbers;
  const int64_t refractory = arguments.refractory;
  const int64_t refractory_inh = arguments.refractory_inh;
  const int64_t rest_steps = arguments.rest_steps;
  const std::vector<Tensor>& state = arguments.state.tensors;
  const bool carry = arguments.carry;
  const bool return_spikes = arguments.return_spikes;
  STD_TORCH_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, kOp, ": w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 2, kOp, ": w must have shape [N, I]");
  const int64_t N = w.size(0), most = int64_t{1} << 31;
  check_like(kOp, "theta", theta, w, ScalarType::Double, {N});
  STD_TORCH_CHECK(theta.is_contiguous(), kOp, ": theta must be contiguous");
  STD_TORCH_CHECK(exc.size() == 4 && inh.size() == 4 && numbers.size() == 11, kOp, ": exc and inh must be 4 numbers, numbers 11");
  STD_TORCH_CHECK(0 <= refractory && refractory < most && 0 <= refractory_inh && refractory_inh < most && 0 <= rest_steps, kOp,
                  ": times must be at least 0 steps");
  STD_TORCH_CHECK(0 <= longest_delay && longest_delay < 256 && (delays || longest_delay == 0), kOp, ": longest_delay is not that of delays");
  const Device device(w);
  std::vector<Tensor> kept;
  DiehlCookConductance a{};
  a.x = presentations_of(kOp, device, w, arguments.x, kept);
  STD_TORCH_CHECK(a.x.T + rest_steps < most, kOp, ": a presentation must have less than 2^31 steps");
  Tensor contiguous_delays = w;
  if (delays) {
    check_like(kOp, "delays", *delays, w, ScalarType::Byte, {N, a.x.I});
    contiguous_delays = torch::stable::contiguous(*delays);
    a.delays = contiguous_delays.const_data_ptr<uint8_t>();
  }
  a.N = N;
  a.rest_steps = rest_steps;
  a.f64 = w.scalar_type() == ScalarType::Double;
  a.w = w.mutable_data_ptr();
  a.w_stride_neuron = w.stride(0);
  a.w_stride_input = w.stride(1);
  a.theta = pointer<double>(theta);
  a.longest_delay = longest_delay;
  const Plasticity<double> rule = rule_of(kOp, arguments.rule);
  a.rule = arguments.learns ? &rule : nullptr;
  a.exc = {exc[0], exc[1], exc[2], exc[3], static_cast<int32_t>(refractory)};
  a.inh = {inh[0], inh[1], inh[2], inh[3], static_cast<int32_t>(refractory_inh)};
  a.e_exc = numbers[0], a.e_inh = numbers[1], a.decay_exc = numbers[2], a.decay_inh = numbers[3];
  a.mean_exc = numbers[4], a.mean_inh = numbers[5], a.w_exc_inh = numbers[6], a.w_inh_exc = numbers[7];
  a.theta_plus = numbers[8], a.theta_decay = numbers[9], a.norm = numbers[10];
  a.state = state_of(state, w, longest_delay);
  a.carry = carry && a.state.v;
  Tensor counts = torch::stable::new_zeros(w, {a.x.P, N}, ScalarType::Int);
  Tensor raster = torch::stable::new_zeros(w, {return_spikes ? a.x.P : 0, a.steps(), N}, ScalarType::Bool);
  if (a.x.P == 0 || N == 0) return {counts, raster};
  a.counts = pointer<int32_t>(counts);
  a.spikes = return_spikes ? pointer<bool>(raster) : nullptr;
  if constexpr (Device::kCuda) {
    Tensor workspace = torch::stable::new_empty(w, {diehl_cook_conductance_workspace(a)}, ScalarType::Byte);
    device.launch(kOp, [&](void* stream) { return launch_diehl_cook_conductance(a, workspace.mutable_data_ptr(), stream); });
  } else {
    run_on_cpu(a, w);
  }
  return {counts, raster};
}

template <class Library>
void schemas(Library& m) {
  m.def(schema<Arguments>("diehl_cook_conductance_", "(Tensor counts, Tensor spikes)").c_str());
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("diehl_cook_conductance_", SNNFAST_BOX(Arguments, diehl_cook_conductance<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
