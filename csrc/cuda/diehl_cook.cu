// The network of Diehl and Cook, one thread per neuron (or for several). Spikes touch only the weights of their
// synapses; neurons are contiguous in the warps, so that contiguous w.T is fastest. A block owns its neurons with their
// weights; blocks exchange only spike counts, or the best candidate.
//
// If presentations depend on each other, a network is one team and the launch presents all in order; its blocks wait
// for each other every step, or `inhibition_delay` steps later if no winner has to be found. Otherwise a team of one
// block (of several, if images are few) takes the next image that no other has. teams.cuh decides where weights and
// state are stored, and how blocks meet.
#include "cuda/diehl_cook_memory.cuh"

#include "cuda/normalize.cuh"

namespace snnfast {
namespace {

constexpr int64_t kAlone = 1024;         // up to this number of neurons, a network is a single block
constexpr int64_t kMostThreads = 512;    // with more, registers spill
constexpr int64_t kSharedThreads = 256;  // of a block of several
constexpr TeamSizes kSizes{kAlone, kMostThreads, kSharedThreads};

struct Arguments {
  DiehlCook a;
  Teams plan;
  char* workspace;
};

template <class C>
struct Shared {
  DiehlCookNumbers numbers;  // of the network
  Plasticity<C> rule;
  int32_t found[2];  // neurons above threshold in this step and in the next
  int32_t listed;
  int64_t arriving, spikes, winner;
};

// K: kind of the rule, or PlasticityKind::count if nothing is learned. Tally: how blocks meet. Neurons are numbered
// from the first one of the block.
template <PlasticityKind K, class C, class Tally>
class Block {
 public:
  __device__ Block(const Arguments& g, Shared<C>& shared, Arena team, Arena block, int64_t network)
      : g_(g),
        a_(g.a),
        network_(network),
        numbers_(shared.numbers),
        rule_(shared.rule),
        shared_(shared),
        blocks_(g.plan.blocks),
        team_(blockIdx.x / g.plan.blocks),
        block_(blockIdx.x % g.plan.blocks),
        first_(block_ * g.plan.neurons_per_block(a_.N)),
        neurons_(max(min(a_.N - first_, g.plan.neurons_per_block(a_.N)), int64_t{0})),
        m_(g.a, g.plan, team, block),
        tally_(m_.words, g.a.lag(), block_, blocks_),
        inputs_(a_.x, network, m_.input_lists, m_.input_counts),
        w_(g.plan.weights ? BlockWeights<C>::in_memory(m_.w, neurons_) : caller_weights()),
        second_(a_.state.v || shared.rule.lr_pre_triplet != 0),
        delay_(a_.inhibition_delay) {}

  __device__ void run(int64_t teams) {
    tally_.begin();
    begin();
    int64_t p = team_;
    for (; p < a_.x.P; p += teams) {
      __syncthreads();
      enter();
      for (int64_t t = 0; t < a_.x.T; t++) step(p, t);
      if constexpr (kLearns)
        if (numbers_.norm > 0) normalize();
    }
    __syncthreads();
    if (a_.in_order()) keep_learned();
    if (a_.return_state && p - teams == a_.x.P - 1) keep_state();
    tally_.end();
  }

 private:
  static constexpr bool kLearns = K != PlasticityKind::count;
  const Arguments& g_;
  const DiehlCook& a_;  // of all networks
  const int64_t network_;
  const DiehlCookNumbers& numbers_;
  const Plasticity<C>& rule_;
  Shared<C>& shared_;
  const int64_t blocks_, team_, block_, first_, neurons_;
  const DiehlCookMemory<C> m_;
  Tally tally_;
  BlockInputs inputs_;
  const BlockWeights<C> w_;
  const bool second_;
  const int64_t delay_;
  StepInputs before_{};  // inputs that fired in the step before
  int64_t step_ = 0;     // step since the launch, over all presentations; the first `delay_` precede it
  int64_t slot_ = 0;     // step_ % delay_

  template <class F>
  __device__ void for_neurons(const F& f) const {
    for (int64_t n = threadIdx.x; n < neurons_; n += blockDim.x) f(n);
  }
  template <class F>
  __device__ void for_all_inputs(const F& f) const {
    for (int64_t i = threadIdx.x; i < a_.x.I; i += blockDim.x) f(i);
  }
  // Weights in the caller's tensor.
  __device__ BlockWeights<C> caller_weights() const {
    return {static_cast<C*>(a_.network(network_).w) + first_ * a_.w_stride_neuron, a_.w_stride_neuron,
            a_.w_stride_input};
  }
  __device__ bool by_input() const { return a_.w_stride_input <= a_.w_stride_neuron; }
  __device__ C* theta() const { return at(a_.network(network_).theta) + first_; }
  static __device__ C* at(void* state) { return static_cast<C*>(state); }

