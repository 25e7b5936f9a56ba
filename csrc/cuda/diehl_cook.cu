// The network of Diehl and Cook, one thread per neuron (or for several). Spikes touch only the weights of their
// synapses; neurons are contiguous in the warps, so that contiguous w.T is fastest. A network is a block
// (network_launch.cuh), or several if its presentations do not depend on each other.
#include "cuda/diehl_cook_memory.cuh"

#include "cuda/normalize.cuh"

namespace snnfast {
namespace {

constexpr int64_t kMostThreads = 512;  // with more, registers spill

struct Arguments {
  DiehlCook a;
  NetworkLaunch plan;
  char* workspace;
};

template <class C>
struct Shared {
  DiehlCookNumbers numbers;  // of the network
  Plasticity<C> rule;
  int32_t found[2];  // neurons above threshold in this step and in the next
  int32_t listed, spikes;
  int64_t arriving, winner;
};

// K: kind of the rule, or PlasticityKind::count if nothing is learned.
template <PlasticityKind K, class C>
class Block {
 public:
  __device__ Block(const Arguments& g, Shared<C>& shared, char* memory, int64_t network)
      : g_(g),
        a_(g.a),
        network_(network),
        numbers_(shared.numbers),
        rule_(shared.rule),
        shared_(shared),
        m_(g.a, g.plan, Arena(memory)),
        inputs_(a_.x, network, m_.input_lists, m_.input_counts),
        w_(g.plan.weights ? BlockWeights<C>::in_memory(m_.w, g.a.N) : caller_weights()),
        second_(a_.state.v || shared.rule.lr_pre_triplet != 0),
        delay_(a_.inhibition_delay) {}

  __device__ void run() {
    begin();
    int64_t p = blockIdx.x;
    for (; p < a_.x.P; p += gridDim.x) {
      __syncthreads();
      enter();
      for (int64_t t = 0; t < a_.x.T; t++) step(p, t);
      if constexpr (kLearns)
        if (numbers_.norm > 0) normalize();
    }
    __syncthreads();
    if (a_.in_order()) keep_learned();
    if (a_.return_state && p - gridDim.x == a_.x.P - 1) keep_state();
  }

 private:
  static constexpr bool kLearns = K != PlasticityKind::count;
  const Arguments& g_;
  const DiehlCook& a_;  // of all networks
  const int64_t network_;
  const DiehlCookNumbers& numbers_;
  const Plasticity<C>& rule_;
  Shared<C>& shared_;
  const DiehlCookMemory<C> m_;
  BlockInputs inputs_;
  const BlockWeights<C> w_;
  const bool second_;
  const int64_t delay_;
  StepInputs before_{};  // inputs that fired in the step before
  int64_t step_ = 0;     // step since the launch, over all presentations; the first `delay_` precede it
  int64_t slot_ = 0;     // step_ % delay_

  template <class F>
  __device__ void for_neurons(const F& f) const {
    for (int64_t n = threadIdx.x; n < a_.N; n += blockDim.x) f(n);
  }
  template <class F>
  __device__ void for_all_inputs(const F& f) const {
    for (int64_t i = threadIdx.x; i < a_.x.I; i += blockDim.x) f(i);
  }
  // Weights in the caller's tensor.
  __device__ BlockWeights<C> caller_weights() const {
    return {static_cast<C*>(a_.network(network_).w), a_.w_stride_neuron, a_.w_stride_input};
  }
  __device__ bool by_input() const { return a_.w_stride_input <= a_.w_stride_neuron; }
  __device__ C* theta() const { return at(a_.network(network_).theta); }
  static __device__ C* at(void* state) { return static_cast<C*>(state); }

  // Loads the state before the first step.
  __device__ void begin() {
    const DiehlCookState s = a_.network(network_).state;
    if (g_.plan.weights) caller_weights().copy_to(w_, a_.N, a_.x.I, by_input());
    for_neurons([&](int64_t n) { m_.theta[n] = theta()[n]; });
    if (a_.carry) {
      before_ = inputs_.from_flags(s.last_input);
      for_neurons([&](int64_t n) {
        m_.v[n] = at(s.v)[n];
        m_.refractory[n] = s.refractory[n];
        m_.trace_post[n] = at(s.trace_post)[n];
        m_.trace_post2[n] = at(s.trace_post2)[n];
        for (int64_t d = 0; d < delay_; d++) history(d, n) = s.last_spikes[d * a_.N + n];
      });
      for_all_inputs([&](int64_t i) {
        m_.trace_pre[i] = at(s.trace_pre)[i];
        m_.trace_pre2[i] = at(s.trace_pre2)[i];
        m_.date[i] = delay_ - 1;
        m_.last_spike[i] = -1;
      });
    }
    if (threadIdx.x == 0) shared_.found[0] = shared_.found[1] = 0;
    for (; step_ < delay_; step_++) {
      if (threadIdx.x == 0) shared_.listed = 0;
      __syncthreads();
      if (a_.carry)
        for_neurons([&](int64_t n) {
          if (history(step_, n)) atomicAdd(&shared_.listed, 1);
        });
      __syncthreads();
      if (threadIdx.x == 0) m_.totals[step_] = shared_.listed;
    }
  }

