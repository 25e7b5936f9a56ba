// A thread is a neuron and a sample for all steps of a span. Currents are sums over lists of spikes, in the order of the
// inputs; for them the weights lie input by input, in a copy that is made anew when they have changed.
#include "core/bp_stdp_network.h"

#include "core/arena.h"
#include "cuda/bp_stdp.cuh"
#include "cuda/presentations.cuh"

namespace snnfast {
namespace {

constexpr int kWarps = kThreads / 32;

// lists[b T + t] of the neurons that fire, ascending; a warp a list.
__global__ void __launch_bounds__(kThreads) bp_stdp_network_list_kernel(const Trains x, int64_t T, int64_t t0, int64_t t1, int32_t* lists, int32_t* lengths) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (k >= x.B * (t1 - t0)) return;
  const int64_t b = k / (t1 - t0), t = t0 + k % (t1 - t0), row = b * T + t;
  const auto fired = [&](int64_t q) {
    uint32_t bits = 0;
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (4 * q + j < x.N && fires(x, t, b, 4 * q + j)) bits |= 1u << j;
    return bits;
  };
  const int32_t length = list_fired(x.N, 0, fired, lists + row * x.N);
  if (threadIdx.x % 32 == 0) lengths[row] = length;
}

// fired [B, T, I] of poisson(hz per_hz, T, seed) for each sample; a thread is a counter of four elements.
__global__ void __launch_bounds__(kThreads)
    bp_stdp_network_draw_kernel(const float* hz, const int64_t* seeds, float per_hz, int64_t B, int64_t T, int64_t I, uint8_t* fired) {
  const int64_t counters = (T * I + 3) / 4, e = element();
  if (e >= B * counters) return;
  const int64_t b = e / counters, first = e % counters * 4;
  const Words<uint32_t> drawn = poisson_words(first / 4, seeds[b]);
  const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (first + k < T * I) fired[b * T * I + first + k] = poisson_fires(poisson_uniform(words[k]), hz[b * I + (first + k) % I] * per_hz);
}

template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_network_transpose_kernel(const C* w, int64_t I, int64_t O, C* transposed) {
  const int64_t e = element();
  if (e < I * O) transposed[e] = w[e % O * I + e / O];
}

// Membranes [B, O]: 0, or those of the call.
template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_network_rest_kernel(const C* from, int64_t count, C* v) {
  const int64_t e = element();
  if (e < count) v[e] = from ? from[e] : C(0);
}

__global__ void __launch_bounds__(kThreads) bp_stdp_network_clear_kernel(int32_t* counts, int64_t count) {
  const int64_t e = element();
  if (e < count) counts[e] = 0;
}

template <class C>
struct Fire {
  int64_t T, B, I, O, t0, t1;
  C threshold;
  const C* w;                      // [I, O]
  const int32_t *lists, *lengths;  // of the layer before
  C* v;                            // [B, O]
  uint8_t* fired;                  // [B, T, O]
  bool* spikes;                    // of sample 0, or null
  int64_t step, sample;            // elements from one to the next
};

template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_network_fire_kernel(const Fire<C> a) {
  const int64_t e = element();
  if (e >= a.B * a.O) return;
  const int64_t b = e / a.O, o = e % a.O;
  C v = a.v[e];
  for (int64_t t = a.t0; t < a.t1; t++) {
    const int64_t row = b * a.T + t;
    const int32_t* list = a.lists + row * a.I;
    C current = 0;
    for (int32_t s = 0; s < a.lengths[row]; s++) current += a.w[list[s] * a.O + o];
    v += current;
    const bool fires = v >= a.threshold;
    if (fires) v = 0;
    a.fired[row * a.O + o] = fires;
    if (a.spikes) a.spikes[t * a.step + b * a.sample + o] = fires;
  }
  a.v[e] = v;
}

// Errors of the outputs [slots, O] from their windows.
template <class C>
__global__ void __launch_bounds__(kThreads)
    bp_stdp_network_error_kernel(const C* windows, const int64_t* labels, const bool* desired, int64_t P, int64_t B, int64_t O, int64_t slots, C* error) {
  const int64_t e = element();
  if (e >= slots * O) return;
  const int64_t k = e / O, t = k / B, b = k % B;
  const bool own = labels[b] == e % O, fired = windows[e] > 0;
  error[e] = !desired[t * P + b] || own == fired ? C(0) : own ? C(1) : C(-1);
}

// Memory of one layer's neurons, the inputs being those of layer 0.
template <class C>
struct Neurons {
  int64_t N;
  uint8_t* fired;  // [B, T, N]; of the inputs only where they are drawn
  int32_t *lists, *lengths, *counts;
  C *windows, *error, *v, *transposed;
};

template <class C>
class Network {
 public:
  Network(const BpStdpNetwork& a, char* memory) : a_(a), B_(a.batch < a.x.P ? a.batch : a.x.P) {
    Arena arena(memory);
    const int64_t slots = a.learns ? a.span * B_ : 0;
    for (int64_t n = 0; n <= a.layers; n++) {
      Neurons<C>& x = neurons_[n];
      x.N = n == 0 ? a.layer[0].I : a.layer[n - 1].O;
      x.fired = arena.take<uint8_t>(n > 0 || a.x.form == PresentationForm::rates ? B_ * a.x.T * x.N : 0);
      x.lists = arena.take<int32_t>(n < a.layers ? B_ * a.x.T * x.N : 0);
      x.lengths = arena.take<int32_t>(B_ * a.x.T);
      x.counts = arena.take<int32_t>(slots ? B_ * x.N : 0);
      x.windows = arena.take<C>(slots * x.N);
      x.error = arena.take<C>(n > 0 ? slots * x.N : 0);
      x.v = arena.take<C>(n > 0 ? B_ * x.N : 0);
      x.transposed = arena.take<C>(n > 0 ? a.layer[n - 1].I * x.N : 0);
    }
    bytes_ = arena.used();
  }

