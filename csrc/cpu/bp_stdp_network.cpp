// Work follows the spikes: currents sum the weights of inputs that fire, updates touch the weights of neurons with
// spikes in their windows. Weights are stored in blocks of neurons, input by input, that fit in the caches.
#include "cpu/parallel_for.h"

#include "core/arena.h"
#include "core/bp_stdp_network.h"
#include "cpu/bp_stdp.h"
#include "cpu/presentations.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlockVectors = 8;  // maximum number of vectors of a block of neurons
constexpr int64_t kSlack = 64;        // append_row writes beyond the end
constexpr int64_t kTile = 16;         // inputs that are transposed at a time

// Spikes of some neurons for B samples, and their windows.
template <class C>
struct Neurons {
  int64_t N, padded;
  int32_t* spikes;    // [B, T N + slack] neurons that fired, step after step
  int32_t* offsets;   // [B, T + 1]
  int32_t* counts;    // [B, N] running spike counts of the window
  int32_t* inputs;    // [slots, N] neurons with a nonzero count, slot by slot
  int32_t* times;     // [slots, N] their counts
  int32_t* n_inputs;  // [slots]
  C* windows;         // [slots, N] the whole window
  C* error;           // [slots, padded]
};

template <class C>
struct Layer {
  int64_t I, O, vectors;
  C threshold;
  C* w;             // [O, I]
  C* packed;        // blocks of kBlockVectors, ..., 1 vectors of neurons, [I, vectors] each
  C* v;             // [B, padded]
  uint16_t* fired;  // [B, T, vectors] one bit per neuron
};

// Block k of 8, 4, 2 or 1 vectors: its first vector, and its number of vectors.
struct Block {
  int64_t first, vectors;
};
inline int64_t block_count(int64_t vectors) {
  return vectors / kBlockVectors + __builtin_popcountll(static_cast<uint64_t>(vectors % kBlockVectors));
}
inline Block block_of(int64_t vectors, int64_t k) {
  int64_t first = 0, remaining = vectors;
  for (;; k--) {
    int64_t size = kBlockVectors;
    while (size > remaining) size /= 2;
    if (k == 0) return {first, size};
    first += size, remaining -= size;
  }
}

template <int V>
struct Width {
  static constexpr int value = V;
};
template <class F>
inline void with_width(int64_t vectors, const F& f) {
  switch (vectors) {
    case 8: return f(Width<8>());
    case 4: return f(Width<4>());
    case 2: return f(Width<2>());
    default: return f(Width<1>());
  }
}

template <class C>
class Network {
 public:
  static constexpr int64_t kLanes = Vectors<C>::kLanes;
  using Vector = typename Vectors<C>::Type;

  Network(const BpStdpNetwork& a, ParallelFor parallel_for, char* memory) : a_(a), parallel_for_(parallel_for) {
    Arena arena(memory);
    B_ = a.samples();
    slots_ = most_slots();
    packs_ = a.packs();
    lay_out(arena);
    bytes_ = arena.used() + 64;
  }

  int64_t bytes() const { return bytes_; }

  void run() {
    if (packs_)
      for (int64_t l = 0; l < a_.layers; l++)
        parallel(blocks(l), layers_[l].I * kLanes * kBlockVectors, [&](int64_t k) { pack(layers_[l], k); });
    for (int64_t p0 = 0; p0 < a_.x.P && !a_.interrupt(); p0 += B_) present(p0, min(B_, a_.x.P - p0));
    if (a_.learns)
      parallel(blocks(0), layers_[0].I * kLanes * kBlockVectors, [&](int64_t k) { unpack(layers_[0], k); });
  }

 private:
  const BpStdpNetwork& a_;
  ParallelFor parallel_for_;
  int64_t B_, slots_, bytes_;
  bool packs_;
  Neurons<C> neurons_[kBpStdpLayers + 1];
  Layer<C> layers_[kBpStdpLayers];
  int32_t* slot_of_;  // [T, B] slots of samples with a desired spike, numbered in this order; -1 for the others
  char* encoding_;    // [B, encoding_bytes_] scratch memory for input spikes
  int64_t encoding_bytes_;

  int64_t most_slots() const {
    if (!a_.learns || a_.span == 1) return a_.learns ? B_ : 0;
    int64_t most = 0;
    for (int64_t p0 = 0; p0 < a_.x.P; p0 += B_) {
      int64_t slots = 0;
      for (int64_t t = 0; t < a_.x.T; t++)
        for (int64_t p = p0; p < p0 + B_ && p < a_.x.P; p++) slots += a_.desired[t * a_.x.P + p];
      most = max(slots, most);
    }
    return most;
  }

