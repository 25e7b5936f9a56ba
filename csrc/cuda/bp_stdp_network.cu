// A network is a team of blocks, and one launch presents everything to all networks. A warp has 32 neurons of a sample for all
// steps that see the same weights, a lane each, and leaves their spikes as the bits of a word. Currents are sums over the bits,
// in the order of the inputs; for them the weights lie input by input, in a copy that changes as they do. Between layers, and
// before and after a change of the weights, the blocks wait for each other: at the barrier of their cluster, if they are few.
// One block has all of that, and its copy of the weights, in shared memory, if they fit.
#include "core/bp_stdp_network.h"

#include "core/arena.h"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

constexpr int64_t kAlone = 512;          // up to as many threads are one block, which waits for no other
constexpr int64_t kSharedThreads = 256;  // of a block of several
constexpr int kAhead = 8;                // weights of a current that are loaded at a time
constexpr int kTogether = 4;             // inputs whose weights a thread changes together
constexpr int64_t kChanges = 64;         // a thread more is worth waiting for with so many changes of weights

// The neurons of a layer, or the inputs, and the weights to them; addresses count from the memory of the network.
template <class C>
struct Neurons {
  int64_t N, words;  // words of a bit a neuron
  uint8_t* drawn;    // [B, T, N] of the inputs, where they are drawn
  uint32_t* fired;   // [B, T, words]
  int32_t* counts;   // [B, N] spikes in the window, running
  C* windows;        // [slots, N] the same of steps and samples that change weights
  C* error;          // [slots, N]
  C* v;              // [B, N]
  C* packed;         // [I, N]
};

template <class C>
struct Arguments {
  BpStdpNetwork a;
  Teams plan;
  char* workspace;  // words of the tallies, and then the memory of each row of the grid, if it is not shared memory
  int64_t row;      // bytes of the memory of a row of the grid
  Neurons<C> neurons[kBpStdpLayers + 1];
};

template <class C, class Tally>
class Block {
 public:
  __device__ Block(const Arguments<C>& g, char* shared_memory, int64_t network)
      : g_(g),
        a_(g.a),
        x_(g.a.x.of(network)),
        network_(network),
        thread_(static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x),
        threads_(static_cast<int64_t>(gridDim.x) * blockDim.x),
        lane_(static_cast<int>(threadIdx.x) % 32),
        memory_(g.plan.shared ? shared_memory : g.workspace + g.plan.workspace() + blockIdx.y * g.row),
        tally_(g.plan.team_memory(g.workspace).template take<TallyWord>(GridTally::words(1, gridDim.x)), 1, blockIdx.x, gridDim.x) {}

  __device__ void run() {
    for (int64_t l = 0; l < a_.layers && a_.packs(); l++) {
      const Neurons<C>& y = g_.neurons[l + 1];
      const int64_t I = a_.layer[l].I;
      for (int64_t e = thread_; e < I * y.N; e += threads_) own(y.packed)[e] = weights(l)[e % y.N * I + e / y.N];
    }
    meet();
    for (p0_ = 0; p0_ < x_.P; p0_ += a_.samples()) {
      B_ = min(a_.samples(), x_.P - p0_);
      present();
    }
    if (!a_.learns) return;
    // Rows of the other layers have changed as well, since errors are passed back along them.
    const int64_t I = a_.layer[0].I, O = a_.layer[0].O;
    for (int64_t e = thread_; e < I * O; e += threads_) weights(0)[e] = own(g_.neurons[1].packed)[e % I * O + e / I];
  }

 private:
  const Arguments<C>& g_;
  const BpStdpNetwork& a_;  // of all networks
  const Presentations x_;   // of this one
  const int64_t network_, thread_, threads_;
  const int lane_;
  char* const memory_;
  Tally tally_;
  int64_t met_ = 0, p0_ = 0, B_ = 0;  // the samples [p0, p0 + B) are presented

  template <class T>
  __device__ T* own(T* address) const {
    return reinterpret_cast<T*>(memory_ + reinterpret_cast<uintptr_t>(address));
  }
  __device__ C* weights(int64_t l) const { return static_cast<C*>(a_.layer[l].w) + network_ * a_.layer[l].O * a_.layer[l].I; }
  __device__ bool desired(int64_t t, int64_t b) const { return a_.desired[network_ * a_.desired_stride + t * x_.P + p0_ + b]; }

  // f(k) for k in [0, n), a warp each.
  template <class F>
  __device__ void for_warps(int64_t n, const F& f) const {
    for (int64_t k = thread_ / 32; k < n; k += threads_ / 32) f(k);
  }

