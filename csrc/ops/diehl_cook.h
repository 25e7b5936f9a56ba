// Shared part of the operators of both networks of Diehl and Cook: the tensors of a call, and presentations on the CPU.
#pragma once
#include <tuple>
#include <vector>

#include "core/plasticity.h"
#include "ops/plasticity.h"
#include "ops/presentations.h"

namespace snnfast {

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Tensors of a state, taken by name in their order; shapes are those of one network.
class StateTensors {
 public:
  StateTensors(const char* op, const std::vector<Tensor>& tensors, const Tensor& w, size_t count)
      : op_(op), tensors_(tensors), w_(w) {
    SNNFAST_CHECK(tensors.size() == count, op, ": state must have ", count, " tensors, got ", tensors.size());
  }
  template <class T>
  void take(T*& to, const char* name, ScalarType type, const std::vector<int64_t>& shape) {
    const Tensor& t = tensors_[next_++];
    check_like(op_, name, t, w_, type, of_networks(w_, shape));
    check_contiguous(op_, name, t);
    to = pointer<T>(t);
  }

 private:
  const char* op_;
  const std::vector<Tensor>& tensors_;
  const Tensor& w_;
  size_t next_ = 0;
};

// Tensors and results of a call of either network.
struct NetworkTensors {
  Tensor theta, counts, spikes;
  std::vector<Tensor> copies;  // contiguous copies
};

// Checks and fills in the fields that both networks have. `present` allocates the results, once the other fields are
// set.
template <class Device, class Network, class Arguments>
void enter_weights(const char* op, const Device& device, const Arguments& from, ScalarType theta_type, Network& a,
                   NetworkTensors& tensors) {
  const Tensor &w = from.w.tensor, &theta = from.theta.tensor;
  const ScalarType type = w.scalar_type();
  check_float32_or_float64(op, "w", w);
  SNNFAST_CHECK(w.dim() == 2 || w.dim() == 3, op, ": w must have shape [N, I] or [K, N, I], got ", shape_of(w));
  a.networks = networks_of(w);
  a.N = w.size(-2);
  check_like(op, "theta", theta, w, theta_type, of_networks(w, {a.N}));
  const int64_t I = w.size(-1), most = int64_t{1} << 31;
  SNNFAST_CHECK(a.networks < most && a.N < most && I < most && a.N * I < int64_t{1} << 48, op, ": w is too large, got ",
                a.networks, " times ", a.N, " times ", I);
  a.is_double = type == ScalarType::Double;
  a.w = w.mutable_data_ptr();
  a.w_stride_network = w.dim() == 3 ? w.stride(0) : 0;
  a.w_stride_neuron = w.stride(-2);
  a.w_stride_input = w.stride(-1);
  tensors.theta = contiguous_of(theta);
  a.x = presentations_of(op, device, w, from.x, tensors.copies);
  a.rule = rule_of(op, from.rule);
  a.learns = from.learns;
  a.norm = from.norm;
  a.theta_plus = from.theta_plus;
  a.theta_decay = from.theta_decay;
  if (from.numbers) {
    check_like(op, "numbers", *from.numbers, w, ScalarType::Double, of_networks(w, {Network::kCount}));
    a.numbers = tensors.copies.emplace_back(contiguous_of(*from.numbers)).template const_data_ptr<double>();
  }
  a.carry = from.carry && !from.state.tensors.empty();
  a.return_state = from.return_state && !from.state.tensors.empty();
}

// Presents by run(), then copies theta back to the caller's tensor.
template <class Network, class Arguments, class Run>
std::tuple<Tensor, Tensor> present(const Arguments& from, Network& a, NetworkTensors& tensors, const Run& run) {
  const Tensor& w = from.w.tensor;
  Tensor theta = from.theta.tensor;
  tensors.counts = zeros(w, of_networks(w, {a.x.P, a.N}), ScalarType::Int);
  tensors.spikes = zeros(w, of_networks(w, {from.return_spikes ? a.x.P : 0, a.steps(), a.N}), ScalarType::Bool);
  if (a.networks > 0 && a.x.P > 0 && a.N > 0) {
    a.counts = pointer<int32_t>(tensors.counts);
    a.spikes = from.return_spikes ? pointer<bool>(tensors.spikes) : nullptr;
    run();
    if (!theta.is_contiguous()) torch::stable::copy_(theta, tensors.theta);
  }
  return {tensors.counts, tensors.spikes};
}

template <class Network>
struct CpuKernels {
  void (*memory)(const Network&, int64_t* shared, int64_t* local, int64_t* encoding);
  void (*prepare)(const Network&, char* shared);
  void (*encode)(const Network&, int64_t p, char* memory, const SpikeTrain&);
  void (*present)(const Network&, char* shared, char* local, const SpikeTrain&, int64_t p);
  void (*finish)(const Network&, char* shared);
};

template <class Network>
void present_one_on_cpu(const Network& a, const Tensor& w, const CpuKernels<Network>& kernels) {
  int64_t shared_bytes, local_bytes, encoding;
  kernels.memory(a, &shared_bytes, &local_bytes, &encoding);
  const WorkMemory shared(w, shared_bytes);
  kernels.prepare(a, shared.get());
  const auto encode = [&](int64_t p, char* memory, const SpikeTrain& train) { kernels.encode(a, p, memory, train); };
  const auto present = [&](char* local, const SpikeTrain& train, int64_t p) {
    kernels.present(a, shared.get(), local, train, p);
  };
  if (a.in_order() || a.state.v)
    present_in_order(w, a.x, local_bytes, encoding, encode, present);
  else
    present_in_parallel(w, a.x, local_bytes, encoding, encode, present);
  kernels.finish(a, shared.get());
}

// In parallel over networks, or over the presentations of each network if these are independent and more numerous.
template <class Network>
void present_on_cpu(const Network& a, const Tensor& w, const CpuKernels<Network>& kernels) {
  const auto present = [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; k++) present_one_on_cpu(a.network(k), w, kernels);
  };
  const bool in_order = a.in_order() || a.state.v;
  if (a.networks == 1 || (!in_order && a.x.P >= a.networks))
    present(0, a.networks);
  else
    parallel_for(a.networks, 1, present);
}

}  // namespace snnfast