  int64_t bytes() const { return bytes_; }

  int run(cudaStream_t stream) const {
    for (int64_t l = 0; l < a_.layers; l++) transpose(l, stream);
    for (int64_t p0 = 0; p0 < a_.x.P; p0 += B_) present(p0, p0 + B_ < a_.x.P ? B_ : a_.x.P - p0, stream);
    return cudaGetLastError();
  }

 private:
  const BpStdpNetwork& a_;
  int64_t B_, bytes_;
  Neurons<C> neurons_[kBpStdpLayers + 1];

  C* weights(int64_t l) const { return static_cast<C*>(a_.layer[l].w); }

  void transpose(int64_t l, cudaStream_t stream) const {
    const BpStdpLayer& y = a_.layer[l];
    if (y.I * y.O > 0)
      SNNFAST_LAUNCH((bp_stdp_network_transpose_kernel<C>), blocks_of(y.I * y.O), kThreads, 0, stream, weights(l), y.I, y.O, neurons_[l + 1].transposed);
  }

  Trains trains(int64_t n, int64_t p0, int64_t B) const {
    const Neurons<C>& x = neurons_[n];
    if (n > 0 || a_.x.form == PresentationForm::rates) return {x.fired, x.N, a_.x.T * x.N, x.N, B, 1};
    return {static_cast<const char*>(a_.x.spikes) + p0 * a_.x.presentation * a_.x.width, a_.x.step, a_.x.presentation, x.N, B, a_.x.width};
  }

  void list(int64_t n, int64_t p0, int64_t B, int64_t t0, int64_t t1, cudaStream_t stream) const {
    const Neurons<C>& x = neurons_[n];
    if (t1 == t0) return;
    SNNFAST_LAUNCH(bp_stdp_network_list_kernel, static_cast<unsigned>((B * (t1 - t0) + kWarps - 1) / kWarps), kThreads, 0, stream, trains(n, p0, B), a_.x.T, t0,
                   t1, x.lists, x.lengths);
  }

