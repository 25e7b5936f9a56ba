// A network is a block (network_launch.cuh), and one launch presents all samples to all networks. A warp has 32 neurons
// of a sample, one per lane, for all steps that use the same weights, and writes their spikes as the bits of a word.
// Currents are sums over the bits, in the order of the inputs; for them a copy of the weights, updated along with them,
// is stored input by input.
#include "cuda/bp_stdp_network_memory.cuh"
#include "cuda/presentations.cuh"

namespace snnfast {
namespace {

constexpr int kAhead = 4;     // weights of a current that are loaded together
constexpr int kTogether = 4;  // inputs with spikes in a window whose weights a thread updates together

template <class C>
struct Arguments {
  BpStdpNetwork a;
  NetworkLaunch plan;
  char* workspace;
  Neurons<C> neurons[kBpStdpLayers + 1];
};

// Row and column of element k in rows of n numbers.
struct Cell {
  int64_t row, at;

  __device__ Cell(int64_t k, int64_t n) : row(divided(k, n)), at(k - row * n) {}
};

template <class C>
class Block {
 public:
  __device__ Block(const Arguments<C>& g, char* memory, int64_t network)
      : g_(g),
        a_(g.a),
        x_(g.a.x.network(network)),
        network_(network),
        thread_(threadIdx.x),
        threads_(blockDim.x),
        lane_(static_cast<int>(threadIdx.x) % 32),
        memory_(memory) {}

  __device__ void run() {
    for (int64_t l = 0; l < a_.layers && a_.packs(); l++) for_weights(l, [&](C& packed, C& w) { packed = w; });
    for (p0_ = 0; p0_ < x_.P; p0_ += a_.samples()) {
      B_ = min(a_.samples(), x_.P - p0_);
      present();
    }
    // Weights of the other layers are updated with their copies, since errors are passed back along them.
    if (a_.learns) for_weights(0, [&](C& packed, C& w) { w = packed; });
  }

 private:
  const Arguments<C>& g_;
  const BpStdpNetwork& a_;  // of all networks
  const Presentations x_;   // of this network
  const int64_t network_, thread_, threads_;
  const int lane_;
  char* const memory_;
  int64_t p0_ = 0, B_ = 0;  // the samples [p0, p0 + B) are presented

  template <class T>
  __device__ T* local(T* address) const {
    return reinterpret_cast<T*>(memory_ + reinterpret_cast<uintptr_t>(address));
  }
  __device__ C* weights(int64_t l) const {
    return static_cast<C*>(a_.layer[l].w) + network_ * a_.layer[l].O * a_.layer[l].I;
  }
  __device__ bool desired(int64_t t, int64_t b) const {
    return a_.desired[network_ * a_.desired_stride + t * x_.P + p0_ + b];
  }

  // Calls f(copy, weight) for the weights of a layer.
  template <class F>
  __device__ void for_weights(int64_t l, const F& f) const {
    const int64_t O = a_.layer[l].O, I = a_.layer[l].I;
    C* const packed = local(g_.neurons[l + 1].packed);
    for (int64_t e = thread_; e < I * O; e += threads_) {
      const auto [i, o] = Cell(e, O);
      f(packed[e], weights(l)[o * I + i]);
    }
  }

  // Calls f(k) for k in [0, n), one warp each.
  template <class F>
  __device__ void for_warps(int64_t n, const F& f) const {
    for (int64_t k = thread_ / 32; k < n; k += threads_ / 32) f(k);
  }

  __device__ void present() {
    inputs();
    int64_t t0 = 0;
    do {
      const int64_t t1 = next_change(t0), first = a_.span > 1 ? t0 : t1 - 1;
      if (a_.learns) windows_of_inputs(t0, t1, first);
      for (int64_t l = 0; l < a_.layers; l++) {
        fire(l, t0, t1, first);
        __syncthreads();
      }
      if (a_.learns && t0 < t1) learn((t1 - first) * B_);
      t0 = t1;
    } while (t0 < x_.T);
  }