  // What any thread wrote before it, all see behind it.
  __device__ void meet() {
    __syncthreads();
    if (gridDim.x == 1) return;
    tally_.meet(met_++);
    __syncthreads();
  }

  __device__ void present() {
    inputs();
    int64_t t0 = 0;
    do {
      const int64_t t1 = next_change(t0), first = a_.span > 1 ? t0 : t1 - 1;
      if (a_.learns) windows_of_inputs(t0, t1, first);
      for (int64_t l = 0; l < a_.layers; l++) {
        fire(l, t0, t1, first);
        meet();
      }
      if (a_.learns && t0 < t1) learn((t1 - first) * B_);
      t0 = t1;
    } while (t0 < x_.T);
  }

  // The end of the steps from t0 on that see the same weights: after the first in which any sample may have an error.
  __device__ int64_t next_change(int64_t t0) const {
    if (a_.span > 1 || !a_.learns) return x_.T;
    for (int64_t t = t0; t < x_.T; t++) {
      bool any = false;
      for (int64_t b = threadIdx.x; b < B_; b += blockDim.x) any |= desired(t, b);
      if (__syncthreads_or(any)) return t + 1;
    }
    return x_.T;
  }

  // ---- spikes

  __device__ void inputs() {
    const Neurons<C>& x = g_.neurons[0];
    const bool drawn = x_.form == PresentationForm::rates;
    if (drawn) {
      const int64_t size = x_.T * x.N, counters = (size + 3) / 4;
      for (int64_t e = thread_; e < B_ * counters; e += threads_) draw(e / counters, e % counters, size);
      meet();
    }
    for_warps(B_ * x_.T * x.words, [&](int64_t k) {
      const int64_t row = k / x.words, n = k % x.words * 32 + lane_, b = row / x_.T, t = row % x_.T;
      const bool fires =
          n < x.N && (drawn ? own(x.drawn)[row * x.N + n] != 0 : is_spike(x_.spikes, x_.width, (p0_ + b) * x_.presentation_stride + t * x_.step_stride + n));
      const uint32_t bits = __ballot_sync(~0u, fires);
      if (lane_ == 0) own(x.fired)[k] = bits;
    });
    meet();
  }

