// L channels of a pixel as a vector: numbers of type T in memory, float or double in computations.
#pragma once
#include "core/half.h"

namespace snnfast::cpu {
namespace {

// L channels as a vector of the compute type C.
template <class C, int L>
struct Vector {
  typedef C Type __attribute__((vector_size(L * sizeof(C))));
  using Indices = decltype(Type{} > Type{});  // of the same width
};

// L channels in memory, unaligned, as numbers of type T.
template <class T, int L>
struct Channels : Vector<T, L> {
  using Compute = T;
  using typename Vector<T, L>::Type;
  typedef T Loose __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T))));
  static inline Type load(const T* from) { return *reinterpret_cast<const Loose*>(from); }
  static inline void store(T* to, Type value) { *reinterpret_cast<Loose*>(to) = value; }
  static inline Type round(Type value) { return value; }
};

template <int L>
struct Channels<BFloat16, L> : Vector<float, L> {
  using Compute = float;
  using typename Vector<float, L>::Type;
  using Bits = typename Vector<uint32_t, L>::Type;
  typedef uint16_t Loose __attribute__((vector_size(L * sizeof(BFloat16)), aligned(sizeof(BFloat16))));
  static inline Type load(const BFloat16* from) {
    return reinterpret_cast<Type>(__builtin_convertvector(*reinterpret_cast<const Loose*>(from), Bits) << 16);
  }
  static inline void store(BFloat16* to, Type value) {
    *reinterpret_cast<Loose*>(to) = __builtin_convertvector(reinterpret_cast<Bits>(value) >> 16, Loose);
  }
  // Rounds to a bfloat16 number, as Store<BFloat16> does.
  static inline Type round(Type value) {
    const Bits u = reinterpret_cast<Bits>(value), rounded = u + 0x7fffu + ((u >> 16) & 1u);
    return reinterpret_cast<Type>(value == value ? rounded : Bits{} + 0x7fc00000u);
  }
};

}  // namespace
}  // namespace snnfast::cpu
