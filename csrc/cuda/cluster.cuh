// Blocks of a cluster: a barrier for all their threads, and access to each other's shared memory. Needs sm_90: nothing
// else in these sources depends on the architecture, and for older ones a kernel that needs a cluster is compiled
// without a body.
#pragma once
#include "cuda/launch.h"

namespace snnfast {

constexpr int64_t kLargestCluster = 8;  // blocks; every device with clusters supports them
constexpr int kClusterPtx = 90;         // as in cudaFuncAttributes

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kHasClusters = false;
#else
constexpr bool kHasClusters = true;
#endif

#ifndef SNNFAST_CUDA_EMULATION
// Cluster barrier: all threads of all blocks arrive. A thread that waits, once per arrival, continues when all have
// arrived, and sees what they wrote before.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

// The same for a thread with nothing to publish, or one that has met a thread that arrives with a fence: it does not
// wait for its stores.
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

// Address in `block` of the cluster that corresponds to p in the dynamic shared memory of this block.
template <class T>
__device__ __forceinline__ T* in_block(T* p, unsigned block) {
  uint64_t mapped = reinterpret_cast<uint64_t>(p);
#if __CUDA_ARCH__ >= 900
  asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(p), "r"(block));
#endif
  return reinterpret_cast<T*>(mapped);
}
#endif

}  // namespace snnfast
