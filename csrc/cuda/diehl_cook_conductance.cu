// The network with conductances, one thread per neuron and its inhibitory partner (or for several). A block owns its
// neurons with their weights; blocks exchange only the number of inhibitory spikes, which act in the next step.
//
// If presentations depend on each other, a network is one team and the launch presents all in order. Otherwise a team
// of one block (of several, if images are few) takes the next image that no other has. teams.cuh decides where weights
// and state are stored, and how blocks meet.
#include "cuda/diehl_cook_conductance_memory.cuh"

namespace snnfast {
namespace {

constexpr int64_t kAlone = 512;          // up to this number of neurons, a network is a single block
constexpr int64_t kSharedThreads = 128;  // of a block of several
constexpr TeamSizes kSizes{kAlone, kAlone, kSharedThreads};
constexpr uint32_t kNever = 256;  // equals no delay

struct Arguments {
  DiehlCookConductance a;
  Teams plan;
  const uint8_t* delays;  // [K, I, N], or null: no delays. Neighbouring threads read those of neighbouring neurons
  char* workspace;
};

template <class C>
struct Shared {
  DiehlCookConductanceNumbers numbers;  // of the network
  Plasticity<C> rule;
  ConductanceMemory<C> memory;
  int32_t found, spikes_inh;  // neurons of this block that spike in this step
  int64_t inhibiting;         // inhibitory neurons of the grid that spiked in the step before
  int64_t oldest, under_way;  // ring of inputs in flight: index of the oldest one, and their number
};

// Tally: how blocks meet. Neurons are numbered from the first one of the block.
template <PlasticityKind K, class C, class Tally>
class ConductanceBlock {
 public:
  __device__ ConductanceBlock(const Arguments& g, Shared<C>& shared, int64_t network)
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
        m_(shared.memory),
        w_(g.plan.weights ? BlockWeights<C>::in_memory(m_.w, neurons_) : caller_weights()),
        delays_(g.delays ? g.delays + network * g.a.N * g.a.x.I + first_ : nullptr),
        tally_(m_.words, 1, block_, blocks_),
        inputs_(a_.x, network, m_.input_lists, m_.input_counts),
        history_(a_.history()),
        learns_(a_.learns),
        remembers_(learns_ || a_.state.v),
        second_(a_.state.v || shared.rule.lr_pre_triplet != 0) {}

  __device__ void run(int64_t teams) {
    tally_.begin();
    if (g_.plan.weights) caller_weights().copy_to(w_, neurons_, a_.x.I, by_input());
    for_neurons([&](int64_t n) { m_.theta[n] = theta()[n]; });
    int64_t p = team_;
    for (; p < a_.x.P; p += teams) {
      __syncthreads();
      enter(p == team_);
      for (int64_t t = 0; t < a_.steps(); t++) step(p, t);
    }
    __syncthreads();
    if (a_.in_order()) keep_learned();
    if (a_.return_state) keep_state();
    tally_.end();
  }

 private:
  const Arguments& g_;
  const DiehlCookConductance& a_;  // of all networks
  const int64_t network_;
  const DiehlCookConductanceNumbers& numbers_;
  const Plasticity<C>& rule_;
  Shared<C>& shared_;
  const int64_t blocks_, team_, block_, first_, neurons_;
  const ConductanceMemory<C>& m_;  // in shared memory: in registers, it would make them spill
  const BlockWeights<C> w_;
  const uint8_t* const delays_;  // from the first neuron of the block on
  Tally tally_;
  BlockInputs inputs_;
  const int64_t history_;
  const bool learns_, remembers_;
  const bool second_;       // whether anything reads the second traces of the inputs
  int64_t step_ = 0;        // steps since the launch, over all presentations
  bool inhibited_ = false;  // whether the inhibition of the step before is pending

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
  __device__ double* theta() const { return a_.network(network_).theta + first_; }
  __device__ int64_t row(int64_t step) const { return (step + history_) % history_ * a_.x.I; }
  static __device__ C* at(void* state) { return static_cast<C*>(state); }

  // Starts a presentation.
  __device__ void enter(bool first) {
    if (learns_ && numbers_.norm > 0) for_neurons([&](int64_t n) { normalize(n); });
    if (first || !a_.carry) {
      inhibited_ = false;
      for_neurons([&](int64_t n) { begin_neuron(n); });
      if (remembers_) for_all_inputs([&](int64_t i) { begin_input(i); });
      __syncthreads();
      if (threadIdx.x < 32) begin_arrivals();
    }
  }