  __device__ void enter() {
    const bool traced = kLearns || a_.state.v;
    if (!a_.carry) {
      before_ = {};
      for_neurons([&](int64_t n) {
        m_.v[n] = 0;
        m_.refractory[n] = 0;
        if (traced) m_.trace_post[n] = m_.trace_post2[n] = 0;
        for (int64_t d = 0; d < delay_; d++) history(d, n) = false;
      });
      if (traced)
        for_all_inputs([&](int64_t i) {
          m_.trace_pre[i] = m_.trace_pre2[i] = 0;
          m_.date[i] = step_ - 1;
          m_.last_spike[i] = -1;
        });
    }
    if (kLearns) for_neurons([&](int64_t n) { m_.plastic[n] = m_.trace_post[n] != 0; });
  }

  __device__ void step(int64_t p, int64_t t) {
    const StepInputs inputs = inputs_.next(p, t);
    if (threadIdx.x == 0) shared_.arriving = delay_ ? arriving(t, m_.totals[slot_]) : 0;
    __syncthreads();
    if (threadIdx.x == 0) shared_.found[(step_ + 1) % 2] = 0;  // that of the last step, which all have read
    for_neurons([&](int64_t n) { charge(n); });
    __syncthreads();
    const int32_t found = shared_.found[step_ % 2];
    if (threadIdx.x == 0 && delay_) m_.totals[slot_] = found;
    if (threadIdx.x < 32) agree(found);
    __syncthreads();
    for_spiking(found, [&](int64_t n) { spike(n, p, t); });
    if (!delay_ && shared_.spikes) {
      const C inhibition = C(numbers_.inhibition) * C(shared_.spikes);
      for_neurons([&](int64_t n) {
        if (m_.open[n] && !spikes(n)) m_.v[n] -= inhibition;
      });
    }
    if constexpr (kLearns) learn(inputs, found);
    before_ = inputs;
    step_++;
    slot_ = slot_ + 1 < delay_ ? slot_ + 1 : 0;
  }

  // Number of spikes of `delay_` steps ago that arrive, out of `total` neurons above threshold.
  __device__ int64_t arriving(int64_t t, int64_t total) const {
    if (!a_.carry && t < delay_) return 0;
    const bool candidates = a_.one_winner && step_ >= 2 * delay_;
    return candidates && total ? 1 : total;
  }

  // Dynamics up to the threshold, as if the neuron did not spike.
  __device__ void charge(int64_t n) {
    const int32_t refractory = m_.refractory[n];
    C current = 0;
    if (refractory == 0) {
#pragma unroll 8
      for (int32_t k = 0; k < before_.count; k++) current += w_(n, before_.begin[k]);
      if (delay_) current -= C(numbers_.inhibition) * (C(shared_.arriving) - C(history(slot_, n)));
    }
    const C v = diehl_cook_charge(m_.v[n], C(numbers_.decay), current);
    C theta = m_.theta[n];
    if (numbers_.theta_decay != 1) m_.theta[n] = theta = theta * C(numbers_.theta_decay);
    const C margin = v - (C(numbers_.v_threshold) + theta);
    m_.v[n] = v;
    m_.margin[n] = margin;
    m_.refractory[n] = refractory ? refractory - 1 : 0;
    if (delay_)
      history(slot_, n) = false;
    else
      m_.open[n] = refractory == 0;
    if (kLearns) {
      m_.trace_post[n] *= rule_.decay_post;
      m_.trace_post2[n] *= rule_.decay_post2;
    }
    if (margin >= 0) m_.found[atomicAdd(&shared_.found[step_ % 2], 1)] = static_cast<int32_t>(n);
  }

  __device__ static bool better(C margin, int64_t neuron, const Candidate<C>& than) {
    return neuron >= 0 && (than.neuron < 0 || margin > than.margin || (margin == than.margin && neuron < than.neuron));
  }

  // Best candidate of the lanes of a warp.
  __device__ static Candidate<C> best_of_warp(Candidate<C> best) {
    for (int offset = 16; offset; offset /= 2) {
      const C margin = __shfl_xor_sync(~0u, best.margin, offset);
      const int64_t neuron = __shfl_xor_sync(~0u, best.neuron, offset);
      if (better(margin, neuron, best)) best = {margin, neuron};
    }
    return best;
  }

