// What the blocks of a grid have to tell each other in every step: how much each counted (spikes, in most cases). It is a
// barrier at the same time: who knows the total of a step knows that every block has come that far, and sees what it wrote
// before. Telling and asking are two calls, so that a total that is needed `lag` steps later costs no waiting in between.
//
// All blocks must be resident: SNNFAST_LAUNCH_COOPERATIVE. Sums of integers are the same in any order of arrival.
#pragma once
#include <cstdint>

#include "core/host_device.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

// In every step s = 0, 1, ... thread 0 of each of `blocks` blocks calls, in this order: total(s - lag), if s >= lag;
// tell(s, count). With lag 1 it may call total(s) right after tell(s) instead, and with a greater lag that as well. A total
// can be asked for again until the block tells of step s + lag.
class GridTally {
 public:
  using Word = unsigned long long;  // arrivals in the upper half, the sum of counts in the lower

  // Words of memory, zeros before the launch.
  static SNNFAST_HD int64_t words(int64_t lag) {
    int64_t count = 4;
    while (count < 3 * lag) count *= 2;  // 64-bit division would take as long as an atomic operation
    return count;
  }

  __device__ GridTally(Word* words, int64_t lag, int64_t block, int64_t blocks)
      : words_(words), lag_(lag), mask_(GridTally::words(lag) - 1), block_(block), blocks_(blocks) {}

  // Threads other than 0 have their writes seen if a __syncthreads lies before.
  __device__ void tell(int64_t s, int64_t count) const {
    // All have told of step s - lag (or s - 1), so that nobody asks for s - 2 lag any more: its word will be that of s + lag
    // or later, of which nobody tells before the total of s, this call included.
    if (block_ == 0 && s >= 2 * lag_) *word(s - 2 * lag_) = 0;
    if (blocks_ == 1) {
      *word(s) = static_cast<Word>(count);
      return;
    }
    __threadfence();
    atomicAdd(word(s), (Word{1} << 32) + static_cast<Word>(count));
  }

  __device__ int64_t total(int64_t s) const {
    if (blocks_ == 1) return static_cast<int64_t>(*word(s));
    const volatile Word* const w = word(s);
    Word seen = *w;
    while (static_cast<int64_t>(seen >> 32) < blocks_) {
      SNNFAST_SPIN();
      seen = *w;
    }
    __threadfence();
    return static_cast<int64_t>(seen & 0xffffffffu);
  }

  // Of step s in a ring of words(lag), for what else blocks leave for each other.
  __device__ int64_t place(int64_t s) const { return s & mask_; }

 private:
  Word* words_;
  int64_t lag_, mask_, block_, blocks_;
  __device__ Word* word(int64_t s) const { return words_ + place(s); }
};

}  // namespace
}  // namespace snnfast
