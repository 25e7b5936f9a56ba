// Launches of networks that present images, of any size. A block presents one image at a time, each thread of it to
// its neurons. If presentations depend on each other, a network is one block, which presents all in order; else several
// blocks take images in turn. Rows of the grid are networks, which go on with the next one that no other row has.
//
// The memory of a block is shared memory if it fits, with the weights, which are read again and again, if they fit,
// too; else it is part of the workspace in global memory.
#pragma once
#include <cstdint>

#include "core/arena.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int64_t kLeastThreads = 128;  // inputs are encoded by one warp per step
// Blocks of a launch per multiprocessor: more would not run at the same time, and need a larger workspace. The emulated
// GPU is small, so that blocks go on with further networks and images.
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kMostBlocks = 1;
#else
constexpr int64_t kMostBlocks = 16;
#endif

struct NetworkLaunch {
  int64_t threads, blocks, networks;  // threads of a block, blocks of a network, networks at the same time
  bool shared, weights;               // whether a block's memory is shared memory; whether it holds the weights
  int64_t bytes;                      // of a block's memory

  SNNFAST_HD int64_t workspace() const { return shared ? 0 : networks * blocks * bytes; }
  // Memory of the calling block.
  __device__ char* memory(char* workspace, char* shared_memory) const {
    return shared ? shared_memory : workspace + (blockIdx.y * blocks + blockIdx.x) * bytes;
  }
};

// Plan for networks of `wanted` threads and `images` that may be presented at the same time (1 in order). bytes(plan):
// memory of a block.
template <class Kernel, class Bytes>
cudaError_t plan_networks(Kernel kernel, int64_t networks, int64_t wanted, int64_t most_threads, int64_t images,
                          bool in_order, const Bytes& bytes, NetworkLaunch& plan) {
  int device = 0, multiprocessors = 0;
  int64_t room = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = allow_shared(kernel, device, room);
  if (error != cudaSuccess) return error;
  const int64_t most = min(kMostBlocks * multiprocessors, int64_t{65535});
  plan = {min(max((wanted + 31) / 32 * 32, kLeastThreads), most_threads), 1, min(networks, most), true, in_order, 0};
  plan.blocks = max(min(images, most / plan.networks), int64_t{1});
  plan.bytes = bytes(plan);
  if (plan.weights && plan.bytes > room) plan.weights = false, plan.bytes = bytes(plan);
  plan.shared = plan.bytes <= room;
  return cudaSuccess;
}

// The kernel's arguments hold the plan.
template <class Arguments>
cudaError_t launch_networks(void (*kernel)(Arguments), void* stream, const Arguments& arguments) {
  const NetworkLaunch& plan = arguments.plan;
  const dim3 grid(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.networks));
  SNNFAST_LAUNCH(kernel, grid, static_cast<unsigned>(plan.threads), static_cast<size_t>(plan.shared ? plan.bytes : 0),
                 static_cast<cudaStream_t>(stream), arguments);
  return cudaGetLastError();
}

}  // namespace
}  // namespace snnfast