  // End of the steps from t0 on that use the same weights: after the first step in which any sample may have an error.
  __device__ int64_t next_change(int64_t t0) const {
    if (a_.span > 1 || !a_.learns) return x_.T;
    for (int64_t t = t0; t < x_.T; t++) {
      bool any = false;
      for (int64_t b = threadIdx.x; b < B_; b += blockDim.x) any |= desired(t, b);
      if (__syncthreads_or(any)) return t + 1;
    }
    return x_.T;
  }

  __device__ void inputs() {
    const Neurons<C>& x = g_.neurons[0];
    const bool drawn = x_.form == PresentationForm::rates;
    const int64_t elements = x_.T * x.N;
    if (drawn) {
      const int64_t counters = (elements + 3) / 4;
      for (int64_t e = thread_; e < B_ * counters; e += threads_)
        draw(e / counters, e % counters, elements, local(x.drawn) + e / counters * elements);
      __syncthreads();
    }
    for_warps(B_ * x_.T * x.words, [&](int64_t k) {
      const auto [row, word] = Cell(k, x.words);
      const auto [b, t] = Cell(row, x_.T);
      const int64_t n = word * 32 + lane_;
      const bool fires = n < x.N && (drawn ? local(x.drawn)[row * x.N + n] != 0
                                           : is_spike(x_.spikes, x_.width,
                                                      (p0_ + b) * x_.presentation_stride + t * x_.step_stride + n));
      write_word(x.fired + k, __ballot_sync(~0u, fires));
    });
    __syncthreads();
  }

  // By a warp whose lanes all have the value.
  __device__ void write_word(uint32_t* address, uint32_t value) const {
    if (lane_ == 0) *local(address) = value;
  }

  // Draws four elements of poisson(hz per_hz, T, seed), of which there are `elements`.
  __device__ void draw(int64_t b, int64_t counter, int64_t elements, uint8_t* to) const {
    const int64_t N = g_.neurons[0].N;
    const float* hz = x_.hz + (p0_ + b) * N;
    const Words<uint32_t> drawn = poisson_words(counter, x_.seeds[p0_ + b]);
    const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int64_t e = 4 * counter + k;
      if (e < elements) to[e] = poisson_fires(poisson_uniform(words[k]), hz[e % N] * x_.per_hz);
    }
  }

  // Sum of the weights w[i stride] of the neurons i of x that fired.
  __device__ static C current(const Neurons<C>& x, const uint32_t* fired, const C* w, int64_t stride) {
    C total = 0;
    for (int64_t k = 0; k < x.words; k++)
      for (uint32_t bits = *fired++; bits;) {
        C part[kAhead];
#pragma unroll
        for (int j = 0; j < kAhead; j++) {
          part[j] = bits ? w[(32 * k + __ffs(static_cast<int>(bits)) - 1) * stride] : C(0);
          bits &= bits - 1;
        }
#pragma unroll
        for (int j = 0; j < kAhead; j++) total += part[j];
      }
    return total;
  }

