// Functions that kernels call: barriers, warp collectives, atomics.
#pragma once
#include <cstring>
#include <type_traits>
#include <utility>
#include "blocks.h"

namespace emulation {
// Returns the number of threads for which p is true, and in the upper half the number of all.
EMULATOR inline uint64_t barrier(int p, [[maybe_unused]] const char* file, [[maybe_unused]] int line) {
  Thread* t = W().cur;
  t->val = p != 0;
#if defined(__SANITIZE_THREAD__)
  void* const place = meeting(0, t->barriers++);
  const bool ordered = orders(file, line);
  if (ordered) release(place);
#endif
  block_self(BARRIER);
#if defined(__SANITIZE_THREAD__)
  if (ordered) acquire(place);
#endif
  return t->res;
}
EMULATOR inline void warp_barrier(unsigned m, [[maybe_unused]] const char* file, [[maybe_unused]] int line) {
#if defined(__SANITIZE_THREAD__)
  Thread* t = W().cur;
  void* const place = meeting(1 + t->linear / 32, t->warp_barriers++);
  const bool ordered = orders(file, line);
  if (ordered) release(place);
#endif
  collective(OP_SYNC, m, 0, 0);
#if defined(__SANITIZE_THREAD__)
  if (ordered) acquire(place);
#endif
}
}  // namespace emulation
#define EMULATION_HERE \
  [[maybe_unused]] const char *file = __builtin_FILE(), [[maybe_unused]] int line = __builtin_LINE()
inline void __syncthreads(EMULATION_HERE) { emulation::barrier(0, file, line); }
inline int __syncthreads_count(int p, EMULATION_HERE) { return (int)(emulation::barrier(p, file, line) & 0xffffffff); }
inline int __syncthreads_or(int p, EMULATION_HERE) { return __syncthreads_count(p, file, line) != 0; }
inline int __syncthreads_and(int p, EMULATION_HERE) {
  const uint64_t found = emulation::barrier(p, file, line);
  return (found & 0xffffffff) == found >> 32;
}
inline void __syncwarp(unsigned m = ~0u, EMULATION_HERE) { emulation::warp_barrier(m, file, line); }
template <class T>
T __shfl_sync(unsigned m, T v, int src, int w = 32) {
  const int l = emulation::lane();
  return emulation::unpack<T>(
      emulation::collective(emulation::OP_SHFL, m, emulation::pack(v), (l & ~(w - 1)) | (src & (w - 1))));
}
template <class T>
T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) {
  const int l = emulation::lane();
  int s = l ^ x;
  if ((s & ~(w - 1)) > (l & ~(w - 1))) s = l;
  return emulation::unpack<T>(emulation::collective(emulation::OP_SHFL, m, emulation::pack(v), s));
}
template <class T>
T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) {
  const int l = emulation::lane();
  int s = l - (int)d;
  if (s < (l & ~(w - 1))) s = l;
  return emulation::unpack<T>(emulation::collective(emulation::OP_SHFL, m, emulation::pack(v), s));
}
inline unsigned __ballot_sync(unsigned m, int p) {
  return (unsigned)emulation::collective(emulation::OP_BALLOT, m, p != 0, 0);
}

template <class T, class F>
T emulation_rmw(T* p, F f) {
  using U = std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  U* q = reinterpret_cast<U*>(p);
  U o = __atomic_load_n(q, __ATOMIC_RELAXED);
  for (;;) {
    T ov;
    std::memcpy(&ov, &o, sizeof o);
    T nv = f(ov);
    U nu;
    std::memcpy(&nu, &nv, sizeof nu);
    if (__atomic_compare_exchange_n(q, &o, nu, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return ov;
  }
}
template <class T>
using emulation_id = typename std::enable_if<true, T>::type;
template <class T>
T atomicAdd(T* p, emulation_id<T> v) {
  return emulation_rmw(p, [=](T o) { return T(o + v); });
}
template <class T>
T atomicOr(T* p, emulation_id<T> v) {
  return emulation_rmw(p, [=](T o) { return T(o | v); });
}

// Device intrinsics.
template <class T>
inline void __stcs(T* p, T v) {
  *p = v;
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __clz(int a) { return a ? __builtin_clz((unsigned)a) : 32; }
inline int __ffs(int a) { return __builtin_ffs(a); }