  // The sum is in order, as in the reference.
  __device__ void normalize(int64_t n) const {
    double sum = 0;
    for (int64_t i = 0; i < a_.x.I; i++) sum += fabs(static_cast<double>(w_(n, i)));
    if (!(sum > 0)) return;
    const double factor = numbers_.norm / sum;
    for (int64_t i = 0; i < a_.x.I; i++)
      w_(n, i) = stdp_clamp(rule_, static_cast<C>(static_cast<double>(w_(n, i)) * factor));
  }

  __device__ void begin_neuron(int64_t n) const {
    const DiehlCookConductanceState s = a_.network(network_).state;
    m_.v[n] = a_.carry ? at(s.v)[first_ + n] : C(numbers_.exc.v_rest);
    m_.g_exc[n] = a_.carry ? at(s.g_exc)[first_ + n] : C(0);
    m_.g_inh[n] = a_.carry ? at(s.g_inh)[first_ + n] : C(0);
    m_.refractory[n] = a_.carry ? s.refractory[first_ + n] : 0;
    m_.v_inh[n] = a_.carry ? at(s.v_inh)[first_ + n] : C(numbers_.inh.v_rest);
    m_.g_exc_inh[n] = a_.carry ? at(s.g_exc_inh)[first_ + n] : C(0);
    m_.refractory_inh[n] = a_.carry ? s.refractory_inh[first_ + n] : 0;
    m_.trace_post[n] = a_.carry ? at(s.trace_post)[first_ + n] : C(0);
    m_.trace_post2[n] = a_.carry ? at(s.trace_post2)[first_ + n] : C(0);
  }

  __device__ void begin_input(int64_t i) const {
    const DiehlCookConductanceState s = a_.network(network_).state;
    for (int64_t h = 0; h < history_; h++) {  // oldest first
      const int64_t from = h * a_.x.I + i, to = row(step_ + h) + i;
      m_.fired[to] = a_.carry && h > 0 && s.last_inputs[from - a_.x.I];
      if (!learns_) continue;
      m_.trace_pre[to] = a_.carry ? at(s.trace_pre)[from] : C(0);
      m_.trace_pre2[to] = a_.carry ? at(s.trace_pre2)[from] : C(0);
    }
  }

  // By one warp: the inputs in flight before the first step.
  __device__ void begin_arrivals() const {
    int32_t count = 0;
    for (int64_t step = step_ - a_.longest_delay; step <= step_; step++) {
      int32_t sent = 0;
      if (a_.carry && step < step_) {
        sent = list_spikes<uint8_t>(reinterpret_cast<const uint8_t*>(m_.fired + row(step)), a_.x.I, 0xff,
                                    m_.under_way + count);
        for (int32_t k = static_cast<int32_t>(threadIdx.x); k < sent; k += 32)
          m_.sent[count + k] = static_cast<uint8_t>(step);
      }
      if (threadIdx.x == 0) m_.sent_counts[(step + history_) % history_] = sent;
      count += sent;
    }
    if (threadIdx.x == 0) shared_.oldest = 0, shared_.under_way = count;
  }

  // Index of the k-th input in flight, the oldest first.
  __device__ int64_t place(int64_t k) const {
    const int64_t place = shared_.oldest + k;
    return place < m_.room(a_) ? place : place - m_.room(a_);
  }

  __device__ void step(int64_t p, int64_t t) {
    const StepInputs inputs = t < a_.x.T ? inputs_.next(p, t) : StepInputs{nullptr, 0};
    // Read even if nothing of it arrives: blocks must not run ahead of each other.
    const int64_t total = step_ > 0 ? tally_.total(step_ - 1) : 0;
    if (threadIdx.x == 0) {
      shared_.inhibiting = total;
      shared_.found = shared_.spikes_inh = 0;
      int32_t& sent = m_.sent_counts[step_ % history_];
      shared_.oldest = place(sent);  // the inputs in this slot are no longer in flight
      shared_.under_way += inputs.count - sent;
      sent = inputs.count;
    }
    if (remembers_)
      for_all_inputs([&](int64_t i) {
        m_.fired[row(step_) + i] = false;
        if (learns_) m_.trace_pre[row(step_) + i] = fade(m_.trace_pre[row(step_ - 1) + i], rule_.decay_pre);
      });
    __syncthreads();
    for (int32_t k = static_cast<int32_t>(threadIdx.x); k < inputs.count; k += static_cast<int32_t>(blockDim.x)) {
      const int64_t to = place(shared_.under_way - inputs.count + k);
      m_.under_way[to] = inputs.begin[k], m_.sent[to] = static_cast<uint8_t>(step_);
      if (!remembers_) continue;
      const int64_t i = row(step_) + inputs.begin[k];
      m_.fired[i] = true;
      if (learns_) m_.trace_pre[i] = stdp_trace(m_.trace_pre[i], true, rule_.all);
    }
    for_neurons([&](int64_t n) {
      inhibit(n);
      charge_inhibitory(n);
      charge_excitatory(n, p, t);
    });
    inhibited_ = true;
    __syncthreads();
    const int32_t found = shared_.found;
    tally_.post(step_, shared_.spikes_inh);
    for_neurons([&](int64_t n) { arrive(n); });
    __syncthreads();  // weights act before they are updated
    if (learns_) learn(found);
    step_++;
  }

