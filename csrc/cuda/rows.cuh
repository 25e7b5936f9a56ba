// Rows of V neighbouring neurons on CUDA: a thread reads and writes them in words of up to 16 bytes.
#pragma once
#include <cstring>

#include "core/half.h"
#include "core/neuron.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

// V neighbours of row t, as they stand in memory; more than one only where they stand side by side.
template <class T, int V>
__device__ __forceinline__ Pack<T, V> load_row(const Rows& rows, int64_t t, int64_t n) {
  const T* p = static_cast<const T*>(rows.data) + t * rows.time_stride + (V == 1 ? n * rows.inner_stride : n);
  return *reinterpret_cast<const Pack<T, V>*>(p);
}

template <class T, class C, int V>
__device__ __forceinline__ void widen(const Pack<T, V>& pack, C* out) {
#pragma unroll
  for (int i = 0; i < V; i++) out[i] = load_as<C>(pack.at[i]);
}

// A word of so many bytes, which a thread stores at once.
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

// The compiler splits a plain store of a pack into one an element; a streaming store of a word stays one.
template <class T, int V, class C>
__device__ __forceinline__ void store(void* data, int64_t offset, const C* values) {
  constexpr int kWide = sizeof(T) * V > 16 ? static_cast<int>(16 / sizeof(T)) : V;
  using Bits = typename Word<sizeof(T) * kWide>::type;
#pragma unroll
  for (int part = 0; part < V; part += kWide) {
    Pack<T, kWide> pack;
#pragma unroll
    for (int i = 0; i < kWide; i++) pack.at[i] = Store<T>::from(values[part + i]);
    Bits bits;
    memcpy(&bits, &pack, sizeof bits);
    __stcs(reinterpret_cast<Bits*>(static_cast<T*>(data) + offset + part), bits);
  }
}

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

}  // namespace
}  // namespace snnfast