  // Four elements of poisson(hz per_hz, T, seed).
  __device__ void draw(int64_t b, int64_t counter, int64_t size) const {
    const Neurons<C>& x = g_.neurons[0];
    const float* hz = x_.hz + (p0_ + b) * x.N;
    const Words<uint32_t> drawn = poisson_words(counter, x_.seeds[p0_ + b]);
    const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int64_t e = 4 * counter + k;
      if (e < size) own(x.drawn)[b * size + e] = poisson_fires(poisson_uniform(words[k]), hz[e % x.N] * x_.per_hz);
    }
  }

  // Sum of the weights w[i stride] of the inputs that fired.
  __device__ static C current(const uint32_t* fired, int64_t words, const C* w, int64_t stride) {
    C total = 0;
    for (int64_t word = 0; word < words; word++)
      for (uint32_t bits = fired[word]; bits;) {
        C part[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
          part[k] = bits ? w[(32 * word + __ffs(static_cast<int>(bits)) - 1) * stride] : C(0);
          bits &= bits - 1;
        }
#pragma unroll
        for (int k = 0; k < kAhead; k++) total += part[k];
      }
    return total;
  }

  __device__ void fire(int64_t l, int64_t t0, int64_t t1, int64_t first) const {
    const BpStdpLayer& y = a_.layer[l];
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const C threshold = static_cast<C>(a_.threshold(network_, l));
    const int64_t stride = a_.packs() ? y.O : 1;
    for_warps(B_ * out.words, [&](int64_t k) {
      const int64_t b = k / out.words, word = k % out.words, n = 32 * word + lane_, e = b * y.O + n, before = (network_ * x_.P + p0_) * y.O + e;
      const bool mine = n < y.O;
      const int64_t neuron = mine ? n : y.O - 1;
      const C* w = a_.packs() ? own(out.packed) + neuron : weights(l) + neuron * y.I;
      C v = 0;
      int32_t count = 0;
      if (mine && t0 > 0) v = own(out.v)[e];
      if (mine && t0 == 0 && a_.carry) v = static_cast<const C*>(y.v_before)[before];
      if (mine && t0 > 0 && a_.learns) count = own(out.counts)[e];
      for (int64_t t = t0; t < t1; t++) {
        v += current(own(x.fired) + (b * x_.T + t) * x.words, x.words, w, stride);
        const bool fires = mine && v >= threshold;
        if (fires) v = 0;
        const uint32_t bits = __ballot_sync(~0u, fires);
        uint32_t* const fired = own(out.fired) + (b * x_.T + t) * out.words + word;
        if (lane_ == 0) *fired = bits;
        if (fires && y.spikes) y.spikes[((network_ * x_.T + t) * x_.P + p0_ + b) * y.spikes_stride + n] = true;
        if (!a_.learns) continue;
        __syncwarp();
        count += fires;
        if (t > a_.epsilon) count -= fired[-(a_.epsilon + 1) * out.words] >> lane_ & 1;
        if (!mine || t < first) continue;
        const int64_t slot = ((t - first) * B_ + b) * y.O + n;
        if (l + 1 < a_.layers)
          own(out.windows)[slot] = static_cast<C>(count);
        else
          own(out.error)[slot] = error_of_output(t, b, n, count > 0);
      }
      if (!mine) return;
      own(out.v)[e] = v;
      if (a_.learns) own(out.counts)[e] = count;
      if (a_.return_state && t1 == x_.T) static_cast<C*>(y.v_after)[before] = v;
    });
  }

  __device__ C error_of_output(int64_t t, int64_t b, int64_t o, bool fired) const {
    const bool right = a_.labels[network_ * a_.labels_stride + p0_ + b] == o;
    return !desired(t, b) || right == fired ? C(0) : right ? C(1) : C(-1);
  }

  __device__ void windows_of_inputs(int64_t t0, int64_t t1, int64_t first) const {
    const Neurons<C>& x = g_.neurons[0];
    for_warps(B_ * x.words, [&](int64_t k) {
      const int64_t b = k / x.words, word = k % x.words, n = 32 * word + lane_;
      if (n >= x.N) return;
      int32_t count = t0 > 0 ? own(x.counts)[b * x.N + n] : 0;
      for (int64_t t = t0; t < t1; t++) {
        const uint32_t* const fired = own(x.fired) + (b * x_.T + t) * x.words + word;
        count += *fired >> lane_ & 1;
        if (t > a_.epsilon) count -= fired[-(a_.epsilon + 1) * x.words] >> lane_ & 1;
        if (t >= first) own(x.windows)[((t - first) * B_ + b) * x.N + n] = static_cast<C>(count);
      }
      own(x.counts)[b * x.N + n] = count;
    });
  }

  // ---- learning

  __device__ void learn(int64_t slots) {
    for (int64_t l = a_.layers - 1; l > 0; l--) {
      pass_back(l, slots);
      meet();
    }
    for (int64_t l = 0; l < a_.layers; l++) change(l, slots);
    meet();
  }

  // error[k, i] = sum of error[k, o] w[o, i] over o, where a spike is in the window.
  __device__ void pass_back(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const C* w = weights(l);
    for (int64_t e = thread_; e < slots * x.N; e += threads_) {
      const int64_t k = e / x.N, i = e % x.N;
      C total = 0;
      if (own(x.windows)[e] > 0)
        for (int64_t o = 0; o < out.N; o++) {
          const C factor = own(out.error)[k * out.N + o];
          if (factor != 0) total += factor * w[o * x.N + i];
        }
      own(x.error)[e] = total;
    }
  }

  // w[o, i] += (scale error[k, o]) windows[k, i] for one k after the other.
  __device__ void change(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const C scale = static_cast<C>(a_.scale(network_, B_));
    for_warps((x.N + kTogether - 1) / kTogether * out.words, [&](int64_t item) {
      const int64_t i = item / out.words * kTogether, o = item % out.words * 32 + lane_;
      if (o >= out.N) return;
      const int64_t inputs = min(x.N - i, kTogether);
      C* const packed = own(out.packed) + i * out.N + o;
      C weight[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; j++) weight[j] = j < inputs ? packed[j * out.N] : C(0);
      bool changes = false;
      for (int64_t k = 0; k < slots; k++) {
        const C factor = own(out.error)[k * out.N + o];
        if (factor == 0) continue;
        changes = true;
#pragma unroll
        for (int j = 0; j < kTogether; j++)
          if (j < inputs) weight[j] += (scale * factor) * own(x.windows)[k * x.N + i + j];
      }
      if (!changes) return;
#pragma unroll
      for (int j = 0; j < kTogether; j++) {
        if (j >= inputs) continue;
        packed[j * out.N] = weight[j];
        if (l > 0) weights(l)[o * x.N + i + j] = weight[j];
      }
    });
  }
};

// One block a multiprocessor: for a second one nvcc would spill registers.
template <class C, class Tally>
__global__ void __launch_bounds__(kAlone, 1) bp_stdp_network_kernel(const Arguments<C> g) {
  if constexpr (Tally::kPossible) {
    SNNFAST_DYN_SHARED(char, memory);
    for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y) {
      Block<C, Tally>(g, memory, network).run();
      __syncthreads();  // before the memory is the next network's
    }
  }
}

