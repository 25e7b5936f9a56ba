#include "core/cuba.h"

#include "ops/neuron.h"
#include "ops/neuron_kernels.h"

SNNFAST_NEURON_KERNELS(cuba, Cuba)

namespace snnfast {
namespace {

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cuba_forward(const Tensor& x, const Optional& v, const Optional& i, double decay,
                                                                const Optional& decay_tensor, double v_threshold, const Optional& v_threshold_tensor,
                                                                double decay_syn, const Optional& decay_syn_tensor, double gain, bool decay_input,
                                                                std::optional<double> v_reset, double v_rest, bool fires, bool return_state, bool return_v_seq,
                                                                int64_t checkpoint_every) {
  NeuronInput input("cuba", x, {{"v", v}, {"i", i}},
                    {{"decay", decay, decay_tensor}, {"v_threshold", v_threshold, v_threshold_tensor}, {"decay_syn", decay_syn, decay_syn_tensor}},
                    {gain, decay_input, v_reset, v_rest, fires});
  auto [spikes, states, v_seq, checkpoints] = neuron_forward<Cuba, Device>(input, x, return_state, return_v_seq, checkpoint_every, run_cuba_forward<Device>);
  return {spikes, states[0], states[1], v_seq, checkpoints};
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> cuba_backward(const Optional& grad_spikes, const Optional& grad_v, const Optional& grad_i,
                                                                         const Optional& grad_v_seq, const Tensor& x, const Optional& v, const Optional& i,
                                                                         const Tensor& checkpoints, double decay, const Optional& decay_tensor,
                                                                         double v_threshold, const Optional& v_threshold_tensor, double decay_syn,
                                                                         const Optional& decay_syn_tensor, double gain, bool decay_input,
                                                                         std::optional<double> v_reset, double v_rest, bool fires, int64_t surrogate,
                                                                         double alpha, bool detach_reset, bool grad_state_needed, int64_t checkpoint_every) {
  NeuronInput input("cuba", x, {{"v", v}, {"i", i}},
                    {{"decay", decay, decay_tensor}, {"v_threshold", v_threshold, v_threshold_tensor}, {"decay_syn", decay_syn, decay_syn_tensor}},
                    {gain, decay_input, v_reset, v_rest, fires});
  const BackwardResult g =
      neuron_backward<Cuba, Device>(input, x, checkpoints, checkpoint_every, {grad_spikes, {{"grad_v", grad_v}, {"grad_i", grad_i}}, grad_v_seq}, surrogate,
                                    alpha, detach_reset, grad_state_needed, run_cuba_backward<Device>);
  return {g.x, g.states[0], g.states[1], g.params[0], g.params[1], g.params[2]};
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "cuba_forward(Tensor x, Tensor? v, Tensor? i, float decay, Tensor? decay_tensor, float v_threshold, Tensor? v_threshold_tensor, float decay_syn, "
      "Tensor? decay_syn_tensor, float gain, bool decay_input, float? v_reset, float v_rest, bool fires, bool return_state, bool return_v_seq, int "
      "checkpoint_every) "
      "-> (Tensor spikes, Tensor v_out, Tensor i_out, Tensor v_seq, Tensor checkpoints)");
  m.def(
      "cuba_backward(Tensor? grad_spikes, Tensor? grad_v, Tensor? grad_i, Tensor? grad_v_seq, Tensor x, Tensor? v, Tensor? i, Tensor checkpoints, "
      "float decay, Tensor? decay_tensor, float v_threshold, Tensor? v_threshold_tensor, float decay_syn, Tensor? decay_syn_tensor, float gain, "
      "bool decay_input, float? v_reset, float v_rest, bool fires, int surrogate, float alpha, bool detach_reset, bool grad_state_needed, int "
      "checkpoint_every) "
      "-> (Tensor grad_x, Tensor grad_v_in, Tensor grad_i_in, Tensor grad_decay, Tensor grad_v_threshold, Tensor grad_decay_syn)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("cuba_forward", TORCH_BOX(&cuba_forward<Device>));
  m.impl("cuba_backward", TORCH_BOX(&cuba_backward<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
