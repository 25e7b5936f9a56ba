// The blocks of a cluster: a barrier for all their threads, and the shared memory of one for the others. Of sm_90 on:
// nothing else in these sources depends on the architecture, and for older ones a kernel that needs a cluster is
// compiled without a body.
#pragma once
#include "cuda/launch.h"

namespace snnfast {

constexpr int64_t kLargestCluster = 8;  // blocks that every device with clusters takes
constexpr int kClusterPtx = 90;         // as cudaFuncAttributes has it

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kHasClusters = false;
#else
constexpr bool kHasClusters = true;
#endif

#ifndef SNNFAST_CUDA_EMULATION
// All threads of all blocks arrive; who waits, once for each time, goes on when they have, and sees what they did
// before.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

// The same by a thread that has nothing to show to other blocks, or met one that arrives with a fence: it waits for
// none of its stores.
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Where `block` of the cluster has what this one has at p in its dynamic shared memory.
template <class T>
__device__ __forceinline__ T* in_block(T* p, unsigned block) {
  uint64_t there = reinterpret_cast<uint64_t>(p);
#if __CUDA_ARCH__ >= 900
  asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(block));
#endif
  return reinterpret_cast<T*>(there);
}
#endif

}  // namespace snnfast