template <class C>
TeamKernels<Arguments<C>> kernels() {
  return {bp_stdp_network_kernel<C, GridTally>, bp_stdp_network_kernel<C, ClusterTally>};
}

// Memory of a row of the grid, from 0 on.
template <class C>
int64_t lay_out(const BpStdpNetwork& a, Neurons<C> (&neurons)[kBpStdpLayers + 1]) {
  Arena arena(nullptr);
  const int64_t B = a.samples(), slots = a.learns ? a.span * B : 0;
  for (int64_t n = 0; n <= a.layers; n++) {
    Neurons<C>& x = neurons[n];
    x.N = n == 0 ? a.layer[0].I : a.layer[n - 1].O, x.words = (x.N + 31) / 32;
    x.drawn = arena.take<uint8_t>(n == 0 && a.x.form == PresentationForm::rates ? B * a.x.T * x.N : 0);
    x.fired = arena.take<uint32_t>(B * a.x.T * x.words);
    x.counts = arena.take<int32_t>(slots ? B * x.N : 0);
    x.windows = arena.take<C>(n < a.layers ? slots * x.N : 0);
    x.error = arena.take<C>(n > 0 ? slots * x.N : 0);
    x.v = arena.take<C>(n > 0 ? B * x.N : 0);
    x.packed = arena.take<C>(n > 0 && a.packs() ? a.layer[n - 1].I * x.N : 0);
  }
  return arena.used();
}

// Up to kLargestCluster times kAlone threads are a cluster, if the device has them and all networks run at the same time.
// One block has its memory, `row` bytes, in shared memory, if as many are resident with it.
template <class C>
cudaError_t plan_of(const BpStdpNetwork& a, int64_t row, Teams& plan) {
  int64_t wanted = 1, room = 0, resident = 0;
  for (int64_t l = 0; l < a.layers; l++) {
    const int64_t I = a.layer[l].I, O = a.layer[l].O, B = a.samples(), changes = a.learns ? a.span * B * I * O / kChanges : 0;
    const int64_t threads = max((O + 31) / 32 * 32 * B, changes);
    wanted = max(threads, wanted);
  }
  const TeamSizes sizes{kAlone, kAlone, kSharedThreads};
  TeamDevice on;
  cudaError_t error = on.ask(kernels<C>());
  if (error == cudaSuccess) error = plan_teams(kernels<C>().grid, on, a.networks, wanted, 1, sizes.threads(wanted), plan);
  if (error == cudaSuccess) error = allow_shared(kernels<C>().grid, on, room);
  if (error != cudaSuccess) return error;
  Teams other = plan;
  if (plan.alone()) {
    other.shared = true, other.block_bytes = row;
  } else {
    other.threads = kAlone, other.networks = a.networks, other.cluster = true;
    for (other.blocks = 2; other.blocks * kAlone < wanted;) other.blocks *= 2;
    Arena team(nullptr);
    team.take<TallyWord>(GridTally::words(1, plan.blocks));
    plan.team_bytes = team.used();
  }
  if (other.cluster ? !on.clusters || other.blocks > kLargestCluster : row > room) return cudaSuccess;
  error = resident_blocks(kernels<C>().of(other), on, other, resident);
  if (error == cudaSuccess && resident >= other.all_blocks()) plan = other;
  return error;
}

template <class C>
int64_t workspace(const BpStdpNetwork& a) {
  Teams plan;
  Neurons<C> neurons[kBpStdpLayers + 1];
  const int64_t row = lay_out<C>(a, neurons);
  return plan_of<C>(a, row, plan) == cudaSuccess ? plan.workspace() + (plan.shared ? 0 : plan.networks * row) : 0;
}

template <class C>
int launch(const BpStdpNetwork& a, char* memory, cudaStream_t stream) {
  Arguments<C> g{a, {}, memory, 0, {}};
  g.row = lay_out<C>(a, g.neurons);
  const cudaError_t error = plan_of<C>(a, g.row, g.plan);
  return error == cudaSuccess ? launch_teams(kernels<C>(), stream, g) : error;
}

}  // namespace

int64_t bp_stdp_network_workspace(const BpStdpNetwork& a) { return a.is_double ? workspace<double>(a) : workspace<float>(a); }

int launch_bp_stdp_network(const BpStdpNetwork& a, void* workspace, void* stream) {
  char* memory = static_cast<char*>(workspace);
  return a.is_double ? launch<double>(a, memory, static_cast<cudaStream_t>(stream)) : launch<float>(a, memory, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
