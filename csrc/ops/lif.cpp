#include "core/lif.h"

#include "ops/neuron.h"
#include "ops/neuron_kernels.h"

SNNFAST_NEURON_KERNELS(lif, Lif)

namespace snnfast {
namespace {

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> lif_forward(const Tensor& x, const Optional& v, double decay, const Optional& decay_tensor, double v_threshold,
                                                       const Optional& v_threshold_tensor, double gain, bool decay_input, std::optional<double> v_reset,
                                                       double v_rest, bool fires, bool return_v, bool return_v_seq, int64_t checkpoint_every) {
  NeuronInput input("lif", x, {{"v", v}}, {{"decay", decay, decay_tensor}, {"v_threshold", v_threshold, v_threshold_tensor}},
                    {gain, decay_input, v_reset, v_rest, fires});
  auto [spikes, states, v_seq, checkpoints] = neuron_forward<Lif, Device>(input, x, return_v, return_v_seq, checkpoint_every, run_lif_forward<Device>);
  return {spikes, states[0], v_seq, checkpoints};
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> lif_backward(const Optional& grad_spikes, const Optional& grad_v, const Optional& grad_v_seq, const Tensor& x,
                                                        const Optional& v, const Tensor& checkpoints, double decay, const Optional& decay_tensor,
                                                        double v_threshold, const Optional& v_threshold_tensor, double gain, bool decay_input,
                                                        std::optional<double> v_reset, double v_rest, bool fires, int64_t surrogate, double alpha,
                                                        bool detach_reset, bool grad_v_needed, int64_t checkpoint_every) {
  NeuronInput input("lif", x, {{"v", v}}, {{"decay", decay, decay_tensor}, {"v_threshold", v_threshold, v_threshold_tensor}},
                    {gain, decay_input, v_reset, v_rest, fires});
  const BackwardResult g = neuron_backward<Lif, Device>(input, x, checkpoints, checkpoint_every, {grad_spikes, {{"grad_v", grad_v}}, grad_v_seq}, surrogate,
                                                        alpha, detach_reset, grad_v_needed, run_lif_backward<Device>);
  return {g.x, g.states[0], g.params[0], g.params[1]};
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "lif_forward(Tensor x, Tensor? v, float decay, Tensor? decay_tensor, float v_threshold, Tensor? v_threshold_tensor, float gain, bool decay_input, "
      "float? v_reset, float v_rest, bool fires, bool return_v, bool return_v_seq, int checkpoint_every) "
      "-> (Tensor spikes, Tensor v_out, Tensor v_seq, Tensor checkpoints)");
  m.def(
      "lif_backward(Tensor? grad_spikes, Tensor? grad_v, Tensor? grad_v_seq, Tensor x, Tensor? v, Tensor checkpoints, float decay, Tensor? decay_tensor, "
      "float v_threshold, Tensor? v_threshold_tensor, float gain, bool decay_input, float? v_reset, float v_rest, bool fires, int surrogate, float alpha, "
      "bool detach_reset, bool grad_v_needed, int checkpoint_every) -> (Tensor grad_x, Tensor grad_v_in, Tensor grad_decay, Tensor grad_v_threshold)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("lif_forward", TORCH_BOX(&lif_forward<Device>));
  m.impl("lif_backward", TORCH_BOX(&lif_backward<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
