// Rows of a sequence, read and written by threads with V neighbouring neurons each: V elements at a time, those of
// several steps in flight before the first is used: as bits, since a conversion between them would wait for each.
#pragma once
#include <cstring>
#include <type_traits>

#include "core/half.h"
#include "core/neuron.h"
#include "cuda/launch.h"
#include "cuda/tiles.cuh"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace snnfast {
namespace {

// Narrow: threads with one neuron, or with a pair of 16 bits; a warp copies their rows into shared memory. Else each
// thread reads its rows.
template <bool Narrow>
constexpr int kThreads = Narrow ? kNarrowThreads : 128;  // of a block

// Steps whose rows are loaded together: more for few neurons.
template <bool Narrow>
constexpr int kUnroll = Narrow ? 16 : 4;

// V neighbours as stored: those of 16 bits in pairs, for which a GPU has instructions.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  static constexpr bool kPairs = sizeof(T) == 2 && V > 1;
  using Word = std::conditional_t<kPairs, uint32_t, T>;
  Word at[kPairs ? V / 2 : V];
};

// Two values of 16 bits as one word. NaN becomes the GPU's, whose bits are not the CPU's.
template <class T>
struct Pair;
template <>
struct Pair<BFloat16> {
  static __device__ __forceinline__ void widen(uint32_t pair, float* out) {
    out[0] = bit_cast<float>(pair << 16);
    out[1] = bit_cast<float>(pair & 0xffff0000u);
  }
  static __device__ __forceinline__ uint32_t narrow(float first, float second) {
#ifdef __CUDACC__
    return bit_cast<uint32_t>(__floats2bfloat162_rn(first, second));
#else
    return Store<BFloat16>::from(first).bits | static_cast<uint32_t>(Store<BFloat16>::from(second).bits) << 16;
#endif
  }
};
template <>
struct Pair<Half> {
  static __device__ __forceinline__ void widen(uint32_t pair, float* out) {
#ifdef __CUDACC__
    const float2 floats = __half22float2(bit_cast<__half2>(pair));
    out[0] = floats.x, out[1] = floats.y;
#else
    out[0] = load_as<float>(Half{static_cast<uint16_t>(pair)});
    out[1] = load_as<float>(Half{static_cast<uint16_t>(pair >> 16)});
#endif
  }
  static __device__ __forceinline__ uint32_t narrow(float first, float second) {
#ifdef __CUDACC__
    return bit_cast<uint32_t>(__floats2half2_rn(first, second));
#else
    return Store<Half>::from(first).bits | static_cast<uint32_t>(Store<Half>::from(second).bits) << 16;
#endif
  }
};

template <class T, class C, int V>
__device__ __forceinline__ void widen(const Pack<T, V>& pack, C* out) {
  if constexpr (sizeof(T) == 2) {
    float floats[V + 1];
#pragma unroll
    for (int i = 0; i < V; i += 2) {
      if constexpr (V == 1)
        Pair<T>::widen(pack.at[0].bits, floats);
      else
        Pair<T>::widen(pack.at[i / 2], floats + i);
    }
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = floats[i];
  } else {
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = pack.at[i];
  }
}

