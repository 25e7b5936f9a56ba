// Numbers that the blocks of a team exchange in every step: how much each counted (spikes, in most cases). It is
// a barrier at the same time: who knows the total of a step knows that every block has come that far, and sees what it
// wrote before. Telling and asking are two calls, so that a total that is needed `lag` steps later costs no waiting in
// between.
//
// This one tells by words in global memory, so that a team may have as many blocks as are resident: launch_cooperative.
// Another one, for the blocks of a cluster, is cluster_tally.cuh. Sums of integers are the same in any order of
// arrival.
#pragma once
#include <cstdint>

#include "cuda/launch.h"

namespace snnfast {
namespace {

using TallyWord = unsigned long long;

// Places of a ring in which nobody writes what another may still read.
SNNFAST_HD int64_t tally_places(int64_t lag) {
  int64_t count = 4;
  while (count < 3 * lag) count *= 2;  // 64-bit division would take as long as an atomic operation
  return count;
}

// In every step s = 0, 1, ... all threads of each of `blocks` blocks call, in this order: total(s - lag), if s >= lag;
// tell(s, count). With lag 1 they may call total(s) right after tell(s) instead, and with a greater lag that as well. A
// total can be asked for again until the block tells of step s + lag. All threads tell the same count; thread 0 gets
// the total. What others than it wrote is seen by other blocks if a __syncthreads lies before tell(), and they see what
// others wrote behind the next one after total().
class GridTally {
 public:
  static constexpr bool kPossible = true;

  // Words of memory, zeros before the launch: arrivals in the upper half, the sum of counts in the lower.
  static SNNFAST_HD int64_t words(int64_t lag, int64_t) { return tally_places(lag); }

  __device__ GridTally(TallyWord* words, int64_t lag, int64_t block, int64_t blocks)
      : words_(words), lag_(lag), mask_(tally_places(lag) - 1), block_(block), blocks_(blocks) {}

  __device__ void begin() const {}
  __device__ void end() const {}

  __device__ void tell(int64_t s, int64_t count) const {
    if (threadIdx.x) return;
    // All have told of step s - lag (or s - 1), so that nobody asks for s - 2 lag any more: its word will be that of s
    // + lag or later, of which nobody tells before the total of s, this call included.
    if (block_ == 0 && s >= 2 * lag_) *word(s - 2 * lag_) = 0;
    if (blocks_ == 1) {
      *word(s) = static_cast<TallyWord>(count);
      return;
    }
    __threadfence();
    atomicAdd(word(s), (TallyWord{1} << 32) + static_cast<TallyWord>(count));
  }

  __device__ int64_t total(int64_t s) const {
    if (threadIdx.x) return 0;
    if (blocks_ == 1) return static_cast<int64_t>(*word(s));
    const volatile TallyWord* const w = word(s);
    TallyWord seen = *w;
    while (static_cast<int64_t>(seen >> 32) < blocks_) {
      SNNFAST_SPIN();
      seen = *w;
    }
    __threadfence();
    return static_cast<int64_t>(seen & 0xffffffffu);
  }

  // Where there is nothing to tell: what any thread of the team wrote before it and a __syncthreads, all see behind it
  // and another one.
  __device__ void meet(int64_t s) const {
    tell(s, 0);
    total(s);
  }

  // By the first warp, before it tells of step s: lane 0's note for all blocks. Who has the total of s finds them at
  // notes(...).
  template <class Note>
  __device__ void leave(Note* notes, int64_t s, const Note& note) const {
    if (threadIdx.x == 0) notes_of(notes, s)[block_] = note;
  }
  template <class Note>
  __device__ Note* notes_of(Note* notes, int64_t s) const {
    return notes + place(s) * blocks_;
  }

 private:
  TallyWord* words_;
  int64_t lag_, mask_, block_, blocks_;
  __device__ int64_t place(int64_t s) const { return s & mask_; }
  __device__ TallyWord* word(int64_t s) const { return words_ + place(s); }
};

}  // namespace
}  // namespace snnfast
