// A network is a team of blocks, and one launch presents all samples to all networks. A warp has 32 neurons of a
// sample, one per lane, for all steps that use the same weights, and writes their spikes as the bits of a word.
// Currents are sums over the bits, in the order of the inputs; for them a copy of the weights, updated along with them,
// is stored input by input. Between layers, and before and after an update of the weights, the blocks wait for each
// other: at the barrier of their cluster, if they are few.
//
// A single block has all of this, including its copy of the weights, in shared memory, if it fits. Otherwise the blocks
// of a cluster are parts of the network, if each part fits: its neurons with the weights to them, and from them to the
// next layer, which it updates, too, so that it passes errors back without communication. Each part writes the spikes,
// windows and errors of its neurons into the shared memory of all parts. Otherwise memory is global, and the blocks
// divide all work.
#include "cuda/bp_stdp_network_memory.cuh"
#include "cuda/presentations.cuh"

namespace snnfast {
namespace {

constexpr int kAhead = 4;     // weights of a current that are loaded together
constexpr int kTogether = 4;  // inputs with spikes in a window whose weights a thread updates together

template <class C>
struct Arguments {
  BpStdpNetwork a;
  Teams plan;
  char* workspace;  // words of the tallies, then the memory of each row of the grid, unless that is in shared memory
  int64_t parts;    // of a network, or 1
  int64_t row;      // bytes of memory of a row of the grid
  Neurons<C> neurons[kBpStdpLayers + 1];
};

// Row and column of element k in rows of n numbers.
struct Cell {
  int64_t row, at;

  __device__ Cell(int64_t k, int64_t n) : row(divided(k, n)), at(k - row * n) {}
};

template <class C, class Tally>
class Block {
 public:
  __device__ Block(const Arguments<C>& g, char* shared_memory, int64_t network)
      : g_(g),
        a_(g.a),
        x_(g.a.x.network(network)),
        network_(network),
        part_(parts() > 1 ? blockIdx.x : 0),
        thread_(parts() > 1 ? threadIdx.x : static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x),
        threads_(parts() > 1 ? blockDim.x : static_cast<int64_t>(gridDim.x) * blockDim.x),
        lane_(static_cast<int>(threadIdx.x) % 32),
        memory_(g.plan.shared ? shared_memory : g.workspace + g.plan.workspace() + blockIdx.y * g.row),
        tally_(g.plan.team_memory(g.workspace).template take<TallyWord>(GridTally::words(1, gridDim.x)), 1, blockIdx.x,
               gridDim.x) {}

  __device__ void run() {
    for (int64_t l = 0; l < a_.layers && a_.packs(); l++) {
      for_weights_to(g_.neurons[l + 1], a_.layer[l].I,
                     [&](int64_t at, int64_t index) { local(g_.neurons[l + 1].packed)[at] = weights(l)[index]; });
      if (parts() > 1 && a_.learns && l > 0) copy_back(l);
    }
    meet();
    for (p0_ = 0; p0_ < x_.P; p0_ += a_.samples()) {
      B_ = min(a_.samples(), x_.P - p0_);
      present();
    }
    // Without parts, rows of the other layers are updated as well, since errors are passed back along them.
    for (int64_t l = 0; a_.learns && l < (parts() > 1 ? a_.layers : 1); l++)
      for_weights_to(g_.neurons[l + 1], a_.layer[l].I,
                     [&](int64_t at, int64_t index) { weights(l)[index] = local(g_.neurons[l + 1].packed)[at]; });
  }

 private:
  static constexpr bool kParts = std::is_same_v<Tally, ClusterTally>;
  const Arguments<C>& g_;
  const BpStdpNetwork& a_;          // of all networks
  const Presentations x_;           // of this network
  const int64_t network_, part_;    // index of this network and of this part
  const int64_t thread_, threads_;  // of a part, or of the team
  const int lane_;
  char* const memory_;
  Tally tally_;
  int64_t met_ = 0, p0_ = 0, B_ = 0;  // the samples [p0, p0 + B) are presented

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