  __device__ void fire(int64_t l, int64_t t0, int64_t t1, int64_t first) const {
    const BpStdpLayer& y = a_.layer[l];
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const C threshold = static_cast<C>(a_.threshold(network_, l));
    const int64_t stride = a_.packs() ? out.N : 1;
    for_warps(B_ * out.words, [&](int64_t item) {
      const auto [b, word] = Cell(item, out.words);
      const int64_t n = 32 * word + lane_;
      const bool mine = n < out.N;
      const int64_t near = mine ? n : 0, e = b * out.N + n, outside = (network_ * x_.P + p0_ + b) * y.O + n;
      const C* w = a_.packs() ? local(out.packed) + near : weights(l) + near * y.I;
      C v = 0;
      int32_t count = 0;
      if (mine && t0 > 0) v = local(out.v)[e];
      if (mine && t0 == 0 && a_.carry) v = static_cast<const C*>(y.v_before)[outside];
      if (mine && t0 > 0 && a_.learns) count = local(out.counts)[e];
      for (int64_t t = t0; t < t1; t++) {
        v += current(x, local(x.fired) + (b * x_.T + t) * x.words, w, stride);
        const bool fires = mine && v >= threshold;
        if (fires) v = 0;
        uint32_t* const fired = out.fired + (b * x_.T + t) * out.words + word;
        write_word(fired, __ballot_sync(~0u, fires));
        if (fires && y.spikes) y.spikes[((network_ * x_.T + t) * x_.P + p0_ + b) * y.spikes_stride + n] = true;
        if (!a_.learns) continue;
        __syncwarp();
        count += fires;
        if (t > a_.epsilon) count -= local(fired)[-(a_.epsilon + 1) * out.words] >> lane_ & 1;
        if (!mine || t < first) continue;
        const int64_t slot = ((t - first) * B_ + b) * y.O + n;
        if (l + 1 < a_.layers)
          local(out.windows)[slot] = static_cast<C>(count);
        else
          local(out.error)[slot] = error_of_output(t, b, n, count > 0);
      }
      if (!mine) return;
      local(out.v)[e] = v;
      if (a_.learns) local(out.counts)[e] = count;
      if (a_.return_state && t1 == x_.T) static_cast<C*>(y.v_after)[outside] = v;
    });
  }

  __device__ C error_of_output(int64_t t, int64_t b, int64_t o, bool fired) const {
    const bool right = a_.labels[network_ * a_.labels_stride + p0_ + b] == o;
    return !desired(t, b) || right == fired ? C(0) : right ? C(1) : C(-1);
  }

  __device__ void windows_of_inputs(int64_t t0, int64_t t1, int64_t first) const {
    const Neurons<C>& x = g_.neurons[0];
    for_warps(B_ * x.words, [&](int64_t k) {
      const auto [b, word] = Cell(k, x.words);
      const int64_t n = 32 * word + lane_;
      if (n >= x.N) return;
      int32_t count = t0 > 0 ? local(x.counts)[b * x.N + n] : 0;
      for (int64_t t = t0; t < t1; t++) {
        const uint32_t* const fired = local(x.fired) + (b * x_.T + t) * x.words + word;
        count += *fired >> lane_ & 1;
        if (t > a_.epsilon) count -= fired[-(a_.epsilon + 1) * x.words] >> lane_ & 1;
        if (t >= first) local(x.windows)[((t - first) * B_ + b) * x.N + n] = static_cast<C>(count);
      }
      local(x.counts)[b * x.N + n] = count;
    });
  }

  __device__ void learn(int64_t slots) {
    for (int64_t l = a_.layers - 1; l > 0; l--) {
      pass_back(l, slots);
      __syncthreads();
    }
    for (int64_t l = 0; l < a_.layers; l++) change(l, slots);
    __syncthreads();
  }

  // error[k, i] = sum of error[k, o] w[o, i] over o, or 0 if the window of i has no spike.
  __device__ void pass_back(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    for (int64_t e = thread_; e < slots * x.N; e += threads_) {
      const auto [k, i] = Cell(e, x.N);
      C total = 0;
      if (local(x.windows)[e] > 0)
        for (int64_t o = 0; o < out.N; o++) {
          const C factor = local(out.error)[k * out.N + o];
          if (factor != 0) total += factor * weights(l)[o * x.N + i];
        }
      local(x.error)[e] = total;
    }
  }

  // w[o, i] += (scale error[k, o]) windows[k, i], for k in order.
  __device__ void change(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const int64_t inputs = inputs_of_a_warp(x.N, out.words);
    const C scale = static_cast<C>(a_.scale(network_, B_));
    for_warps((x.N + inputs - 1) / inputs * out.words, [&](int64_t item) {
      const auto [group, word] = Cell(item, out.words);
      const int64_t i = group * inputs, n = word * 32 + lane_;
      uint32_t bits =
          __ballot_sync(~0u, lane_ < inputs && i + lane_ < x.N && has_any(x.windows, x.N, i + lane_, slots));
      if (n >= out.N || !has_any(out.error, out.N, n, slots)) return;
      C* const rows = l > 0 ? weights(l) + n * x.N + i : nullptr;
      while (bits)
        change(l, slots, scale, local(x.windows) + i, local(out.error) + n, local(out.packed) + i * out.N + n, rows,
               bits);
    });
  }

