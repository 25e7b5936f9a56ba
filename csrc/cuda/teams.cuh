// Launches of networks that present images: a team of blocks presents one image at a time, each thread of it to its
// neurons. If presentations depend on each other, a network is one team, which presents all in order. Networks are the
// rows of the grid, which go on with the next one that no other row has; only where teams are single blocks, since
// there are teams of several only if all fit.
//
// choose_memory() decides where the memory of a block is, and whether a team is a cluster:
// 1. In order, weights are read again and again: a block holds those of its neurons in shared memory with its state, if
//    one block, or the smallest cluster (2, 4, 8), has room for all, and as many networks run at the same time as would
//    without; with clusters all of them.
// 2. Otherwise the state alone is in shared memory, if as many blocks are resident with it as without.
// 3. Otherwise everything is in global memory.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/arena.h"
#include "cuda/cluster.cuh"
#include "cuda/cluster_tally.cuh"
#include "cuda/grid_tally.cuh"
#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int64_t kLeastThreads = 128;    // inputs are encoded by one warp per step
constexpr int64_t kClusterThreads = 256;  // minimum for a block of a cluster: each encodes all inputs

struct Teams {
  int64_t threads, blocks, teams,
      networks;          // threads of a block, blocks of a team, teams of a network, networks at the same time
  bool shared, weights;  // whether a block's memory is shared memory; whether it holds the weights of its neurons
  bool cluster;          // whether the blocks of a team are a cluster
  int64_t team_bytes, block_bytes;  // of the memory shared by the blocks of a team, and of that of a block

  SNNFAST_HD bool alone() const { return blocks == 1; }
  SNNFAST_HD int64_t all_teams() const { return networks * teams; }
  SNNFAST_HD int64_t all_blocks() const { return all_teams() * blocks; }
  // Neurons of a block.
  SNNFAST_HD int64_t neurons_per_block(int64_t N) const { return (N + blocks - 1) / blocks; }
  int64_t dynamic_shared() const { return shared ? block_bytes : 0; }
  SNNFAST_HD int64_t workspace() const { return all_teams() * team_bytes + (shared ? 0 : all_blocks() * block_bytes); }

  SNNFAST_HD int64_t tally_words(int64_t lag) const {
    return cluster ? ClusterTally::words(lag, blocks) : GridTally::words(lag, blocks);
  }
  // Memory of a tally: in the team's memory if blocks meet through global memory.
  template <class T>
  SNNFAST_HD T* take_tally(Arena& team, Arena& block, int64_t count) const {
    return alone() || cluster ? block.take<T>(count) : team.take<T>(count);
  }
  // Of the calling block.
  __device__ int64_t team() const { return blockIdx.y * teams + blockIdx.x / blocks; }
  __device__ Arena team_memory(char* workspace) const { return Arena(workspace + team() * team_bytes); }
  __device__ Arena block_memory(char* workspace, char* shared_memory) const {
    return Arena(shared ? shared_memory
                        : workspace + all_teams() * team_bytes + (team() * blocks + blockIdx.x % blocks) * block_bytes);
  }
};

// Up to `alone` neurons are one block of at most `most` threads, which waits for no other; more are blocks of `shared`
// threads.
struct TeamSizes {
  int64_t alone, most, shared;

  int64_t threads(int64_t N) const { return N > alone ? shared : min(max((N + 31) / 32 * 32, kLeastThreads), most); }
};

// Plan for `images` of a network that teams may present at the same time (1 in order), if `resident` blocks fit.
inline cudaError_t divide(int64_t resident, int64_t networks, int64_t N, int64_t images, int64_t threads, Teams& plan) {
  const int64_t wanted = (N + threads - 1) / threads, share = resident / (networks * images);
  plan = Teams{threads, share < 1 ? 1 : min(share, wanted), 1, 0, false, false, false, 0, 0};
  const int64_t most = resident / plan.blocks;
  plan.networks = min(networks, most);
  if (plan.networks < 1) return cudaErrorInvalidConfiguration;
  const int64_t each_network = most / plan.networks;
  plan.teams = min(images, each_network);
  return cudaSuccess;
}

// Rule 1 above, for a plan without shared memory; returns whether it applies. lay_out(plan) measures its memory, of
// which a block may have `room` bytes in shared memory; resident(plan) is the number of its blocks that run at the same
// time.
template <class LayOut, class Resident>
bool hold_weights(int64_t networks, int64_t N, int64_t room, bool clusters, const TeamSizes& sizes,
                  const LayOut& lay_out, const Resident& resident, Teams& plan) {
  for (int64_t blocks = 1; blocks <= (clusters ? kLargestCluster : 1); blocks *= 2) {
    Teams p{0, blocks, 1, blocks == 1 ? plan.networks : networks, true, true, blocks > 1, 0, 0};
    if (p.neurons_per_block(N) > sizes.alone) continue;
    p.threads =
        blocks == 1 ? plan.threads : max(sizes.threads(p.neurons_per_block(N)), min(kClusterThreads, sizes.most));
    lay_out(p);
    if (p.block_bytes > room || resident(p) < p.all_blocks()) continue;
    plan = p;
    return true;
  }
  return false;
}

// All three rules.
template <class LayOut, class Resident>
void choose_memory(int64_t networks, int64_t N, bool in_order, int64_t room, bool clusters, const TeamSizes& sizes,
                   const LayOut& lay_out, const Resident& resident, Teams& plan) {
  if (in_order && hold_weights(networks, N, room, clusters, sizes, lay_out, resident, plan)) return;
  lay_out(plan);
  Teams p = plan;
  p.shared = true;
  if (p.block_bytes <= room && resident(p) >= p.all_blocks()) plan = p;
}

