// Warp collectives: they complete when all lanes that take part wait.
#pragma once
#include <algorithm>
#include "fibers.h"

namespace emulation {
// Completes the collectives of a warp whose participants (the lanes of the mask that have not exited) all wait.
EMULATOR inline void resolve_warp(Worker& w, unsigned warp) {
  const unsigned base = warp * 32, n = std::min<unsigned>(32, (unsigned)w.th.size() - base);
  Thread* T = w.th.data() + base;
  uint32_t alive = 0, waiting = 0;
  for (unsigned l = 0; l < n; l++) {
    if (T[l].st != DONE) alive |= 1u << l;
    if (T[l].st == WARP) waiting |= 1u << l;
  }
  for (uint32_t todo = waiting; todo;) {
    const unsigned l0 = __builtin_ctz(todo);
    const uint32_t m = T[l0].mask & alive;
    uint32_t same = 0;
    for (uint32_t r = todo; r; r &= r - 1) {
      unsigned l = __builtin_ctz(r);
      if (T[l].mask == T[l0].mask && T[l].op == T[l0].op) same |= 1u << l;
    }
    todo &= ~same;
    if ((same & m) != m) continue;
    uint64_t ballot = 0;
    for (uint32_t r = m; r; r &= r - 1) {
      const unsigned l = __builtin_ctz(r);
      if (T[l].op == OP_BALLOT && T[l].val) ballot |= 1ull << l;
    }
    for (uint32_t r = m; r; r &= r - 1) {
      const unsigned l = __builtin_ctz(r);
      if (T[l].op == OP_SHFL) {
        const unsigned s = (unsigned)T[l].src;
        // Reading a lane outside the mask is undefined in CUDA: poison it so that a test notices.
        T[l].res = (s < n && (m >> s & 1)) ? T[s].val : 0xfff8dead7fc0deadull;
      } else
        T[l].res = ballot;
    }
    for (uint32_t r = m; r; r &= r - 1) T[__builtin_ctz(r)].st = READY;
  }
}
EMULATOR inline uint64_t collective(Op op, uint32_t mask, uint64_t val, int src) {
  Worker& w = W();
  Thread* t = w.cur;
  const unsigned lane = t->linear % 32;
  if (!(mask >> lane & 1)) fail("emulation: a lane called a warp collective whose mask leaves it out");
  t->op = op;
  t->mask = mask;
  t->val = val;
  t->src = src;
  t->st = WARP;
  resolve_warp(w, t->linear / 32);
  if (t->st == WARP) switch_to(*t->fiber, w.main);
  return t->res;
}
template <class T>
inline uint64_t pack(T v) {
  static_assert(sizeof(T) <= 8, "");
  uint64_t u = 0;
  std::memcpy(&u, &v, sizeof v);
  return u;
}
template <class T>
inline T unpack(uint64_t u) {
  T v;
  std::memcpy(&v, &u, sizeof v);
  return v;
}
EMULATOR inline unsigned lane() { return W().cur->linear % 32; }
}  // namespace emulation
