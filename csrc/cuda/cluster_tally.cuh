// GridTally for a team that is a cluster: its blocks write their counts into each other's shared memory and meet at the
// barrier of the cluster, so that nothing goes through global memory. They are never more than a step apart, whatever
// the lag.
#pragma once
#include "cuda/cluster.cuh"
#include "cuda/grid_tally.cuh"

namespace snnfast {
namespace {

class ClusterTally {
 public:
  static constexpr bool kPossible = kHasClusters;

  // Words in the shared memory of every block, at the same offset: one count per block.
  static SNNFAST_HD int64_t words(int64_t lag, int64_t blocks) { return tally_places(lag) * blocks; }

  __device__ ClusterTally(TallyWord* words, int64_t lag, int64_t block, int64_t blocks)
      : words_(words), mask_(tally_places(lag) - 1), block_(block), blocks_(blocks) {}

  // Before the first step: all blocks have begun, and none still reads earlier counts.
  __device__ void begin() {
    cluster_arrive();
    cluster_wait();
  }

  // After the last step: no block exits before the others have written into its memory for the last time.
  __device__ void end() { settle(); }

  __device__ void post(int64_t s, int64_t count) {
    settle();
    if (threadIdx.x < blocks_) *in_block(notes_of(words_, s) + block_, threadIdx.x) = static_cast<TallyWord>(count);
    // The first warp wrote all that other blocks read. A fence by every warp would wait for unrelated stores.
    if (threadIdx.x < 32)
      cluster_arrive();
    else
      cluster_arrive_relaxed();
    pending_ = true;
  }

  __device__ int64_t total(int64_t s) {
    settle();
    if (threadIdx.x) return 0;
    int64_t sum = 0;
    for (int64_t b = 0; b < blocks_; b++) sum += static_cast<int64_t>(notes_of(words_, s)[b]);
    return sum;
  }

  // For a team without words.
  __device__ void meet(int64_t) const {
    cluster_arrive();
    cluster_wait();
  }

  template <class Note>
  __device__ void post_note(Note* notes, int64_t s, const Note& note) const {
    if (threadIdx.x < blocks_) *in_block(notes_of(notes, s) + block_, threadIdx.x) = note;
  }
  template <class Note>
  __device__ Note* notes_of(Note* notes, int64_t s) const {
    return notes + (s & mask_) * blocks_;
  }

 private:
  TallyWord* words_;
  int64_t mask_, block_, blocks_;
  bool pending_ = false;  // arrived at the barrier, without having waited

  __device__ void settle() {
    if (pending_) cluster_wait();
    pending_ = false;
  }
};

}  // namespace
}  // namespace snnfast