  void present(int64_t p0, int64_t B, cudaStream_t stream) const {
    for (int64_t n = 0; n <= a_.layers; n++) {
      const Neurons<C>& x = neurons_[n];
      if (x.N == 0) continue;
      if (a_.learns) SNNFAST_LAUNCH(bp_stdp_network_clear_kernel, blocks_of(B * x.N), kThreads, 0, stream, x.counts, B * x.N);
      if (n == 0) continue;
      const C* from = a_.carry ? static_cast<const C*>(a_.layer[n - 1].v_before) + p0 * x.N : nullptr;
      SNNFAST_LAUNCH((bp_stdp_network_rest_kernel<C>), blocks_of(B * x.N), kThreads, 0, stream, from, B * x.N, x.v);
    }
    const int64_t I = neurons_[0].N;
    if (a_.x.form == PresentationForm::rates && a_.x.T * I > 0)
      SNNFAST_LAUNCH(bp_stdp_network_draw_kernel, blocks_of(B * ((a_.x.T * I + 3) / 4)), kThreads, 0, stream, a_.x.hz + p0 * I, a_.x.seeds + p0, a_.x.per_hz, B,
                     a_.x.T, I, neurons_[0].fired);
    list(0, p0, B, 0, a_.x.T, stream);
    for (int64_t t0 = 0; t0 < a_.x.T; t0 += a_.span) {
      const int64_t t1 = t0 + a_.span < a_.x.T ? t0 + a_.span : a_.x.T;
      for (int64_t l = 0; l < a_.layers; l++) {
        fire(l, p0, B, t0, t1, stream);
        if (l + 1 < a_.layers) list(l + 1, p0, B, t0, t1, stream);
      }
      if (a_.learns) learn(p0, B, t0, t1, stream);
    }
    for (int64_t l = 0; l < a_.layers && a_.return_state; l++) {
      const Neurons<C>& x = neurons_[l + 1];
      if (x.N == 0) continue;
      C* to = static_cast<C*>(a_.layer[l].v_after) + p0 * x.N;
      SNNFAST_LAUNCH((bp_stdp_network_rest_kernel<C>), blocks_of(B * x.N), kThreads, 0, stream, x.v, B * x.N, to);
    }
  }

  void fire(int64_t l, int64_t p0, int64_t B, int64_t t0, int64_t t1, cudaStream_t stream) const {
    const BpStdpLayer& y = a_.layer[l];
    const Neurons<C>&x = neurons_[l], &out = neurons_[l + 1];
    if (y.O == 0) return;
    const int64_t stride = y.spikes_stride;
    bool* spikes = y.spikes ? y.spikes + p0 * stride : nullptr;
    const Fire<C> f{a_.x.T,          B,     y.I, y.O, t0, t1, static_cast<C>(y.threshold), out.transposed, x.lists, x.lengths, out.v, out.fired, spikes,
                    a_.x.P * stride, stride};
    SNNFAST_LAUNCH((bp_stdp_network_fire_kernel<C>), blocks_of(B * y.O), kThreads, 0, stream, f);
  }

  void learn(int64_t p0, int64_t B, int64_t t0, int64_t t1, cudaStream_t stream) const {
    const int64_t slots = (t1 - t0) * B;
    for (int64_t n = 0; n <= a_.layers; n++) launch_windows(trains(n, p0, B), a_.epsilon, t0, t1, neurons_[n].counts, neurons_[n].windows, stream);
    const Neurons<C>& out = neurons_[a_.layers];
    if (slots * out.N > 0)
      SNNFAST_LAUNCH((bp_stdp_network_error_kernel<C>), blocks_of(slots * out.N), kThreads, 0, stream, out.windows, a_.labels + p0,
                     a_.desired + t0 * a_.x.P + p0, a_.x.P, B, out.N, slots, out.error);
    for (int64_t l = a_.layers - 1; l > 0; l--)
      launch_pass_back(weights(l), a_.layer[l].I, a_.layer[l].O, neurons_[l + 1].error, neurons_[l].windows, slots, neurons_[l].error, stream);
    const C scale = static_cast<C>(bp_stdp_scale(a_, B));
    for (int64_t l = 0; l < a_.layers; l++) {
      launch_weights(weights(l), a_.layer[l].I, a_.layer[l].O, neurons_[l + 1].error, scale, neurons_[l].windows, slots, stream);
      transpose(l, stream);
    }
  }
};

}  // namespace

int64_t bp_stdp_network_workspace(const BpStdpNetwork& a) { return a.is_double ? Network<double>(a, nullptr).bytes() : Network<float>(a, nullptr).bytes(); }

int launch_bp_stdp_network(const BpStdpNetwork& a, void* workspace, void* stream) {
  char* memory = static_cast<char*>(workspace);
  return a.is_double ? Network<double>(a, memory).run(static_cast<cudaStream_t>(stream)) : Network<float>(a, memory).run(static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