  __device__ int64_t parts() const { return kParts ? g_.parts : 1; }
  // First neuron of this part, and its number of neurons.
  __device__ int64_t first_of(const Neurons<C>& x) const { return part_ * x.per_part; }
  __device__ int64_t count_of(const Neurons<C>& x) const { return max(min(x.N - first_of(x), x.per_part), int64_t{0}); }

  // The same address in the memory of a part.
  template <class T>
  __device__ T* of_part(T* address, int64_t part) const {
    T* const local_address = local(address);
    if constexpr (kParts)
      if (part != part_) return in_block(local_address, static_cast<unsigned>(part));
    return local_address;
  }
  // Writes a value to all parts.
  template <class T>
  __device__ void broadcast(T* address, T value) const {
    for (int64_t part = 0; part < parts(); part++) *of_part(address, part) = value;
  }
  // The same by a warp whose lanes all have the value.
  template <class T>
  __device__ void broadcast_by_warp(T* address, T value) const {
    if (lane_ < parts()) *of_part(address, lane_) = value;
  }

  // Calls f(index in `packed`, index in the weights of the layer) for the weights to the neurons of this part.
  template <class F>
  __device__ void for_weights_to(const Neurons<C>& y, int64_t I, const F& f) const {
    const int64_t count = count_of(y), first = first_of(y);
    for (int64_t e = thread_; e < I * count; e += threads_) {
      const auto [i, j] = Cell(e, count);
      f(i * y.per_part + j, (first + j) * I + i);
    }
  }

  // Calls f(k) for k in [0, n), one warp each.
  template <class F>
  __device__ void for_warps(int64_t n, const F& f) const {
    for (int64_t k = thread_ / 32; k < n; k += threads_ / 32) f(k);
  }

  // Barrier: all threads see what any thread wrote before.
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
    const int64_t most = (x_.T + parts() - 1) / parts(), from = min(part_ * most, x_.T), steps = min(x_.T - from, most);
    if (drawn) {
      const int64_t begin = from * x.N, end = begin + steps * x.N, counter = begin / 4,
                    counters = (end + 3) / 4 - counter;
      for (int64_t e = thread_; e < B_ * counters; e += threads_)
        draw(e / counters, counter + e % counters, begin, end, local(x.drawn) + e / counters * most * x.N);
      meet();
    }
    for_warps(B_ * steps * x.words, [&](int64_t k) {
      const auto [row, word] = Cell(k, x.words);
      const auto [b, step] = Cell(row, steps);
      const int64_t n = word * 32 + lane_, t = from + step;
      const bool fires = n < x.N && (drawn ? local(x.drawn)[(b * most + step) * x.N + n] != 0
                                           : is_spike(x_.spikes, x_.width,
                                                      (p0_ + b) * x_.presentation_stride + t * x_.step_stride + n));
      broadcast_by_warp(x.fired + (b * x_.T + t) * x.words + word, __ballot_sync(~0u, fires));
    });
    meet();
  }

  // Draws four elements of poisson(hz per_hz, T, seed); writes those in [begin, end).
  __device__ void draw(int64_t b, int64_t counter, int64_t begin, int64_t end, uint8_t* to) const {
    const int64_t N = g_.neurons[0].N;
    const float* hz = x_.hz + (p0_ + b) * N;
    const Words<uint32_t> drawn = poisson_words(counter, x_.seeds[p0_ + b]);
    const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int64_t e = 4 * counter + k;
      if (e >= begin && e < end) to[e - begin] = poisson_fires(poisson_uniform(words[k]), hz[e % N] * x_.per_hz);
    }
  }