  void lay_out(Arena& arena) {
    slot_of_ = arena.take<int32_t>(a_.learns ? a_.x.T * B_ : 0);
    encoding_bytes_ = encode_bytes(a_.x);
    encoding_ = arena.take<char>(B_ * encoding_bytes_);
    for (int64_t n = 0; n <= a_.layers; n++) {
      Neurons<C>& x = neurons_[n];
      x.N = n == 0 ? a_.layer[0].I : a_.layer[n - 1].O;
      x.padded = (x.N + kLanes - 1) / kLanes * kLanes;
      x.spikes = arena.take<int32_t>(B_ * (a_.x.T * x.N + kSlack));
      x.offsets = arena.take<int32_t>(B_ * (a_.x.T + 1));
      x.counts = arena.take<int32_t>(a_.learns ? B_ * x.N : 0);
      x.inputs = arena.take<int32_t>(slots_ * x.N);
      x.times = arena.take<int32_t>(slots_ * x.N);
      x.n_inputs = arena.take<int32_t>(slots_);
      x.windows = arena.take<C>(n > 0 ? slots_ * x.N : 0);
      x.error = arena.take<C>(n > 0 ? slots_ * x.padded : 0);
    }
    for (int64_t l = 0; l < a_.layers; l++) {
      Layer<C>& y = layers_[l];
      y.I = a_.layer[l].I, y.O = a_.layer[l].O, y.vectors = neurons_[l + 1].padded / kLanes;
      y.threshold = static_cast<C>(a_.layer[l].threshold);
      y.w = static_cast<C*>(a_.layer[l].w);
      y.packed = arena.take<C>(packs_ ? y.I * y.vectors * kLanes : 0);
      y.v = arena.take<C>(B_ * y.vectors * kLanes);
      y.fired = arena.take<uint16_t>(B_ * a_.x.T * y.vectors);
    }
  }

  int64_t blocks(int64_t l) const { return block_count(layers_[l].vectors); }