  // Adds the inhibition of the step before.
  __device__ void inhibit(int64_t n) const {
    if (inhibited_ && shared_.inhibiting)
      m_.g_inh[n] += C(numbers_.g.w_inh_exc) * (C(shared_.inhibiting) - C(m_.spiked_inh[n]));
  }

  __device__ void charge_inhibitory(int64_t n) const {
    const C exc = m_.g_exc_inh[n] * C(numbers_.g.mean_exc), v = m_.v_inh[n];
    const int32_t refractory = m_.refractory_inh[n];
    const C moved =
        conductance_charge(v, C(1) + exc, C(numbers_.inh.v_rest) + exc * C(numbers_.g.e_exc), C(-numbers_.inh.rate));
    const bool open = refractory == 0, spike = open && moved >= C(numbers_.inh.v_threshold);
    m_.v_inh[n] = spike ? C(numbers_.inh.v_reset) : open ? moved : v;
    m_.refractory_inh[n] = spike ? static_cast<int32_t>(numbers_.inh.refractory) : refractory > 0 ? refractory - 1 : 0;
    m_.spiked_inh[n] = spike;
    if (spike) atomicAdd(&shared_.spikes_inh, 1);
    m_.g_exc_inh[n] = fade(m_.g_exc_inh[n], C(numbers_.g.decay_exc));
  }

  __device__ void charge_excitatory(int64_t n, int64_t p, int64_t t) const {
    double theta = m_.theta[n];
    if (numbers_.theta_decay != 1) m_.theta[n] = theta *= numbers_.theta_decay;
    const C exc = m_.g_exc[n] * C(numbers_.g.mean_exc), inh = m_.g_inh[n] * C(numbers_.g.mean_inh), v = m_.v[n];
    const int32_t refractory = m_.refractory[n];
    const C pull = (C(numbers_.exc.v_rest) + exc * C(numbers_.g.e_exc)) + inh * C(numbers_.g.e_inh);
    const C moved = conductance_charge(v, (C(1) + exc) + inh, pull, C(-numbers_.exc.rate));
    const bool open = refractory == 0, spike = open && moved >= C(numbers_.exc.v_threshold + theta);
    m_.v[n] = spike ? C(numbers_.exc.v_reset) : open ? moved : v;
    m_.refractory[n] = spike ? static_cast<int32_t>(numbers_.exc.refractory) : refractory > 0 ? refractory - 1 : 0;
    m_.spiked[n] = spike;
    m_.g_exc[n] = fade(m_.g_exc[n], C(numbers_.g.decay_exc));
    m_.g_inh[n] = fade(m_.g_inh[n], C(numbers_.g.decay_inh));
    if (learns_) {
      m_.trace_post[n] = stdp_trace(fade(m_.trace_post[n], rule_.decay_post), spike, rule_.all);
      m_.trace_post2[n] = fade(m_.trace_post2[n], rule_.decay_post2);
    }
    if (!spike) return;
    m_.found[atomicAdd(&shared_.found, 1)] = static_cast<int32_t>(n);
    m_.g_exc_inh[n] += C(numbers_.g.w_exc_inh);
    if (numbers_.theta_plus != 0) m_.theta[n] = theta + numbers_.theta_plus;
    const int64_t presentation = network_ * a_.x.P + p;
    a_.counts[presentation * a_.N + first_ + n]++;
    if (a_.spikes) a_.spikes[(presentation * a_.steps() + t) * a_.N + first_ + n] = true;
  }

  __device__ uint8_t delay(int32_t i, int64_t n) const {
    return delays_ ? delays_[static_cast<uint64_t>(static_cast<uint32_t>(i)) * static_cast<uint32_t>(a_.N) + n] : 0;
  }

