#include "core/diehl_cook_conductance.h"

#include "cpu/dispatch.h"
#include "ops/diehl_cook.h"

#define SNNFAST_DIEHL_COOK_CONDUCTANCE_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                                     \
  FIELD(Changed, theta)                                 \
  FIELD(PresentationsArguments, x)                      \
  FIELD(int64_t, rest_steps)                            \
  FIELD(Optional, delays)                               \
  FIELD(int64_t, longest_delay)                         \
  FIELD(bool, learns)                                   \
  FIELD(PlasticityArguments, rule)                      \
  FIELD(double, norm)                                   \
  FIELD(PopulationArguments, exc)                       \
  FIELD(PopulationArguments, inh)                       \
  FIELD(ConductancesArguments, g)                       \
  FIELD(double, theta_plus)                             \
  FIELD(double, theta_decay)                            \
  FIELD(Optional, numbers)                              \
  FIELD(ChangedList, state)                             \
  FIELD(bool, carry)                                    \
  FIELD(bool, return_spikes)                            \
  FIELD(bool, return_state)

SNNFAST_CPU_KERNEL(diehl_cook_conductance_memory,
                   (const DiehlCookConductance&, int64_t* shared, int64_t* local, int64_t* encoding))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_prepare, (const DiehlCookConductance&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_encode,
                   (const DiehlCookConductance&, int64_t p, char* memory, const SpikeTrain&))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_present,
                   (const DiehlCookConductance&, char* shared, char* local, const SpikeTrain&, int64_t p))
SNNFAST_CPU_KERNEL(diehl_cook_conductance_finish, (const DiehlCookConductance&, char* shared))

namespace snnfast {

namespace {

constexpr const char* kOp = "diehl_cook_conductance_";

SNNFAST_ARGUMENTS(PopulationArguments, SNNFAST_POPULATION_ARGUMENTS)
SNNFAST_ARGUMENTS(ConductancesArguments, SNNFAST_CONDUCTANCES_ARGUMENTS)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_DIEHL_COOK_CONDUCTANCE_ARGUMENTS)

DiehlCookConductanceState state_of(const std::vector<Tensor>& tensors, const Tensor& w, int64_t longest_delay) {
  DiehlCookConductanceState s{};
  if (tensors.empty()) return s;
  const int64_t N = w.size(-2), I = w.size(-1);
  const ScalarType c = w.scalar_type();
  StateTensors state(kOp, tensors, w, 12);
  state.take(s.v, "state_v", c, {N});
  state.take(s.g_exc, "state_g_exc", c, {N});
  state.take(s.g_inh, "state_g_inh", c, {N});
  state.take(s.refractory, "state_refractory", ScalarType::Int, {N});
  state.take(s.v_inh, "state_v_inh", c, {N});
  state.take(s.g_exc_inh, "state_g_exc_inh", c, {N});
  state.take(s.refractory_inh, "state_refractory_inh", ScalarType::Int, {N});
  state.take(s.trace_pre, "state_trace_pre", c, {longest_delay + 1, I});
  state.take(s.trace_pre2, "state_trace_pre2", c, {longest_delay + 1, I});
  state.take(s.trace_post, "state_trace_post", c, {N});
  state.take(s.trace_post2, "state_trace_post2", c, {N});
  state.take(s.last_inputs, "state_last_inputs", ScalarType::Bool, {longest_delay, I});
  return s;
}

template <class Device>
std::tuple<Tensor, Tensor> diehl_cook_conductance(const Arguments& from) {
  const Tensor& w = from.w.tensor;
  const int64_t most = int64_t{1} << 31;
  for (const int64_t steps : {from.exc.refractory, from.inh.refractory, from.rest_steps})
    SNNFAST_CHECK(0 <= steps && steps < most, kOp, ": refractory and rest_steps must be 0 to 2^31 - 1 steps, got ",
                  steps);
  SNNFAST_CHECK(0 <= from.longest_delay && from.longest_delay < 256 && (from.delays || from.longest_delay == 0), kOp,
                ": longest_delay must be 0 to 255 steps, and 0 without delays, got ", from.longest_delay);
  const Device device(w);
  DiehlCookConductance a{};
  NetworkTensors tensors;
  enter_weights(kOp, device, from, ScalarType::Double, a, tensors);
  a.theta = pointer<double>(tensors.theta);
  SNNFAST_CHECK(a.x.T + from.rest_steps < most, kOp,
                ": a presentation must have fewer than 2^31 steps with its rest, got ", a.x.T, " and ",
                from.rest_steps);
  a.rest_steps = from.rest_steps;
  if (from.delays) {
    check_like(kOp, "delays", *from.delays, w, ScalarType::Byte, of_networks(w, {a.N, a.x.I}));
    a.delays = tensors.copies.emplace_back(contiguous_of(*from.delays)).template const_data_ptr<uint8_t>();
  }
  a.longest_delay = from.longest_delay;
  a.exc = population(from.exc);
  a.inh = population(from.inh);
  a.g = conductances(from.g);
  a.state = state_of(from.state.tensors, w, from.longest_delay);
  return present(from, a, tensors, [&] {
    present_on_cpu<DiehlCookConductance>(a, w,
                                         {cpu::diehl_cook_conductance_memory(), cpu::diehl_cook_conductance_prepare(),
                                          cpu::diehl_cook_conductance_encode(), cpu::diehl_cook_conductance_present(),
                                          cpu::diehl_cook_conductance_finish()});
  });
}

SNNFAST_CPU_OPERATOR("diehl_cook_conductance_", diehl_cook_conductance, "(Tensor counts, Tensor spikes)")

}  // namespace
}  // namespace snnfast