  // Calls f(i) for i in [0, n), with about `work` operations each.
  template <class F>
  void parallel(int64_t n, int64_t work, const F& f) const {
    constexpr int64_t kGrain = 65536;
    if (n * work <= kGrain) {
      for (int64_t i = 0; i < n; i++) f(i);
      return;
    }
    parallel_for_(n, work < kGrain ? kGrain / (work > 0 ? work : 1) : 1, &f,
                  [](const void* context, int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; i++) (*static_cast<const F*>(context))(i);
                  });
  }

  void pack(const Layer<C>& y, int64_t k) const {
    const Block block = block_of(y.vectors, k);
    const int64_t width = block.vectors * kLanes, first = block.first * kLanes;
    C* to = y.packed + first * y.I;
    for (int64_t o0 = 0; o0 < width; o0 += kLanes)
      for (int64_t i0 = 0; i0 < y.I; i0 += kTile)
        for (int64_t o = o0; o < o0 + kLanes; o++)
          for (int64_t i = i0; i < i0 + kTile && i < y.I; i++)
            to[i * width + o] = first + o < y.O ? y.w[(first + o) * y.I + i] : C(0);
  }

  void unpack(const Layer<C>& y, int64_t k) const {
    const Block block = block_of(y.vectors, k);
    const int64_t width = block.vectors * kLanes, first = block.first * kLanes;
    const C* from = y.packed + first * y.I;
    for (int64_t o0 = 0; o0 < width; o0 += kLanes)
      for (int64_t i0 = 0; i0 < y.I; i0 += kTile)
        for (int64_t o = o0; o < o0 + kLanes && first + o < y.O; o++)
          for (int64_t i = i0; i < i0 + kTile && i < y.I; i++) y.w[(first + o) * y.I + i] = from[i * width + o];
  }

  // ---- a presentation of the samples [p0, p0 + B)

  void present(int64_t p0, int64_t B) const {
    parallel(B, a_.x.T * neurons_[0].N / 4, [&](int64_t b) { begin(p0, b); });
    for (int64_t t0 = 0, t1; t0 < a_.x.T; t0 = t1) {
      t1 = next_change(p0, B, t0);
      for (int64_t l = 0; l < a_.layers; l++) {
        forward(l, B, t0, t1);
        parallel(B, (t1 - t0) * layers_[l].vectors * 2, [&](int64_t b) { list(l, p0, b, t0, t1); });
      }
      if (a_.learns) learn(p0, B, t0, t1);
    }
    if (a_.return_state) parallel(B, neurons_[1].N, [&](int64_t b) { end(p0, b); });
  }

  // End of the steps from t0 on that use the same weights: after the first step in which any sample may have an error.
  int64_t next_change(int64_t p0, int64_t B, int64_t t0) const {
    if (a_.span > 1 || !a_.learns) return a_.x.T;
    for (int64_t t = t0; t < a_.x.T; t++)
      for (int64_t p = p0; p < p0 + B; p++)
        if (a_.desired[t * a_.x.P + p]) return t + 1;
    return a_.x.T;
  }

  void begin(int64_t p0, int64_t b) const {
    const int64_t p = p0 + b;
    const Neurons<C>& inputs = neurons_[0];
    encode_presentation(a_.x, p, encoding_ + b * encoding_bytes_,
                        {inputs.spikes + b * (a_.x.T * inputs.N + kSlack), inputs.offsets + b * (a_.x.T + 1)});
    for (int64_t n = 1; n <= a_.layers; n++) neurons_[n].offsets[b * (a_.x.T + 1)] = 0;
    for (int64_t n = 0; n <= a_.layers && a_.learns; n++)
      memset(neurons_[n].counts + b * neurons_[n].N, 0, sizeof(int32_t) * neurons_[n].N);
    for (int64_t l = 0; l < a_.layers; l++) {
      const Layer<C>& y = layers_[l];
      C* v = y.v + b * y.vectors * kLanes;
      for (int64_t o = 0; o < y.O; o++)
        v[o] = a_.carry ? static_cast<const C*>(a_.layer[l].v_before)[p * y.O + o] : C(0);
      for (int64_t o = y.O; o < y.vectors * kLanes; o++)
        v[o] = -static_cast<C>(__builtin_huge_val());  // padding never fires
    }
  }

  void end(int64_t p0, int64_t b) const {
    for (int64_t l = 0; l < a_.layers; l++) {
      const Layer<C>& y = layers_[l];
      memcpy(static_cast<C*>(a_.layer[l].v_after) + (p0 + b) * y.O, y.v + b * y.vectors * kLanes,
             sizeof(C) * static_cast<size_t>(y.O));
    }
  }

  // ---- dynamics

  void forward(int64_t l, int64_t B, int64_t t0, int64_t t1) const {
    const Layer<C>& y = layers_[l];
    if (!packs_) {
      for (int64_t b = 0; b < B; b++) forward_rows(l, b, t0, t1);
      return;
    }
    // Sample by sample within a block, so that its weights stay in the cache.
    parallel(blocks(l) * B, (t1 - t0) * (y.I / 8 + 1) * kBlockVectors, [&](int64_t k) {
      const Block block = block_of(y.vectors, k / B);
      with_width(block.vectors,
                 [&](auto width) { forward_block<decltype(width)::value>(l, block.first, k % B, t0, t1); });
    });
  }

  template <int V>
  static void add_row(const C* w, int32_t input, Vector (&sum)[V]) {
    const C* row = w + input * (V * kLanes);
    for (int k = 0; k < V; k++) sum[k] += vector_at(row + k * kLanes);
  }

  template <int V>
  void forward_block(int64_t l, int64_t first, int64_t b, int64_t t0, int64_t t1) const {
    const Layer<C>& y = layers_[l];
    const Neurons<C>& x = neurons_[l];
    const int32_t *spikes = x.spikes + b * (a_.x.T * x.N + kSlack), *offsets = x.offsets + b * (a_.x.T + 1);
    const C* w = y.packed + first * kLanes * y.I;
    C* membranes = y.v + (b * y.vectors + first) * kLanes;
    const Vector threshold = Vector{} + y.threshold, zero = {};
    Vector v[V];
    for (int k = 0; k < V; k++) v[k] = vector_at(membranes + k * kLanes);
    Vector ahead[V];  // currents of the next step, if already computed
    bool known = false;
    for (int64_t t = t0; t < t1; t++) {
      Vector current[V];
      for (int k = 0; k < V; k++) current[k] = known ? ahead[k] : zero;
      int32_t s = known ? offsets[t + 1] : offsets[t];
      known = V <= 2 && !known && t + 1 < t1;
      if (known) {
        // The additions of one sum depend on each other; those of the next step are independent.
        for (int k = 0; k < V; k++) ahead[k] = zero;
        int32_t next = offsets[t + 1];
        for (; s < offsets[t + 1] && next < offsets[t + 2]; s++, next++)
          add_row<V>(w, spikes[s], current), add_row<V>(w, spikes[next], ahead);
        for (; next < offsets[t + 2]; next++) add_row<V>(w, spikes[next], ahead);
      }
      for (; s < offsets[t + 1]; s++) add_row<V>(w, spikes[s], current);
      uint16_t* fired = y.fired + (b * a_.x.T + t) * y.vectors + first;
      for (int k = 0; k < V; k++) {
        v[k] += current[k];
        fired[k] = static_cast<uint16_t>(at_least(v[k], threshold));
        v[k] = v[k] >= threshold ? zero : v[k];
      }
    }
    for (int k = 0; k < V; k++) vector_at(membranes + k * kLanes) = v[k];
  }

  // The same with weights that are not packed.
  void forward_rows(int64_t l, int64_t b, int64_t t0, int64_t t1) const {
    const Layer<C>& y = layers_[l];
    const Neurons<C>& x = neurons_[l];
    const int32_t *spikes = x.spikes + b * (a_.x.T * x.N + kSlack), *offsets = x.offsets + b * (a_.x.T + 1);
    C* v = y.v + b * y.vectors * kLanes;
    for (int64_t t = t0; t < t1; t++) {
      uint16_t* fired = y.fired + (b * a_.x.T + t) * y.vectors;
      memset(fired, 0, sizeof(uint16_t) * static_cast<size_t>(y.vectors));
      for (int64_t o = 0; o < y.O; o++) {
        const C* row = y.w + o * y.I;
        C current = 0;
        for (int32_t s = offsets[t]; s < offsets[t + 1]; s++) current += row[spikes[s]];
        v[o] += current;
        const bool fires = v[o] >= y.threshold;
        if (fires) v[o] = 0;
        fired[o / kLanes] |= static_cast<uint16_t>(fires << o % kLanes);
      }
    }
  }

  // Converts bits to a list, and writes them to the tensor of spikes if there is one.
  void list(int64_t l, int64_t p0, int64_t b, int64_t t0, int64_t t1) const {
    const Layer<C>& y = layers_[l];
    const Neurons<C>& x = neurons_[l + 1];
    int32_t *out = x.spikes + b * (a_.x.T * x.N + kSlack), *offsets = x.offsets + b * (a_.x.T + 1),
            *next = out + offsets[t0];
    for (int64_t t = t0; t < t1; t++) {
      const uint16_t* fired = y.fired + (b * a_.x.T + t) * y.vectors;
      for (int64_t k = 0; k < y.vectors; k++) next = append_set(next, static_cast<int32_t>(k * kLanes), fired[k]);
      offsets[t + 1] = static_cast<int32_t>(next - out);
      if (!a_.layer[l].spikes) continue;
      bool* raster = a_.layer[l].spikes + (t * a_.x.P + p0 + b) * a_.layer[l].spikes_stride;
      for (int32_t s = offsets[t]; s < offsets[t + 1]; s++) raster[out[s]] = true;
    }
  }

  // ---- learning

  void learn(int64_t p0, int64_t B, int64_t t0, int64_t t1) const {
    int64_t slots = 0;
    for (int64_t t = t0; t < t1; t++)
      for (int64_t b = 0; b < B; b++)
        slot_of_[(t - t0) * B_ + b] = a_.desired[t * a_.x.P + p0 + b] ? static_cast<int32_t>(slots++) : -1;
    int64_t work = 0;
    for (int64_t n = 0; n <= a_.layers; n++) work += neurons_[n].N;
    parallel(B, (t1 - t0) * work, [&](int64_t b) { errors(p0, b, t0, t1); });
    if (slots == 0) return;
    const C scale = static_cast<C>(a_.scale(0, B));
    for (int64_t l = 0; l < a_.layers; l++) {
      const Layer<C>& y = layers_[l];
      const Neurons<C>&x = neurons_[l], &out = neurons_[l + 1];
      parallel(blocks(l), slots * y.I, [&](int64_t k) {
        const Block block = block_of(y.vectors, k);
        with_width(block.vectors,
                   [&](auto width) { change_block<decltype(width)::value>(l, block.first, slots, scale); });
      });
      // Errors are passed back along the rows, so these are updated, too.
      if (l > 0)
        parallel((y.O + 7) / 8, slots * y.I, [&](int64_t k) {
          add_changes(y.w, y.I, out.error, out.padded, scale, x.windows, x.N, slots, 8 * k, min(8 * k + 8, y.O));
        });
    }
  }

  void errors(int64_t p0, int64_t b, int64_t t0, int64_t t1) const {
    for (int64_t t = t0; t < t1; t++) {
      for (int64_t n = 0; n <= a_.layers; n++) move_window(n, b, t);
      const int32_t slot = slot_of_[(t - t0) * B_ + b];
      if (slot < 0) continue;
      const bool wrong = output_error(a_.labels[p0 + b], b, slot);
      for (int64_t n = a_.layers - 1; n >= 0; n--) {
        const Neurons<C>& x = neurons_[n];
        x.n_inputs[slot] = 0;
        if (wrong) keep_window(x, b, slot);
        if (n == 0) break;
        C* error = x.error + slot * x.padded;
        memset(error, 0, sizeof(C) * static_cast<size_t>(x.padded));
        if (wrong)
          pass_back(layers_[n].w, x.N, layers_[n].O, neurons_[n + 1].error + slot * neurons_[n + 1].padded,
                    x.counts + b * x.N, error);
      }
    }
  }

  // Step t enters the window, and the step before its first one leaves it.
  void move_window(int64_t n, int64_t b, int64_t t) const {
    const Neurons<C>& x = neurons_[n];
    const int64_t leaves = t - a_.epsilon - 1;
    int32_t* counts = x.counts + b * x.N;
    if (n > 0) {
      const int64_t vectors = layers_[n - 1].vectors;
      const uint16_t *fired = layers_[n - 1].fired + b * a_.x.T * vectors, *come = fired + t * vectors,
                     *leave = fired + leaves * vectors;
      for (int64_t k = 0; k < vectors; k++) add_difference(counts + k * kLanes, come[k], leaves < 0 ? 0 : leave[k]);
      return;
    }
    const int32_t *spikes = x.spikes + b * (a_.x.T * x.N + kSlack), *offsets = x.offsets + b * (a_.x.T + 1);
    for (int32_t s = offsets[t]; s < offsets[t + 1]; s++) counts[spikes[s]]++;
    if (leaves < 0) return;
    for (int32_t s = offsets[leaves]; s < offsets[leaves + 1]; s++) counts[spikes[s]]--;
  }

  // Returns whether there is any error.
  bool output_error(int64_t label, int64_t b, int32_t slot) const {
    const Neurons<C>& out = neurons_[a_.layers];
    const int32_t* counts = out.counts + b * out.N;
    C* error = out.error + slot * out.padded;
    memset(error, 0, sizeof(C) * static_cast<size_t>(out.padded));
    bool wrong = false;
    for (int64_t o = 0; o < out.N; o++) {
      const bool fired = counts[o] > 0;
      if (fired == (o == label)) continue;
      error[o] = o == label ? C(1) : C(-1);
      wrong = true;
    }
    return wrong;
  }

  // Stores the nonzero elements of the window, in order.
  void keep_window(const Neurons<C>& x, int64_t b, int32_t slot) const {
    const int32_t* counts = x.counts + b * x.N;
    x.n_inputs[slot] = list_counts(counts, x.N, x.inputs + slot * x.N, x.times + slot * x.N);
    if (&x == neurons_) return;
    C* window = x.windows + slot * x.N;
    for (int64_t i = 0; i < x.N; i++) window[i] = static_cast<C>(counts[i]);
  }

  template <int V>
  void change_block(int64_t l, int64_t first, int64_t slots, C scale) const {
    const Layer<C>& y = layers_[l];
    const Neurons<C>&x = neurons_[l], &out = neurons_[l + 1];
    C* w = y.packed + first * kLanes * y.I;
    for (int64_t slot = 0; slot < slots; slot++) {
      const int32_t n = x.n_inputs[slot];
      if (n == 0) continue;
      const C* error = out.error + slot * out.padded + first * kLanes;
      Vector factor[V];
      for (int k = 0; k < V; k++) factor[k] = scale * vector_at(error + k * kLanes);
      const int32_t *inputs = x.inputs + slot * x.N, *times = x.times + slot * x.N;
      for (int32_t e = 0; e < n; e++) {
        C* row = w + inputs[e] * (V * kLanes);
        const C count = static_cast<C>(times[e]);
        for (int k = 0; k < V; k++) vector_at(row + k * kLanes) += factor[k] * count;
      }
    }
  }
};

template <class C>
void run(const BpStdpNetwork& a, ParallelFor parallel_for, char* memory) {
  Network<C>(a, parallel_for, aligned(memory)).run();
}

}  // namespace

void bp_stdp_network_bytes(const BpStdpNetwork& a, int64_t* bytes) {
  *bytes = a.is_double ? Network<double>(a, nullptr, nullptr).bytes() : Network<float>(a, nullptr, nullptr).bytes();
}

void bp_stdp_network(const BpStdpNetwork& a, ParallelFor parallel_for, char* memory) {
  a.is_double ? run<double>(a, parallel_for, memory) : run<float>(a, parallel_for, memory);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