  // Spikes arrive in the order in which they were sent. grow() updates the weights of neurons that spike in this step.
  __device__ void arrive(int64_t n) const {
    const Plasticity<C> rule = rule_;  // not reloaded after every weight that is written
    const bool depresses = learns_ && rule.depresses() && !m_.spiked[n];
    const int64_t oldest = shared_.oldest, count = shared_.under_way;
    const C trace_post = m_.trace_post[n];
    C g_exc = m_.g_exc[n];
    for (int64_t k0 = -(oldest % kTogether), group = oldest + k0; k0 < count; k0 += kTogether) {
      const int32_t* under_way = m_.under_way + group;
      const uint8_t* sent = m_.sent + group;
      // All loads first, so that none waits for the latency of another.
      int32_t inputs[kTogether];
      uint32_t ages[kTogether], arriving = 0;
#pragma unroll
      for (int k = 0; k < kTogether; k++) {
        const bool within = k0 + k >= 0 && k0 + k < count;
        inputs[k] = within ? under_way[k] : 0;
        ages[k] = within ? static_cast<uint8_t>(step_ - sent[k]) : kNever;
      }
#pragma unroll
      for (int k = 0; k < kTogether; k++) arriving |= static_cast<uint32_t>(delay(inputs[k], n) == ages[k]) << k;
      for (; arriving; arriving &= arriving - 1) {
        const int k = __ffs(static_cast<int>(arriving)) - 1;
        const int64_t i = under_way[k];
        C& w = w_(n, i);
        g_exc += w;
        if (!depresses) continue;
        const C trace_pre2 = second_ ? fade(m_.trace_pre2[row(step_ - delay(i, n) - 1) + i], rule.decay_pre2) : C(0);
        w = stdp_clamp(rule, w - stdp_depression<K>(rule, w, trace_post, trace_pre2));
      }
      group = group + kTogether == m_.room(a_) ? 0 : group + kTogether;
    }
    m_.g_exc[n] = g_exc;
  }

  // The rings hold the traces of this step, except the second traces: rules read those as they were before the step's
  // spikes.
  __device__ void learn(int32_t found) const {
    if (found) {
      const Plasticity<C> rule = rule_;
      for_all_inputs([&](int64_t i) {
        for (int32_t k = 0; k < found; k++) grow(rule, m_.found[k], i);
      });
      __syncthreads();
    }
    for_neurons([&](int64_t n) {
      if (m_.spiked[n]) m_.trace_post2[n] = stdp_trace(m_.trace_post2[n], true, rule_.all);
    });
    if (second_)
      for_all_inputs([&](int64_t i) {
        const int64_t to = row(step_) + i;
        m_.trace_pre2[to] =
            stdp_trace(fade(m_.trace_pre2[row(step_ - 1) + i], rule_.decay_pre2), m_.fired[to], rule_.all);
      });
  }

  // Potentiation: neuron n spikes.
  __device__ void grow(const Plasticity<C>& rule, int64_t n, int64_t i) const {
    const int64_t sent = step_ - a_.delay(network_ * a_.N + first_ + n, i), then = row(sent) + i;
    C& w = w_(n, i);
    C change = stdp_potentiation<K>(rule, w, m_.trace_pre[then], m_.trace_post2[n]);
    if (m_.fired[then] && rule.depresses()) {
      const C trace_pre2 = second_ ? fade(m_.trace_pre2[row(sent - 1) + i], rule.decay_pre2) : C(0);
      change -= stdp_depression<K>(rule, w, m_.trace_post[n], trace_pre2);
    }
    w = stdp_clamp(rule, w + change);
  }

  // Copies weights, unless they are in the caller's tensor, and thresholds back.
  __device__ void keep_learned() const {
    if (learns_ && g_.plan.weights) w_.copy_to(caller_weights(), neurons_, a_.x.I, by_input());
    for_neurons([&](int64_t n) { theta()[n] = m_.theta[n]; });
  }