  // By the first warp: how many neurons spike in this step, and which, if only one may.
  __device__ void agree(int32_t found) {
    const int lane = static_cast<int>(threadIdx.x);
    Candidate<C> best{C(0), -1};
    if (a_.one_winner && found) {
      for (int32_t k = lane; k < found; k += 32) {
        const int64_t n = m_.found[k];
        if (better(m_.margin[n], n, best)) best = {m_.margin[n], n};
      }
      best = best_of_warp(best);
    }
    if (lane == 0) {
      shared_.winner = best.neuron;
      shared_.spikes = a_.one_winner && found ? 1 : found;
    }
  }

  __device__ bool spikes(int64_t n) const { return m_.margin[n] >= 0 && (!a_.one_winner || n == shared_.winner); }
  // Whether neuron n spiked in the step in slot d of the history.
  __device__ bool& history(int64_t d, int64_t n) const { return m_.history[d * a_.N + n]; }

  // Calls f(n) for the neurons that spike, one thread each.
  template <class F>
  __device__ void for_spiking(int32_t found, const F& f) const {
    for (int32_t k = static_cast<int32_t>(threadIdx.x); k < found; k += static_cast<int32_t>(blockDim.x))
      if (spikes(m_.found[k])) f(m_.found[k]);
  }

  __device__ void spike(int64_t n, int64_t p, int64_t t) {
    m_.v[n] = C(numbers_.v_reset);
    m_.refractory[n] = a_.refractory;
    if (delay_) history(slot_, n) = true;
    if (numbers_.theta_plus != 0) m_.theta[n] += C(numbers_.theta_plus);
    const int64_t presentation = network_ * a_.x.P + p;
    a_.counts[presentation * a_.N + n]++;
    if (a_.spikes) a_.spikes[(presentation * a_.x.T + t) * a_.N + n] = true;
    if (!kLearns) return;
    m_.plastic[n] = true;
    m_.trace_post[n] = stdp_trace(m_.trace_post[n], true, rule_.all);
  }

  // Advances the traces of an input to this step, multiplied step by step, as traces decay.
  __device__ void bring_up(int64_t i) const {
    const int64_t date = m_.date[i];
    if (date == step_) return;
    C trace = m_.trace_pre[i], trace2 = m_.trace_pre2[i];
    for (int64_t s = date; s < step_ && trace != 0; s++) trace *= rule_.decay_pre;
    for (int64_t s = date; second_ && s < step_ && trace2 != 0; s++) trace2 *= rule_.decay_pre2;
    m_.trace_pre[i] = trace;
    m_.trace_pre2[i] = trace2;
    m_.date[i] = step_;
  }

  // Order: traces, weights, second traces, since rules read the second traces as they were before the step's spikes.
  __device__ void learn(const StepInputs& inputs, int32_t found) {
    const Plasticity<C> rule = rule_;  // not reloaded after every weight that is written
    for (int32_t k = static_cast<int32_t>(threadIdx.x); k < inputs.count; k += static_cast<int32_t>(blockDim.x)) {
      const int64_t i = inputs.begin[k];
      bring_up(i);
      m_.trace_pre[i] = stdp_trace(m_.trace_pre[i], true, rule.all);
      m_.last_spike[i] = step_;
    }
    __syncthreads();
    if (found)
      for_all_inputs([&](int64_t i) {
        bring_up(i);
        for (int32_t k = 0; k < found; k++)
          if (spikes(m_.found[k])) grow(rule, m_.found[k], i);
      });
    if (rule.depresses() && inputs.count)
      for_neurons([&](int64_t n) {
        if (m_.trace_post[n] != 0 && !spikes(n)) shrink(rule, n, inputs);
      });
    __syncthreads();
    for (int32_t k = static_cast<int32_t>(threadIdx.x); second_ && k < inputs.count;
         k += static_cast<int32_t>(blockDim.x)) {
      const int64_t i = inputs.begin[k];
      m_.trace_pre2[i] = stdp_trace(m_.trace_pre2[i], true, rule.all);
    }
    for_spiking(found, [&](int64_t n) { m_.trace_post2[n] = stdp_trace(m_.trace_post2[n], true, rule.all); });
  }

  // Potentiation: neuron n spikes.
  __device__ void grow(const Plasticity<C>& rule, int64_t n, int64_t i) const {
    C& w = w_(n, i);
    C change = stdp_potentiation<K>(rule, w, m_.trace_pre[i], m_.trace_post2[n]);
    if (m_.last_spike[i] == step_ && rule.depresses())
      change -= stdp_depression<K>(rule, w, m_.trace_post[n], m_.trace_pre2[i]);
    w = stdp_clamp(rule, w + change);
  }