  // Sum of the weights w[i stride] of the neurons i of x that fired.
  __device__ static C current(const Neurons<C>& x, const uint32_t* fired, const C* w, int64_t stride) {
    C total = 0;
    for (int64_t first = 0; first < x.N; first += x.per_part)
      for (int64_t k = 0; k < x.words_per_part; k++)
        for (uint32_t bits = *fired++; bits;) {
          C part[kAhead];
#pragma unroll
          for (int j = 0; j < kAhead; j++) {
            part[j] = bits ? w[(first + 32 * k + __ffs(static_cast<int>(bits)) - 1) * stride] : C(0);
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
    const int64_t stride = a_.packs() ? out.per_part : 1, count_of_part = count_of(out);
    for_warps(B_ * out.words_per_part, [&](int64_t item) {
      const auto [b, word] = Cell(item, out.words_per_part);
      const int64_t j = 32 * word + lane_, n = first_of(out) + j;
      const bool mine = j < count_of_part;
      const int64_t near = mine ? j : 0, e = b * out.per_part + j, outside = (network_ * x_.P + p0_ + b) * y.O + n;
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
        uint32_t* const fired = out.fired + (b * x_.T + t) * out.words + part_ * out.words_per_part + word;
        broadcast_by_warp(fired, __ballot_sync(~0u, fires));
        if (fires && y.spikes) y.spikes[((network_ * x_.T + t) * x_.P + p0_ + b) * y.spikes_stride + n] = true;
        if (!a_.learns) continue;
        __syncwarp();
        count += fires;
        if (t > a_.epsilon) count -= local(fired)[-(a_.epsilon + 1) * out.words] >> lane_ & 1;
        if (!mine || t < first) continue;
        const int64_t slot = ((t - first) * B_ + b) * y.O + n;
        if (l + 1 < a_.layers)
          broadcast(out.windows + slot, static_cast<C>(count));
        else
          broadcast(out.error + slot, error_of_output(t, b, n, count > 0));
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
      meet();
    }
    for (int64_t l = 0; l < a_.layers; l++) change(l, slots);
    meet();
  }

  // error[k, i] = sum of error[k, o] w[o, i] over o, or 0 if the window of i has no spike.
  __device__ void pass_back(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const int64_t count = count_of(x), first = first_of(x), stride = parts() > 1 ? x.per_part : x.N;
    const C* w = parts() > 1 ? local(x.back) : weights(l);
    for (int64_t e = thread_; e < slots * count; e += threads_) {
      const auto [k, j] = Cell(e, count);
      const int64_t at = k * x.N + first + j;
      C total = 0;
      if (local(x.windows)[at] > 0)
        for (int64_t o = 0; o < out.N; o++) {
          const C factor = local(out.error)[k * out.N + o];
          if (factor != 0) total += factor * w[o * stride + j];
        }
      broadcast(x.error + at, total);
    }
  }

  // w[o, i] += (scale error[k, o]) windows[k, i], for k in order.
  __device__ void change(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const int64_t count = count_of(out), first = first_of(out), inputs = inputs_of_a_warp(x.N, out.words_per_part);
    const C scale = static_cast<C>(a_.scale(network_, B_));
    for_warps((x.N + inputs - 1) / inputs * out.words_per_part, [&](int64_t item) {
      const auto [group, word] = Cell(item, out.words_per_part);
      const int64_t i = group * inputs, j = word * 32 + lane_;
      uint32_t bits =
          __ballot_sync(~0u, lane_ < inputs && i + lane_ < x.N && has_any(x.windows, x.N, i + lane_, slots));
      if (j >= count || !has_any(out.error, out.N, first + j, slots)) return;
      C* const rows = l > 0 && parts() == 1 ? weights(l) + (first + j) * x.N + i : nullptr;
      while (bits)
        change(l, slots, scale, local(x.windows) + i, local(out.error) + first + j,
               local(out.packed) + i * out.per_part + j, rows, bits);
    });
    if (l > 0 && parts() > 1) change_back(l, slots);
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
    const int64_t stride = g_.neurons[l + 1].per_part;
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

  __device__ void copy_back(int64_t l) const {
    for_weights_from(l, [&](C& w, int64_t o, int64_t i) { w = weights(l)[o * g_.neurons[l].N + i]; });
  }
  // Like change(), for the weights from neurons of this part to those of the next layer, of which it has a copy.
  __device__ void change_back(int64_t l, int64_t slots) const {
    const Neurons<C>&x = g_.neurons[l], &out = g_.neurons[l + 1];
    const C scale = static_cast<C>(a_.scale(network_, B_));
    for_weights_from(l, [&](C& w, int64_t o, int64_t i) {
      if (!has_any(out.error, out.N, o, slots)) return;
      C weight = w;
      for (int64_t k = 0; k < slots; k++) {
        const C factor = local(out.error)[k * out.N + o];
        if (factor != 0) weight += (scale * factor) * local(x.windows)[k * x.N + i];
      }
      w = weight;
    });
  }
  // Calls f(weight, o, neuron), with the same o in a warp.
  template <class F>
  __device__ void for_weights_from(int64_t l, const F& f) const {
    const Neurons<C>& x = g_.neurons[l];
    const int64_t count = count_of(x);
    for_warps(g_.neurons[l + 1].N * x.words_per_part, [&](int64_t item) {
      const auto [o, word] = Cell(item, x.words_per_part);
      const int64_t j = word * 32 + lane_;
      if (j < count) f(local(x.back)[o * x.per_part + j], o, first_of(x) + j);
    });
  }
};

// One block per multiprocessor: for two, nvcc would spill registers.
template <class C, class Tally>
__global__ void __launch_bounds__(kAlone, 1) bp_stdp_network_kernel(const Arguments<C> g) {
  if constexpr (Tally::kPossible) {
    SNNFAST_DYN_SHARED(char, memory);
    for (int64_t network = blockIdx.y; network < g.a.networks; network += gridDim.y) {
      Block<C, Tally>(g, memory, network).run();
      __syncthreads();  // before the next network uses the memory
    }
  }
}

template <class C>
TeamKernels<Arguments<C>> kernels() {
  return {bp_stdp_network_kernel<C, GridTally>, bp_stdp_network_kernel<C, ClusterTally>};
}

template <class C>
cudaError_t plan_of(const BpStdpNetwork& a, Teams& plan) {
  const int64_t wanted = threads_wanted(a), threads = TeamSizes{kAlone, kAlone, kSharedThreads}.threads(wanted);
  int64_t room = 0;
  TeamDevice on;
  cudaError_t error = on.ask(kernels<C>());
  if (error == cudaSuccess) error = plan_teams(kernels<C>().grid, on, a.networks, wanted, 1, threads, plan);
  if (error == cudaSuccess) error = allow_shared(kernels<C>().cluster, on.device, room);
  if (error == cudaSuccess) error = allow_shared(kernels<C>().grid, on.device, room);
  if (error != cudaSuccess) return error;
  const auto resident = [&](const Teams& p) {
    int64_t blocks = 0;
    if (error == cudaSuccess) error = resident_blocks(kernels<C>().get(p), on, p, blocks);
    return blocks;
  };
  choose_blocks<C>(a, room, on.clusters != 0, resident, plan);
  return error;
}

template <class C>
int64_t workspace(const BpStdpNetwork& a) {
  Teams plan;
  Neurons<C> neurons[kBpStdpLayers + 1];
  if (plan_of<C>(a, plan) != cudaSuccess) return 0;
  return plan.workspace() + (plan.shared ? 0 : plan.networks * lay_out<C>(a, 1, neurons));
}

template <class C>
int launch(const BpStdpNetwork& a, char* memory, cudaStream_t stream) {
  Arguments<C> g{a, {}, memory, 1, 0, {}};
  const cudaError_t error = plan_of<C>(a, g.plan);
  if (error != cudaSuccess) return error;
  g.parts = parts_of(g.plan);
  g.row = lay_out<C>(a, g.parts, g.neurons);
  return launch_teams(kernels<C>(), stream, g);
}

}  // namespace

int64_t bp_stdp_network_workspace(const BpStdpNetwork& a) {
  return a.is_double ? workspace<double>(a) : workspace<float>(a);
}

int launch_bp_stdp_network(const BpStdpNetwork& a, void* workspace, void* stream) {
  char* memory = static_cast<char*>(workspace);
  return a.is_double ? launch<double>(a, memory, static_cast<cudaStream_t>(stream))
                     : launch<float>(a, memory, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