  // Loads the state before the first step.
  __device__ void begin() {
    const DiehlCookState s = a_.network(network_).state;
    if (g_.plan.weights) caller_weights().copy_to(w_, neurons_, a_.x.I, by_input());
    for_neurons([&](int64_t n) { m_.theta[n] = theta()[n]; });
    if (a_.carry) {
      before_ = inputs_.from_flags(s.last_input);
      for_neurons([&](int64_t n) {
        m_.v[n] = at(s.v)[first_ + n];
        m_.refractory[n] = s.refractory[first_ + n];
        m_.trace_post[n] = at(s.trace_post)[first_ + n];
        m_.trace_post2[n] = at(s.trace_post2)[first_ + n];
        for (int64_t d = 0; d < delay_; d++) history(d, n) = s.last_spikes[d * a_.N + first_ + n];
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
      tally_.post(step_, shared_.listed);
      __syncthreads();
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
    const int64_t total = delay_ ? tally_.total(step_ - delay_) : 0;
    if (threadIdx.x == 0) shared_.arriving = arriving(t, total);
    __syncthreads();
    if (threadIdx.x == 0) shared_.found[(step_ + 1) % 2] = 0;  // that of the last step, which all have read
    for_neurons([&](int64_t n) { charge(n); });
    __syncthreads();
    const int32_t found = shared_.found[step_ % 2];
    if (a_.waits()) {
      agree(found);
      __syncthreads();
    } else {
      tally_.post(step_, found);
    }
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

  // Number of spikes of `delay_` steps ago that arrive, out of `total`. The total is read even if nothing of that time
  // is left to arrive: blocks must not run ahead of each other.
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

  // Agrees with the other blocks on how many neurons spike in this step, or which.
  __device__ void agree(int32_t found) {
    const int lane = static_cast<int>(threadIdx.x);
    Candidate<C> best{C(0), -1};
    if (a_.one_winner && lane < 32) {
      for (int32_t k = lane; k < found; k += 32) {
        const int64_t n = m_.found[k];
        if (better(m_.margin[n], first_ + n, best)) best = {m_.margin[n], first_ + n};
      }
      if (found) best = best_of_warp(best);
      tally_.post_note(m_.candidates, step_, best);
    }
    tally_.post(step_, found);
    int64_t total = tally_.total(step_);
    if (lane >= 32) return;
    __syncwarp();
    total = __shfl_sync(~0u, total, 0);
    if (a_.one_winner && total && blocks_ > 1) {
      const volatile Candidate<C>* const theirs = tally_.notes_of(m_.candidates, step_);
      best = {C(0), -1};
      for (int64_t b = lane; b < blocks_; b += 32) {
        const C margin = theirs[b].margin;
        const int64_t neuron = theirs[b].neuron;
        if (better(margin, neuron, best)) best = {margin, neuron};
      }
      best = best_of_warp(best);
    }
    if (lane == 0) {
      shared_.winner = best.neuron;
      shared_.spikes = a_.one_winner && total ? 1 : total;
    }
  }

  __device__ bool spikes(int64_t n) const {
    return m_.margin[n] >= 0 && (!a_.one_winner || first_ + n == shared_.winner);
  }
  // Whether neuron n spiked in the step in slot d of the history.
  __device__ bool& history(int64_t d, int64_t n) const { return m_.history[d * neurons_ + n]; }

  // Calls f(n) for the neurons of this block that spike, one thread each.
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
    a_.counts[presentation * a_.N + first_ + n]++;
    if (a_.spikes) a_.spikes[(presentation * a_.x.T + t) * a_.N + first_ + n] = true;
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
    if (kLearns && g_.plan.weights) w_.copy_to(caller_weights(), neurons_, a_.x.I, by_input());
    for_neurons([&](int64_t n) { theta()[n] = m_.theta[n]; });
  }

  __device__ void keep_state() {
    const DiehlCookState s = a_.network(network_).state;
    for_neurons([&](int64_t n) {
      at(s.v)[first_ + n] = m_.v[n];
      s.refractory[first_ + n] = m_.refractory[n];
      at(s.trace_post)[first_ + n] = m_.trace_post[n];
      at(s.trace_post2)[first_ + n] = m_.trace_post2[n];
      for (int64_t d = 0; d < delay_; d++) s.last_spikes[d * a_.N + first_ + n] = history((slot_ + d) % delay_, n);
    });
    if (block_) return;
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

template <PlasticityKind K, class C, class Tally>
__global__ void __launch_bounds__(kMostThreads) diehl_cook_kernel(const Arguments g) {
  if constexpr (Tally::kPossible) {
    SNNFAST_DYN_SHARED(char, memory);
    __shared__ Shared<C> shared;
    for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y) {
      if (threadIdx.x == 0) {  // no thread still reads those of the last network
        shared.numbers = g.a.network(network);
        shared.rule = plasticity<C>(shared.numbers.rule);
      }
      __syncthreads();
      Block<K, C, Tally>(g, shared, g.plan.team_memory(g.workspace), g.plan.block_memory(g.workspace, memory), network)
          .run(g.plan.teams);
    }
  }
}

template <PlasticityKind K, class C>
TeamKernels<Arguments> kernels() {
  return {diehl_cook_kernel<K, C, GridTally>, diehl_cook_kernel<K, C, ClusterTally>};
}

template <class C>
TeamKernels<Arguments> kernels_of(const DiehlCook& a) {
  if (!a.learns) return kernels<PlasticityKind::count, C>();
  return with_kind(a.rule.kind, [](auto kind) { return kernels<decltype(kind)::value, C>(); });
}

cudaError_t plan_of(const DiehlCook& a, Teams& plan) {
  const int64_t images = a.in_order() ? 1 : a.x.P;
  return a.is_double ? plan_teams<DiehlCookMemory<double>>(kernels_of<double>(a), a, images, kSizes, plan)
                     : plan_teams<DiehlCookMemory<float>>(kernels_of<float>(a), a, images, kSizes, plan);
}

}  // namespace

int64_t diehl_cook_workspace(const DiehlCook& a) {
  Teams plan;
  return plan_of(a, plan) == cudaSuccess ? plan.workspace() : 0;
}

int launch_diehl_cook(const DiehlCook& a, void* workspace, void* stream) {
  Arguments g{a, {}, static_cast<char*>(workspace)};
  const cudaError_t error = plan_of(a, g.plan);
  return error == cudaSuccess ? launch_teams(a.is_double ? kernels_of<double>(a) : kernels_of<float>(a),
                                             static_cast<cudaStream_t>(stream), g)
                              : error;
}

}  // namespace snnfast
