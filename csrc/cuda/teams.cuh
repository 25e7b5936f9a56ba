// Launches of networks that present images: a team of blocks presents one image at a time, each thread of it to neurons of its
// own. Where a presentation leaves something to the next, a network is one team, which presents all in order. Networks are the
// rows of the grid, which go on with the next one that no other row has; only where teams are one block, since there are
// several only if all find room.
#pragma once
#include <cstdint>

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int64_t kLeastThreads = 128;  // inputs are encoded a warp a step

struct Teams {
  int64_t threads, blocks, teams, networks;  // threads of a block, blocks of a team, teams of a network, networks at the same time

  SNNFAST_HD int64_t all_teams() const { return networks * teams; }
};

// Up to `alone` neurons are one block, which waits for no other, of at most `most` threads; more are blocks of `shared` threads.
inline int64_t threads_of_block(int64_t N, int64_t alone, int64_t most, int64_t shared) {
  const int64_t warps = (N + 31) / 32 * 32;
  return N > alone ? shared : min(max(warps, kLeastThreads), most);
}

// `images` of a network that teams may present at the same time: 1 in order.
template <class Kernel>
cudaError_t plan_teams(Kernel kernel, int64_t networks, int64_t N, int64_t images, int64_t threads, Teams& plan) {
  int device = 0, multiprocessors = 0, each = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), 0);
  if (error != cudaSuccess) return error;
  const int64_t resident = static_cast<int64_t>(multiprocessors) * each;
  const int64_t wanted = (N + threads - 1) / threads, share = resident / (networks * images);
  plan.threads = threads;
  plan.blocks = share < 1 ? 1 : min(share, wanted);
  const int64_t most = resident / plan.blocks;
  plan.networks = min(networks, most);
  if (plan.networks < 1) return cudaErrorInvalidConfiguration;
  const int64_t each_network = most / plan.networks;
  plan.teams = min(images, each_network);
  return cudaSuccess;
}

template <class Kernel, class Arguments>
cudaError_t launch_teams(Kernel kernel, const Teams& plan, cudaStream_t stream, const Arguments& arguments) {
  const dim3 blocks(static_cast<unsigned>(plan.teams * plan.blocks), static_cast<unsigned>(plan.networks));
  const unsigned threads = static_cast<unsigned>(plan.threads);
  if (plan.blocks > 1)
    SNNFAST_LAUNCH_COOPERATIVE(kernel, blocks, threads, 0, stream, arguments);
  else
    SNNFAST_LAUNCH(kernel, blocks, threads, 0, stream, arguments);
  return cudaGetLastError();
}

}  // namespace
}  // namespace snnfast