  // Depression: inputs spike, neuron n does not.
  __device__ void shrink(const Plasticity<C>& rule, int64_t n, const StepInputs& inputs) const {
    const C trace_post = m_.trace_post[n];
    for (int32_t k = 0; k < inputs.count; k++) {
      C& w = w_(n, inputs.begin[k]);
      w = stdp_clamp(rule, w - stdp_depression<K>(rule, w, trace_post, m_.trace_pre2[inputs.begin[k]]));
    }
  }

  __device__ void normalize() {
    __syncthreads();
    if (threadIdx.x == 0) shared_.listed = 0;
    __syncthreads();
    for_neurons([&](int64_t n) {
      if (m_.plastic[n]) m_.found[atomicAdd(&shared_.listed, 1)] = static_cast<int32_t>(n);
    });
    __syncthreads();
    for (int32_t k = static_cast<int32_t>(threadIdx.x / 32); k < shared_.listed;
         k += static_cast<int32_t>(blockDim.x / 32))
      normalize_row(rule_, &w_(m_.found[k], 0), a_.x.I, w_.stride_input, numbers_.norm);
  }

  // Copies weights, unless they are in the caller's tensor, and thresholds back.
  __device__ void keep_learned() const {
    if (kLearns && g_.plan.weights) w_.copy_to(caller_weights(), a_.N, a_.x.I, by_input());
    for_neurons([&](int64_t n) { theta()[n] = m_.theta[n]; });
  }

  __device__ void keep_state() {
    const DiehlCookState s = a_.network(network_).state;
    for_neurons([&](int64_t n) {
      at(s.v)[n] = m_.v[n];
      s.refractory[n] = m_.refractory[n];
      at(s.trace_post)[n] = m_.trace_post[n];
      at(s.trace_post2)[n] = m_.trace_post2[n];
      for (int64_t d = 0; d < delay_; d++) s.last_spikes[d * a_.N + n] = history((slot_ + d) % delay_, n);
    });
    step_--;
    for_all_inputs([&](int64_t i) {
      if (kLearns) bring_up(i);
      at(s.trace_pre)[i] = m_.trace_pre[i];
      at(s.trace_pre2)[i] = m_.trace_pre2[i];
      s.last_input[i] = false;
    });
    __syncthreads();
    for (int32_t k = static_cast<int32_t>(threadIdx.x); k < before_.count; k += static_cast<int32_t>(blockDim.x))
      s.last_input[before_.begin[k]] = true;
  }
};

template <PlasticityKind K, class C>
__global__ void __launch_bounds__(kMostThreads) diehl_cook_kernel(const Arguments g) {
  SNNFAST_DYN_SHARED(char, memory);
  __shared__ Shared<C> shared;
  for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y) {
    if (threadIdx.x == 0) {  // no thread still reads those of the last network
      shared.numbers = g.a.network(network);
      shared.rule = plasticity<C>(shared.numbers.rule);
    }
    __syncthreads();
    Block<K, C>(g, shared, g.plan.memory(g.workspace, memory), network).run();
  }
}

using Kernel = void (*)(Arguments);

template <class C>
Kernel kernel_of(const DiehlCook& a) {
  if (!a.learns) return diehl_cook_kernel<PlasticityKind::count, C>;
  return with_kind(a.rule.kind, [](auto kind) -> Kernel { return diehl_cook_kernel<decltype(kind)::value, C>; });
}
Kernel kernel_of(const DiehlCook& a) { return a.is_double ? kernel_of<double>(a) : kernel_of<float>(a); }

cudaError_t plan_of(const DiehlCook& a, NetworkLaunch& plan) {
  const auto bytes = [&](const NetworkLaunch& p) {
    return a.is_double ? DiehlCookMemory<double>(a, p, Arena(nullptr)).bytes
                       : DiehlCookMemory<float>(a, p, Arena(nullptr)).bytes;
  };
  return plan_networks(kernel_of(a), a.networks, a.N, kMostThreads, a.in_order() ? 1 : a.x.P, a.in_order(), bytes,
                       plan);
}

}  // namespace

int64_t diehl_cook_workspace(const DiehlCook& a) {
  NetworkLaunch plan;
  return plan_of(a, plan) == cudaSuccess ? plan.workspace() : 0;
}

int launch_diehl_cook(const DiehlCook& a, void* workspace, void* stream) {
  Arguments g{a, {}, static_cast<char*>(workspace)};
  const cudaError_t error = plan_of(a, g.plan);
  return error == cudaSuccess ? launch_networks(kernel_of(a), stream, g) : error;
}

}  // namespace snnfast
