// Functions that launchers call.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include "blocks.h"

namespace emulation {
inline int driver_version = 13000;  // of CUDA; a test may set it
inline size_t cluster_of(const cudaLaunchConfig_t& config) {
  for (unsigned k = 0; k < config.numAttrs; k++)
    if (config.attrs[k].id == cudaLaunchAttributeClusterDimension) return config.attrs[k].val.clusterDim.x;
  return 0;
}
}  // namespace emulation

inline cudaError_t cudaGetLastError() {
  auto e = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return e;
}
inline cudaError_t cudaPeekAtLastError() { return emulation::last_error; }
inline const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess                          ? "no error"
         : e == cudaErrorInvalidConfiguration      ? "invalid configuration argument"
         : e == cudaErrorInsufficientDriver        ? "CUDA driver version is insufficient for CUDA runtime version"
         : e == cudaErrorNoKernelImageForDevice    ? "no kernel image is available for execution on the device"
         : e == cudaErrorCooperativeLaunchTooLarge ? "too many blocks in cooperative launch"
         : e == cudaErrorInvalidClusterSize        ? "invalid cluster size"
                                                   : "invalid argument";
}
inline cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t = nullptr) {
  std::memset(d, v, n);
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = emulation::driver_version;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* d) {
  *d = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  const emulation::Device* const other = emulation::device();
  switch (a) {
    case cudaDevAttrMultiProcessorCount: *v = other ? (int)other->multiprocessors : emulation::kMultiprocessors; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *v = other ? (int)other->block_shared : (int)emulation::most_shared();
      break;
    case cudaDevAttrClusterLaunch: *v = other ? (int)other->clusters : 1;
  }
  return cudaSuccess;
}
template <class K>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, K kernel) {
  const char* e = getenv("SNNFAST_EMULATION_PTX");
  const emulation::Device* const other = emulation::device();
  *attributes = {other ? (size_t)other->use((const void*)kernel).static_shared : emulation::kStaticShared,
                 e ? atoi(e) : 90};
  return cudaSuccess;
}
// The limit of a kernel may not be lowered: another host thread may be about to launch it with more.
template <class K>
cudaError_t cudaFuncSetAttribute(K kernel, cudaFuncAttribute a, int v) {
  if (a != cudaFuncAttributeMaxDynamicSharedMemorySize || emulation::device()) return cudaSuccess;
  static std::mutex one_by_one;
  static std::map<std::pair<const void*, size_t>, int> allowed;
  const std::lock_guard<std::mutex> lock(one_by_one);
  int& before = allowed[{(const void*)kernel, emulation::most_shared()}];
  if (v < before) return emulation::last_error = cudaErrorInvalidValue;
  before = v;
  if (v > 0 && v + emulation::kStaticShared > emulation::most_shared())
    return emulation::last_error = cudaErrorInvalidValue;
  emulation::max_dyn_smem = std::max<size_t>(emulation::max_dyn_smem, v);
  return cudaSuccess;
}
template <class K>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, K kernel, int threads, size_t smem) {
  const emulation::Device* const other = emulation::device();
  *n = other ? (int)other->resident_blocks((const void*)kernel, threads, (int64_t)smem)
             : emulation::resident_blocks(smem);
  return cudaSuccess;
}
template <class K>
cudaError_t cudaOccupancyMaxActiveClusters(int* n, K kernel, const cudaLaunchConfig_t* config) {
  const size_t blocks = emulation::cluster_of(*config);
  if (getenv("SNNFAST_EMULATION_NO_QUERY")) return *n = -1, emulation::last_error = cudaErrorNotSupported;
  if (const emulation::Device* const other = emulation::device())
    *n = (int)(other->multiprocessors *
               other->resident_blocks((const void*)kernel, config->blockDim.x, (int64_t)config->dynamicSmemBytes) /
               (int64_t)blocks);
  else
    *n = (int)emulation::resident_clusters(blocks, config->dynamicSmemBytes);
  return cudaSuccess;
}
// A launch whose blocks are a cluster, or all of which are resident.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const auto run = [&] { kernel(arguments...); };
  if (const size_t blocks = emulation::cluster_of(*config))
    emulation::launch_clusters(config->gridDim, config->blockDim, config->dynamicSmemBytes, blocks, run);
  else
    emulation::launch_cooperative(config->gridDim, config->blockDim, config->dynamicSmemBytes, run);
  return emulation::last_error;
}
