// Launches of networks that present images: a team of blocks presents one image at a time, each thread of it to neurons of its
// own. Where a presentation leaves something to the next, the grid is one team and the launch presents all in order.
#pragma once
#include <cstdint>

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int64_t kLeastThreads = 128;  // inputs are encoded a warp a step

struct Teams {
  int64_t threads, blocks, teams;  // threads of a block, blocks of a team
};

// Up to `alone` neurons are one block, which waits for no other, of at most `most` threads; more are blocks of `shared` threads.
inline int64_t threads_of_block(int64_t N, int64_t alone, int64_t most, int64_t shared) {
  const int64_t warps = (N + 31) / 32 * 32;
  return N > alone ? shared : warps < kLeastThreads ? kLeastThreads : warps < most ? warps : most;
}

// `images` that teams may present at the same time: 1 in order.
template <class Kernel>
cudaError_t plan_teams(Kernel kernel, int64_t N, int64_t images, int64_t threads, Teams& plan) {
  int device = 0, multiprocessors = 0, each = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), 0);
  if (error != cudaSuccess) return error;
  const int64_t resident = static_cast<int64_t>(multiprocessors) * each;
  const int64_t wanted = (N + threads - 1) / threads, share = resident / images;
  plan.threads = threads;
  plan.blocks = share < 1 ? 1 : share < wanted ? share : wanted;
  const int64_t most = resident / plan.blocks;
  plan.teams = images < most ? images : most;
  return plan.teams < 1 ? cudaErrorInvalidConfiguration : cudaSuccess;
}

template <class Kernel, class Arguments>
cudaError_t launch_teams(Kernel kernel, const Teams& plan, cudaStream_t stream, const Arguments& arguments) {
  const unsigned blocks = static_cast<unsigned>(plan.teams * plan.blocks), threads = static_cast<unsigned>(plan.threads);
  if (plan.blocks > 1)
    SNNFAST_LAUNCH_COOPERATIVE(kernel, blocks, threads, 0, stream, arguments);
  else
    SNNFAST_LAUNCH(kernel, blocks, threads, 0, stream, arguments);
  return cudaGetLastError();
}

}  // namespace
}  // namespace snnfast
