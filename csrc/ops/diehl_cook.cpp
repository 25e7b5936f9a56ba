#include "core/diehl_cook.h"

#include "cpu/dispatch.h"
#include "ops/diehl_cook.h"

#define SNNFAST_DIEHL_COOK_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                         \
  FIELD(Changed, theta)                     \
  FIELD(PresentationsArguments, x)          \
  FIELD(bool, learns)                       \
  FIELD(PlasticityArguments, rule)          \
  FIELD(double, norm)                       \
  FIELD(double, decay)                      \
  FIELD(double, v_threshold)                \
  FIELD(double, v_reset)                    \
  FIELD(int64_t, refractory)                \
  FIELD(double, inhibition)                 \
  FIELD(int64_t, inhibition_delay)          \
  FIELD(bool, one_winner)                   \
  FIELD(double, theta_plus)                 \
  FIELD(double, theta_decay)                \
  FIELD(Optional, numbers)                  \
  FIELD(ChangedList, state)                 \
  FIELD(bool, carry)                        \
  FIELD(bool, return_spikes)                \
  FIELD(bool, return_state)

SNNFAST_CPU_KERNEL(diehl_cook_memory, (const DiehlCook&, int64_t* shared, int64_t* local, int64_t* encoding))
SNNFAST_CPU_KERNEL(diehl_cook_prepare, (const DiehlCook&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_finish, (const DiehlCook&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_encode, (const DiehlCook&, int64_t p, char* memory, const SpikeTrain&))
SNNFAST_CPU_KERNEL(diehl_cook_present, (const DiehlCook&, char* shared, char* local, const SpikeTrain&, int64_t p))

namespace snnfast {

int64_t diehl_cook_workspace(const DiehlCook&);
int launch_diehl_cook(const DiehlCook&, void* workspace, void* stream);

namespace {

constexpr const char* kOp = "diehl_cook_";

SNNFAST_ARGUMENTS(Arguments, SNNFAST_DIEHL_COOK_ARGUMENTS)

DiehlCookState state_of(const std::vector<Tensor>& tensors, const Tensor& w, int64_t delay) {
  DiehlCookState s{};
  if (tensors.empty()) return s;
  const int64_t N = w.size(-2), I = w.size(-1);
  const ScalarType c = w.scalar_type();
  StateTensors state(kOp, tensors, w, 8);
  state.take(s.v, "state_v", c, {N});
  state.take(s.refractory, "state_refractory", ScalarType::Int, {N});
  state.take(s.trace_pre, "state_trace_pre", c, {I});
  state.take(s.trace_pre2, "state_trace_pre2", c, {I});
  state.take(s.trace_post, "state_trace_post", c, {N});
  state.take(s.trace_post2, "state_trace_post2", c, {N});
  state.take(s.last_input, "state_last_input", ScalarType::Bool, {I});
  state.take(s.last_spikes, "state_last_spikes", ScalarType::Bool, {delay, N});
  return s;
}

template <class Device>
std::tuple<Tensor, Tensor> diehl_cook(const Arguments& from) {
  const Tensor& w = from.w.tensor;
  const int64_t most = int64_t{1} << 31;
  SNNFAST_CHECK(0 <= from.refractory && from.refractory < most, kOp, ": refractory must be 0 to 2^31 - 1 steps, got ",
                from.refractory);
  SNNFAST_CHECK(0 <= from.inhibition_delay && from.inhibition_delay < most, kOp,
                ": inhibition_delay must be 0 to 2^31 - 1 steps, got ", from.inhibition_delay);
  const Device device(w);
  DiehlCook a{};
  NetworkTensors tensors;
  enter_weights(kOp, device, from, w.scalar_type(), a, tensors);
  a.theta = tensors.theta.mutable_data_ptr();
  a.decay = from.decay;
  a.v_threshold = from.v_threshold;
  a.v_reset = from.v_reset;
  a.refractory = static_cast<int32_t>(from.refractory);
  a.inhibition = from.inhibition;
  a.inhibition_delay = from.inhibition_delay;
  a.one_winner = from.one_winner;
  a.state = state_of(from.state.tensors, w, from.inhibition_delay);
  return present(from, a, tensors, [&] {
    if constexpr (Device::kCuda) {
      Tensor workspace = device.allocate(w, {diehl_cook_workspace(a)}, ScalarType::Byte);
      device.launch(kOp, [&](void* stream) { return launch_diehl_cook(a, workspace.mutable_data_ptr(), stream); });
    } else {
      present_on_cpu<DiehlCook>(a, w,
                                {cpu::diehl_cook_memory(), cpu::diehl_cook_prepare(), cpu::diehl_cook_encode(),
                                 cpu::diehl_cook_present(), cpu::diehl_cook_finish()});
    }
  });
}

SNNFAST_OPERATOR("diehl_cook_", diehl_cook, "(Tensor counts, Tensor spikes)")

}  // namespace
}  // namespace snnfast