  // Inputs of a warp: at most one per lane, and such that every warp has some.
  __device__ int64_t inputs_of_a_warp(int64_t N, int64_t words) const {
    int64_t inputs = kTogether;
    while (inputs < 32 && N * words >= 2 * inputs * (threads_ / 32)) inputs *= 2;
    return inputs;
  }

  // Whether column n of [slots, N] has a nonzero value.
  __device__ bool has_any(C* values, int64_t N, int64_t n, int64_t slots) const {
    for (int64_t k = 0; k < slots; k++)
      if (local(values)[k * N + n] != 0) return true;
    return false;
  }

  // Updates the weights to a neuron of the next inputs whose bits are set, and clears these bits. After the last bit,
  // the first one is repeated.
  __device__ void change(int64_t l, int64_t slots, C scale, const C* windows, const C* error, C* packed, C* rows,
                         uint32_t& bits) const {
    const int64_t stride = g_.neurons[l + 1].N;
    int at[kTogether];
    C weight[kTogether];
#pragma unroll
    for (int q = 0; q < kTogether; q++) {
      at[q] = bits ? __ffs(static_cast<int>(bits)) - 1 : at[0];
      bits &= bits - 1;
      weight[q] = packed[at[q] * stride];
    }
#pragma unroll 1
    for (int64_t k = 0; k < slots; k++, error += g_.neurons[l + 1].N, windows += g_.neurons[l].N) {
      if (*error == 0) continue;
      const C factor = scale * *error;
#pragma unroll
      for (int q = 0; q < kTogether; q++) weight[q] += factor * windows[at[q]];
    }
#pragma unroll
    for (int q = 0; q < kTogether; q++) {
      packed[at[q] * stride] = weight[q];
      if (rows) rows[at[q]] = weight[q];
    }
  }
};

// One block per multiprocessor: for two, nvcc would spill registers.
template <class C>
__global__ void __launch_bounds__(kMostThreads, 1) bp_stdp_network_kernel(const Arguments<C> g) {
  SNNFAST_DYN_SHARED(char, memory);
  // A thread begins a network by writing those copies of weights that it has read last.
  for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y)
    Block<C>(g, g.plan.memory(g.workspace, memory), network).run();
}

template <class C>
cudaError_t plan_of(Arguments<C>& g) {
  const int64_t bytes = lay_out<C>(g.a, g.neurons);
  return plan_networks(
      bp_stdp_network_kernel<C>, g.a.networks, threads_wanted(g.a), kMostThreads, 1, false,
      [&](const NetworkLaunch&) { return bytes; }, g.plan);
}

template <class C>
int64_t workspace(const BpStdpNetwork& a) {
  Arguments<C> g{a, {}, nullptr, {}};
  return plan_of(g) == cudaSuccess ? g.plan.workspace() : 0;
}

template <class C>
int launch(const BpStdpNetwork& a, void* workspace, void* stream) {
  Arguments<C> g{a, {}, static_cast<char*>(workspace), {}};
  const cudaError_t error = plan_of(g);
  return error == cudaSuccess ? launch_networks(bp_stdp_network_kernel<C>, stream, g) : error;
}

}  // namespace

int64_t bp_stdp_network_workspace(const BpStdpNetwork& a) {
  return a.is_double ? workspace<double>(a) : workspace<float>(a);
}

int launch_bp_stdp_network(const BpStdpNetwork& a, void* workspace, void* stream) {
  return a.is_double ? launch<double>(a, workspace, stream) : launch<float>(a, workspace, stream);
}

}  // namespace snnfast