  // After the last presentation: copies the state to the caller's tensors.
  __device__ void keep_state() {
    const DiehlCookConductanceState s = a_.network(network_).state;
    const int64_t total = step_ > 0 ? tally_.total(step_ - 1) : 0;
    if (threadIdx.x == 0) shared_.inhibiting = total;
    __syncthreads();
    for_neurons([&](int64_t n) {
      inhibit(n);
      at(s.v)[first_ + n] = m_.v[n];
      at(s.g_exc)[first_ + n] = m_.g_exc[n];
      at(s.g_inh)[first_ + n] = m_.g_inh[n];
      s.refractory[first_ + n] = m_.refractory[n];
      at(s.v_inh)[first_ + n] = m_.v_inh[n];
      at(s.g_exc_inh)[first_ + n] = m_.g_exc_inh[n];
      s.refractory_inh[first_ + n] = m_.refractory_inh[n];
      at(s.trace_post)[first_ + n] = m_.trace_post[n];
      at(s.trace_post2)[first_ + n] = m_.trace_post2[n];
    });
    if (block_) return;
    for_all_inputs([&](int64_t i) {
      for (int64_t h = 0; h < history_; h++) {  // oldest first
        const int64_t to = h * a_.x.I + i, from = row(step_ + h) + i;
        if (h > 0) s.last_inputs[to - a_.x.I] = m_.fired[from];
        if (!learns_) continue;  // without a rule traces are constant
        at(s.trace_pre)[to] = m_.trace_pre[from];
        at(s.trace_pre2)[to] = m_.trace_pre2[from];
      }
    });
  }
};

template <PlasticityKind K, class C, class Tally>
__global__ void __launch_bounds__(kAlone) diehl_cook_conductance_kernel(const Arguments g) {
  if constexpr (Tally::kPossible) {
    SNNFAST_DYN_SHARED(char, memory);
    __shared__ Shared<C> shared;
    for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y) {
      __syncthreads();  // until then, the shared memory is that of the last network
      if (threadIdx.x == 0) {
        shared.numbers = g.a.network(network);
        shared.rule = plasticity<C>(shared.numbers.rule);
        Arena team = g.plan.team_memory(g.workspace), block = g.plan.block_memory(g.workspace, memory);
        shared.memory = ConductanceMemory<C>(g.a, g.plan, team, block);
      }
      __syncthreads();
      ConductanceBlock<K, C, Tally>(g, shared, network).run(g.plan.teams);
    }
  }
}

__global__ void arrange_delays_kernel(const uint8_t* delays, int64_t networks, int64_t N, int64_t I, int64_t longest,
                                      uint8_t* arranged) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; e < networks * N * I; e += stride) {
    const int64_t network = e / (N * I) * (N * I), delay = delays[network + e % N * I + (e - network) / N];
    arranged[e] = static_cast<uint8_t>(delay < longest ? delay : longest);
  }
}

template <PlasticityKind K, class C>
TeamKernels<Arguments> kernels() {
  return {diehl_cook_conductance_kernel<K, C, GridTally>, diehl_cook_conductance_kernel<K, C, ClusterTally>};
}

template <class C>
TeamKernels<Arguments> kernels_of(const DiehlCookConductance& a) {
  return with_kind(a.learns ? a.rule.kind : PlasticityKind::additive,
                   [](auto kind) { return kernels<decltype(kind)::value, C>(); });
}

cudaError_t plan_of(const DiehlCookConductance& a, Teams& plan) {
  const int64_t images = a.in_order() || a.state.v ? 1 : a.x.P;
  return a.is_double ? plan_teams<ConductanceMemory<double>>(kernels_of<double>(a), a, images, kSizes, plan)
                     : plan_teams<ConductanceMemory<float>>(kernels_of<float>(a), a, images, kSizes, plan);
}

}  // namespace

int64_t diehl_cook_conductance_workspace(const DiehlCookConductance& a) {
  Teams plan;
  return plan_of(a, plan) == cudaSuccess ? plan.workspace() + (a.delays ? a.networks * a.N * a.x.I : 0) : 0;
}

int launch_diehl_cook_conductance(const DiehlCookConductance& a, void* workspace, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  Arguments g{a, {}, nullptr, static_cast<char*>(workspace)};
  const cudaError_t error = plan_of(a, g.plan);
  if (error != cudaSuccess) return error;
  if (a.delays && a.x.I) {
    uint8_t* arranged = reinterpret_cast<uint8_t*>(g.workspace + g.plan.workspace());
    const int64_t bytes = a.networks * a.N * a.x.I;
    SNNFAST_LAUNCH(arrange_delays_kernel, bytes < 4096 * 256 ? blocks_of(bytes, 256) : 4096, 256, 0, stream, a.delays,
                   a.networks, a.N, a.x.I, a.longest_delay, arranged);
    g.delays = arranged;
  }
  return launch_teams(a.is_double ? kernels_of<double>(a) : kernels_of<float>(a), stream, g);
}

}  // namespace snnfast