template <class T, class C, int V>
__device__ __forceinline__ void narrow(const C* values, Pack<T, V>& pack) {
  if constexpr (sizeof(T) == 2) {
    if constexpr (V == 1) {
      pack.at[0].bits = static_cast<uint16_t>(Pair<T>::narrow(values[0], 0));
    } else {
#pragma unroll
      for (int i = 0; i < V; i += 2) pack.at[i / 2] = Pair<T>::narrow(values[i], values[i + 1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; i++) pack.at[i] = values[i];
  }
}

__device__ const uint4 kZeros = {};

// Rows of a sequence from step t on, read by a thread with V neighbours; V > 1 only where they are contiguous.
template <class T, int V>
struct Reader {
  const T* at;
  int64_t stride;

  __device__ __forceinline__ Reader(const Rows& rows, int64_t t, int64_t n)
      : at(static_cast<const T*>(rows.data) + t * rows.time_stride + (V == 1 ? n * rows.inner_stride : n)),
        stride(rows.time_stride) {}
  // Of a sequence that may be absent: then zeros.
  static __device__ __forceinline__ Reader optional(const Rows& rows, int64_t t, int64_t n) {
    return rows.data ? Reader(rows, t, n) : Reader({&kZeros, rows.dtype, 0, 0}, 0, 0);
  }
  __device__ __forceinline__ Pack<T, V> load(int64_t step) const {
    return *reinterpret_cast<const Pack<T, V>*>(at + step * stride);
  }
  __device__ __forceinline__ void skip(int64_t steps) { at += steps * stride; }
};

// Word of `Bytes` bytes, which a thread stores at once.
template <size_t Bytes>
struct Word;
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<2> {
  using type = unsigned short;
};

// The compiler splits a plain store of a pack into one store per element; a streaming store of a word is not split.
template <class T, int V, class C>
__device__ __forceinline__ void store(void* data, int64_t offset, const C* values) {
  constexpr int kWide = sizeof(T) * V > 16 ? static_cast<int>(16 / sizeof(T)) : V;
  using Bits = typename Word<sizeof(T) * kWide>::type;
#pragma unroll
  for (int part = 0; part < V; part += kWide) {
    Pack<T, kWide> pack;
    narrow(values + part, pack);
    Bits bits;
    memcpy(&bits, &pack, sizeof bits);
    __stcs(reinterpret_cast<Bits*>(static_cast<T*>(data) + offset + part), bits);
  }
}

// Calls group(number of steps, first step) over [begin, end), with as many steps at a time as are in flight together.
template <int Most, class Int, class Group>
__device__ __forceinline__ void in_groups(Int begin, Int end, const Group& group) {
  if constexpr (Most > 4)
    for (; begin + Most <= end; begin += Most) group(std::integral_constant<int, Most>{}, begin);
  for (; begin + 4 <= end; begin += 4) group(std::integral_constant<int, 4>{}, begin);
  for (; begin < end; begin++) group(std::integral_constant<int, 1>{}, begin);
}
template <int Most, class Group>
__device__ __forceinline__ void in_groups_back(int end, const Group& group) {
  for (; end % 4; end--) group(std::integral_constant<int, 1>{}, end - 1);
  if constexpr (Most > 4) {
    for (; end % Most; end -= 4) group(std::integral_constant<int, 4>{}, end - 4);
    for (; end > 0; end -= Most) group(std::integral_constant<int, Most>{}, end - Most);
  } else {
    for (; end > 0; end -= 4) group(std::integral_constant<int, 4>{}, end - 4);
  }
}

// Rows of a sequence, read step by step. Twice: those of the next steps are in flight while the current ones are used.
template <class T, int V, bool Narrow, bool Twice = false>
class Sequence {
  const Rows& x;
  int64_t steps, n, fetched = -1;  // first step whose rows are in flight
  Pack<T, V> ahead[Twice ? kUnroll<false> : 1];

  __device__ __forceinline__ void fetch(int64_t begin) {
    const Reader<T, V> rows(x, begin, n);
#pragma unroll
    for (int u = 0; u < kUnroll<false>; u++) ahead[Twice ? u : 0] = rows.load(u);
    fetched = begin;
  }

 public:
  static constexpr size_t kShared = 0;  // bytes of a block
  __device__ __forceinline__ Sequence(const Rows& x, int64_t steps, int64_t n, int64_t, void*)
      : x(x), steps(steps), n(n) {}

  // Calls use(row of V neighbours) for the steps of [begin, end) in order.
  template <class Use>
  __device__ __forceinline__ void for_each(int64_t begin, int64_t end, const Use& use) {
    if (Twice && begin + kUnroll<false> <= end && fetched != begin) fetch(begin);
    in_groups<kUnroll<false>>(begin, end, [&](auto count, int64_t first) {
      constexpr int kSteps = decltype(count)::value;
      Pack<T, V> rows[kSteps];
      if constexpr (Twice && kSteps == kUnroll<false>) {
#pragma unroll
        for (int u = 0; u < kSteps; u++) rows[u] = ahead[u];
        if (first + 2 * kSteps <= steps) fetch(first + kSteps);
      } else {
        const Reader<T, V> reader(x, first, n);
#pragma unroll
        for (int u = 0; u < kSteps; u++) rows[u] = reader.load(u);
      }
#pragma unroll
      for (int u = 0; u < kSteps; u++) use(rows[u]);
    });
  }
};

// For few neurons: a ring of tiles, all but one of them in flight.
template <class T, int V, bool Twice>
class Sequence<T, V, true, Twice> {
  using Ring = Tiles<typename Pack<T, V>::Word, V>;
  static constexpr int kTiles = 16 / sizeof(Pack<T, V>);
  const int64_t steps;
  const Ring tiles;
  int tile = 0;

  __device__ __forceinline__ void copy(int64_t first) {
    tiles.copy(tile, first, static_cast<int>(min(steps - first, kTile)));
    copies_commit();
    tile = (tile + 1) % kTiles;
  }

 public:
  static constexpr size_t kShared = Ring::bytes(kTiles, kTile);
  __device__ __forceinline__ Sequence(const Rows& x, int64_t steps, int64_t n, int64_t N, void* shared)
      : steps(steps), tiles(x, shared, kTiles, kTile, n, N) {
    if (n < N)
#pragma unroll 1
      for (int k = 0; k < kTiles; k++) copy(k * kTile);
  }

  template <class Use>
  __device__ __forceinline__ void for_each(int64_t begin, int64_t end, const Use& use) {
    for (int64_t t = begin; t < end;) {
      const int at = static_cast<int>(t % kTile), stop = static_cast<int>(min(end - t + at, kTile));
      if (at == 0) {
        copies_wait<kTiles - 1>();
        __syncwarp();
      }
      in_groups<kUnroll<true>>(at, stop, [&](auto count, int first) {
        constexpr int kSteps = decltype(count)::value;
#pragma unroll
        for (int u = 0; u < kSteps; u++) use(Pack<T, V>{tiles.at(tile, first + u)});
      });
      t += stop - at;
      if (stop < kTile) continue;
      __syncwarp();
      copy(t + (kTiles - 1) * kTile);
    }
  }
};

// Further inputs of V neighbours, step by step from step t on, into their rows of the states. Those of the next step
// are in flight while the current one runs.
template <class Neuron, class T, int V, bool = kHasMore<Neuron>>
class FurtherInputs {
  static constexpr int kFirst = Neuron::kFirstInput, kCount = Neuron::kFirstOutput - kFirst;
  const NeuronScan<Neuron>& a;
  int64_t t;
  const int64_t n;
  Pack<T, V> ahead[kCount > 0 ? kCount : 1];

  __device__ __forceinline__ void fetch() {
    if (t < a.T)
#pragma unroll
      for (int k = 0; k < kCount; k++) ahead[k] = Reader<T, V>(a.more_inputs[kFirst + k], t, n).load(0);
  }

 public:
  __device__ __forceinline__ FurtherInputs(const NeuronScan<Neuron>& a, int64_t t, int64_t n) : a(a), t(t), n(n) {
    fetch();
  }
  template <class C>
  __device__ __forceinline__ void read(C (*state)[V]) {
#pragma unroll
    for (int k = 0; k < kCount; k++) widen(ahead[k], state[kFirst + k]);
    t++;
    fetch();
  }
};
template <class Neuron, class T, int V>
class FurtherInputs<Neuron, T, V, false> {
 public:
  __device__ __forceinline__ FurtherInputs(const NeuronScan<Neuron>&, int64_t, int64_t) {}
  template <class C>
  __device__ __forceinline__ void read(C (*)[V]) {}
};

// Further outputs of V neighbours, step by step from step 0 on, from their rows of the states.
template <class Neuron, class C, int V, bool = kHasMore<Neuron>>
class FurtherOutputs {
  const NeuronScan<Neuron>& a;
  int64_t element;  // of the current step, in rows of N

 public:
  __device__ __forceinline__ FurtherOutputs(const NeuronScan<Neuron>& a, int64_t n) : a(a), element(n) {}
  __device__ __forceinline__ void write(const C (*state)[V]) {
#pragma unroll
    for (int k = Neuron::kFirstOutput; k < Neuron::kStates; k++) store<C, V>(a.more_outputs[k], element, state[k]);
    element += a.N;
  }
};
template <class Neuron, class C, int V>
class FurtherOutputs<Neuron, C, V, false> {
 public:
  __device__ __forceinline__ FurtherOutputs(const NeuronScan<Neuron>&, int64_t) {}
  __device__ __forceinline__ void write(const C (*)[V]) {}
};

// Rows of a sequence, which may be absent if not `Present`, read segment by segment in any order.
template <class T, int V, bool Narrow, bool Present = true>
struct Segments {
  static constexpr int kTiles = 1;
  const Rows& rows;
  const int64_t n;

  static SNNFAST_HD constexpr int64_t bytes(int64_t) { return 0; }  // of shared memory
  __device__ __forceinline__ Segments(const Rows& rows, void*, int64_t, int64_t n, int64_t) : rows(rows), n(n) {}
  __device__ __forceinline__ void copy(int, int64_t, int64_t) const {}
  __device__ __forceinline__ Reader<T, V> from(int, int64_t begin, int64_t step) const {
    if constexpr (Present) return Reader<T, V>(rows, begin + step, n);
    return Reader<T, V>::optional(rows, begin + step, n);
  }
};

// For few neurons: a ring of tiles, all but one of them in flight; a tile is a segment. In float64 there is room for
// one tile, and with a pair per thread for two.
template <class T, int V, bool Present>
struct Segments<T, V, true, Present> {
  using Ring = Tiles<typename Pack<T, V>::Word, V>;
  static constexpr int kTiles = sizeof(T) == 8 ? 1 : V == 1 ? 3 : 2;
  struct Tile {
    const Ring& tiles;
    const int tile;
    int at;

    __device__ __forceinline__ Pack<T, V> load(int step) const { return {tiles.at(tile, at + step)}; }
    __device__ __forceinline__ void skip(int steps) { at += steps; }
  };
  const Ring tiles;

  static SNNFAST_HD constexpr int64_t bytes(int64_t steps) { return Ring::bytes(kTiles, steps); }
  // steps: of the longest segment.
  __device__ __forceinline__ Segments(const Rows& rows, void* shared, int64_t steps, int64_t n, int64_t N)
      : tiles(rows, shared, kTiles, static_cast<int>(steps), n, N) {}
  __device__ __forceinline__ void copy(int tile, int64_t begin, int64_t steps) const {
    tiles.copy(tile, begin, static_cast<int>(steps));
  }
  __device__ __forceinline__ Tile from(int tile, int64_t, int64_t step) const {
    return {tiles, tile, static_cast<int>(step)};
  }
};

template <class C, int V>
__device__ __forceinline__ void load_neurons(const void* data, int64_t n, C otherwise, C* out) {
#pragma unroll
  for (int i = 0; i < V; i++) out[i] = otherwise;
  if (data) {
    const Pack<C, V> pack = *reinterpret_cast<const Pack<C, V>*>(static_cast<const C*>(data) + n);
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = pack.at[i];
  }
}

// Index of neuron n's value of a parameter, and number of neurons from n on that share it: neighbours need no other
// division.
struct Place {
  int64_t at = 0, sharing = INT64_MAX;

  Place() = default;
  __device__ __forceinline__ Place(const Param& p, int64_t n) {
    if (p.count == 1) return;
    const int64_t run = p.inner == 1 ? n : divided(n, p.inner);
    at = run < p.count ? run : run - divided(run, p.count) * p.count;
    sharing = (run + 1) * p.inner - n;
  }
  __device__ __forceinline__ void next(const Param& p) {
    if (--sharing > 0) return;
    sharing = p.inner;
    at = at + 1 == p.count ? 0 : at + 1;
  }
};

// Parameters of V neighbours from n on. Those of one layout, as most are, share the division.
template <class C, int V, int kParams>
__device__ __forceinline__ void load_params(const Param (&all)[kParams], int64_t n, C (*out)[kParams]) {
  Place place;
  int64_t count = 0, inner = 0;
#pragma unroll
  for (int k = 0; k < kParams; k++) {
    const Param& p = all[k];
    const C* data = static_cast<const C*>(p.data);
    if (data && (p.count != count || p.inner != inner)) place = Place(p, n), count = p.count, inner = p.inner;
    Place of_lane = place;
#pragma unroll
    for (int i = 0; i < V; i++) {
      out[i][k] = data ? data[of_lane.at] : static_cast<C>(p.value);
      if (data) of_lane.next(p);
    }
  }
}

// Coefficients of V neighbours from n on.
template <class Neuron, class C, int V>
__device__ __forceinline__ void neuron_coefficients(const NeuronScan<Neuron>& a, int64_t n,
                                                    C (*c)[Neuron::kCoefficients]) {
  C params[V][Neuron::kParams];
  load_params<C, V>(a.param, n, params);
#pragma unroll
  for (int i = 0; i < V; i++) neuron_coefficients(a, params[i], c[i]);
}

inline bool aligned(const void* p, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(bytes) == 0;
}

template <class T, int V>
bool rows_aligned(const Rows& r) {
  return !r.data || (r.inner_stride && r.time_stride % V == 0 && aligned(r.data, sizeof(T) * V));
}

// Whether `steps` steps of the neurons fill the GPU, and threads of V neurons find the rows and states of all inputs
// aligned.
template <class C, class T, int V, class Neuron>
bool scan_aligned(const NeuronScan<Neuron>& a, int64_t steps) {
  bool ok =
      fills(a.N, sizeof(T), steps) && a.N % V == 0 && rows_aligned<T, V>(a.x) && aligned(a.checkpoints, sizeof(C) * V);
  for (int k = 0; k < Neuron::kStates; k++) ok = ok && aligned(a.state_in[k], sizeof(C) * V);
  if constexpr (kHasMore<Neuron>)
    for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++) ok = ok && rows_aligned<T, V>(a.more_inputs[k]);
  return ok;
}

template <int V, bool Narrow>
unsigned blocks(int64_t N) {
  return blocks_of(N / V + (N % V != 0), kThreads<Narrow>);
}

}  // namespace
}  // namespace snnfast
