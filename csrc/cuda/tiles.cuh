// Rows of few neurons, one per thread: a warp copies those of its 32 neighbours into shared memory (cp.async) long
// before it reads them. More rows are in flight than registers could hold, and a copy takes 16 bytes.
#pragma once
#include <cstdint>

#include "core/neuron.h"
#include "cuda/launch.h"
#ifdef SNNFAST_CUDA_EMULATION
#include "async_copy.h"
#endif

namespace snnfast {
namespace {

#ifdef SNNFAST_CUDA_EMULATION
using emulation::copies_commit, emulation::copies_wait, emulation::copy_async;
using SharedAddress = char*;
inline SharedAddress shared_address(void* p) { return static_cast<char*>(p); }
#else
using SharedAddress = unsigned;
__device__ __forceinline__ SharedAddress shared_address(void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
template <unsigned Bytes>
__device__ __forceinline__ void copy_async(SharedAddress to, const void* from) {
  if constexpr (Bytes == 16)  // bypasses the L1 cache, which it would only fill
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(Bytes) : "memory");
}
// The copies that a thread has begun since the last commit are a group; it waits for all groups but the last `Behind`.
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <unsigned Behind>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Behind) : "memory");
}
#endif

constexpr int kNarrowThreads = 64;  // of a block
constexpr int kTile = 16;           // steps

// Ring of tiles of a sequence, for the threads of a warp that have neurons: V neighbours each, in a Word. An absent
// sequence reads as zeros.
template <class Word, int V>
class Tiles {
  static constexpr int kRow = 32 * sizeof(Word);  // bytes
  static constexpr int kChunk = 16 / sizeof(Word), kChunks = 32 / kChunk,
                       kPass = 32 / kChunks;  // words of a copy, copies of a row, rows at a time
  Word* const ring;                           // of this warp: [tiles][steps][32]
  const Word* const data;
  const int64_t stride, inner;  // in words
  const int steps, lane;
  const bool whole;  // rows can be copied 16 bytes at a time

 public:
  static SNNFAST_HD constexpr int64_t bytes(int64_t tiles, int64_t steps) {
    return tiles * steps * kNarrowThreads * static_cast<int64_t>(sizeof(Word));
  }

  // n: this thread's first neuron, of N. shared: bytes(tiles, steps) of the block.
  __device__ __forceinline__ Tiles(const Rows& rows, void* shared, int tiles, int steps, int64_t n, int64_t N)
      : ring(static_cast<Word*>(shared) + static_cast<int>(threadIdx.x / 32) * tiles * steps * 32),
        data(rows.data ? static_cast<const Word*>(rows.data) + (n / V - threadIdx.x % 32) * rows.inner_stride
                       : nullptr),
        stride(rows.time_stride / V),
        inner(rows.inner_stride),
        steps(steps),
        lane(threadIdx.x % 32),
        whole(inner == 1 && n / V - lane + 32 <= N / V &&
              (reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(stride) * sizeof(Word)) % 16 == 0) {
    if (!data)
#pragma unroll 1
      for (int i = 0; i < tiles * steps; i++) ring[i * 32 + lane] = Word{};
  }

  // Begins to copy `count` rows from step t on into a tile.
  __device__ __forceinline__ void copy(int tile, int64_t t, int count) const {
    if (!data) return;
    if (whole) {
      const int row = lane / kChunks, column = lane % kChunks * kChunk;
      const Word* from = data + (t + row) * stride + column;
      SharedAddress to = shared_address(ring + (tile * steps + row) * 32 + column);
#pragma unroll 1
      for (int remaining = count - row; remaining > 0; remaining -= kTile, to += kTile * kRow) {
#pragma unroll
        for (int r = 0; r < kTile; r += kPass) {
          if (r < remaining) copy_async<16>(to + r * kRow, from);
          from += kPass * stride;
        }
      }
    } else {
      const Word* from = data + t * stride + lane * inner;
      Word* to = ring + tile * steps * 32 + lane;
#pragma unroll 1
      for (int u = 0; u < count; u++, from += stride, to += 32) {
        if constexpr (sizeof(Word) >= 4)
          copy_async<sizeof(Word)>(shared_address(to), from);
        else
          *to = *from;
      }
    }
  }
  // Elements of this thread's neurons at a step of a tile.
  __device__ __forceinline__ Word at(int tile, int step) const { return ring[(tile * steps + step) * 32 + lane]; }
};

}  // namespace
}  // namespace snnfast