// Kernels of one body, for blocks that meet through global memory and for those of a cluster.
template <class Arguments>
struct TeamKernels {
  void (*grid)(Arguments);
  void (*cluster)(Arguments);

  auto get(const Teams& plan) const { return plan.cluster ? cluster : grid; }
};

// SNNFAST_CLUSTERS=0: teams are no clusters, for comparisons.
inline bool may_be_clusters() {
  const char* chosen = std::getenv("SNNFAST_CLUSTERS");
  return !chosen || std::strcmp(chosen, "0") != 0;
}

// Properties of the device that a plan depends on.
struct TeamDevice {
  int device = 0, multiprocessors = 0, clusters = 0;

  template <class Arguments>
  cudaError_t ask(const TeamKernels<Arguments>& kernels) {
    cudaFuncAttributes attributes{};
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess && may_be_clusters())
      error = cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device);
    if (error == cudaSuccess && clusters) error = cudaFuncGetAttributes(&attributes, kernels.cluster);
    // A driver may have compiled the PTX of an older architecture for this device, where the kernel has no body.
    if (attributes.ptxVersion < kClusterPtx) clusters = 0;
    return error;
  }
};

// Number of blocks of a plan that run at the same time.
template <class Kernel>
cudaError_t resident_blocks(Kernel kernel, const TeamDevice& on, const Teams& plan, int64_t& resident) {
  const size_t bytes = static_cast<size_t>(plan.dynamic_shared());
  int found = 0;
  cudaError_t error;
  if (plan.cluster) {
    const unsigned blocks = static_cast<unsigned>(plan.blocks);
    cudaLaunchAttribute cluster = cluster_of_blocks(blocks);
    const cudaLaunchConfig_t config =
        launch_config(blocks, static_cast<unsigned>(plan.threads), bytes, nullptr, cluster);
    error = cudaOccupancyMaxActiveClusters(&found, kernel, &config);
    if (error != cudaSuccess) {  // a partition of a GPU, or a virtual one: teams without clusters work
      found = 0;
      error = cudaSuccess;
      (void)cudaGetLastError();
    }
    resident = found * plan.blocks;
  } else {
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found, kernel, static_cast<int>(plan.threads), bytes);
    resident = static_cast<int64_t>(found) * on.multiprocessors;
  }
  return error;
}

// Plan without shared memory.
template <class Kernel>
cudaError_t plan_teams(Kernel kernel, const TeamDevice& on, int64_t networks, int64_t N, int64_t images,
                       int64_t threads, Teams& plan) {
  int64_t resident = 0;
  const cudaError_t error = resident_blocks(kernel, on, Teams{threads, 1, 1, 1, false, false, false, 0, 0}, resident);
  return error == cudaSuccess ? divide(resident, networks, N, images, threads, plan) : error;
}

// Memory: memory of a team and of a block, laid out in two arenas by Memory(network, plan, team, block).
template <class Memory, class Network, class Arguments>
cudaError_t plan_teams(const TeamKernels<Arguments>& kernels, const Network& a, int64_t images, const TeamSizes& sizes,
                       Teams& plan) {
  TeamDevice on;
  int64_t room = 0;
  cudaError_t error = on.ask(kernels);
  if (error == cudaSuccess) error = plan_teams(kernels.grid, on, a.networks, a.N, images, sizes.threads(a.N), plan);
  if (error == cudaSuccess) error = allow_shared(kernels.cluster, on.device, room);
  if (error == cudaSuccess) error = allow_shared(kernels.grid, on.device, room);
  if (error != cudaSuccess) return error;
  const auto resident = [&](const Teams& p) {
    int64_t blocks = 0;
    if (error == cudaSuccess) error = resident_blocks(kernels.get(p), on, p, blocks);
    return blocks;
  };
  const auto lay_out = [&](Teams& p) {
    Arena team(nullptr), block(nullptr);
    Memory(a, p, team, block);
    p.team_bytes = team.used();
    p.block_bytes = block.used();
  };
  choose_memory(a.networks, a.N, a.in_order(), room, on.clusters != 0, sizes, lay_out, resident, plan);
  return error;
}

// The workspace is arguments.workspace.
template <class Arguments>
cudaError_t launch_teams(const TeamKernels<Arguments>& kernels, cudaStream_t stream, const Arguments& arguments) {
  const Teams& plan = arguments.plan;
  const dim3 blocks(static_cast<unsigned>(plan.teams * plan.blocks), static_cast<unsigned>(plan.networks));
  const unsigned threads = static_cast<unsigned>(plan.threads);
  const size_t shared = static_cast<size_t>(plan.dynamic_shared()),
               zeroed = static_cast<size_t>(plan.all_teams() * plan.team_bytes);
  cudaError_t error = zeroed ? cudaMemsetAsync(arguments.workspace, 0, zeroed, stream) : cudaSuccess;
  if (error != cudaSuccess) return error;
  const auto kernel = kernels.get(plan);
  if (plan.cluster)
    launch_clusters(static_cast<unsigned>(plan.blocks), blocks, threads, shared, stream, kernel, arguments);
  else if (plan.blocks > 1)
    launch_cooperative(blocks, threads, shared, stream, kernel, arguments);
  else
    SNNFAST_LAUNCH(kernel, blocks, threads, shared, stream, arguments);
  return cudaGetLastError();
}

}  // namespace
}  // namespace snnfast
