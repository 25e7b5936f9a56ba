// Counts that the blocks of a team exchange in every step (in most cases of spikes). The exchange is also a barrier: a
// block that has the total of a step knows that every block has come that far, and sees what it wrote before. Posting
// and reading are two calls, so that a total that is needed `lag` steps later costs no waiting in between.
//
// This one uses words in global memory, so that a team may have as many blocks as are resident: launch_cooperative.
// cluster_tally.cuh has one for the blocks of a cluster. Sums of integers are the same in any order of arrival.
#pragma once
#include <cstdint>

#include "cuda/launch.h"

namespace snnfast {
namespace {

using TallyWord = unsigned long long;

// Entries of a ring in which no block writes what another may still read.
SNNFAST_HD int64_t tally_places(int64_t lag) {
  int64_t count = 4;
  while (count < 3 * lag) count *= 2;  // 64-bit division would take as long as an atomic operation
  return count;
}

// In every step s = 0, 1, ... all threads of each of `blocks` blocks call, in this order: total(s - lag), if s >= lag;
// post(s, count). With lag 1 they may call total(s) right after post(s) instead; with a greater lag, in addition. A
// total can be read again until the block posts step s + lag. All threads post the same count; thread 0 gets the total.
// Writes by its other threads are visible to other blocks if a __syncthreads precedes post(), and those of other blocks
// to them after the next one after total().
class GridTally {
 public:
  static constexpr bool kPossible = true;

  // Words of memory, zeros before the launch: arrivals in the upper half, the sum of counts in the lower.
  static SNNFAST_HD int64_t words(int64_t lag, int64_t) { return tally_places(lag); }

  __device__ GridTally(TallyWord* words, int64_t lag, int64_t block, int64_t blocks)
      : words_(words), lag_(lag), mask_(tally_places(lag) - 1), block_(block), blocks_(blocks) {}

  __device__ void begin() const {}
  __device__ void end() const {}

  __device__ void post(int64_t s, int64_t count) const {
    if (threadIdx.x) return;
    // All have posted step s - lag (or s - 1), so that none reads s - 2 lag any more: its word will be that of s + lag
    // or later, which none posts before the total of s, which includes this call.
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

  // Barrier without a count: writes that precede a __syncthreads before it are visible to all threads of the team after
  // a __syncthreads behind it.
  __device__ void meet(int64_t s) const {
    post(s, 0);
    total(s);
  }

  // By the first warp, before it posts step s: lane 0's note for all blocks. A block that has the total of s finds the
  // notes in notes_of(...).
  template <class Note>
  __device__ void post_note(Note* notes, int64_t s, const Note& note) const {
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
