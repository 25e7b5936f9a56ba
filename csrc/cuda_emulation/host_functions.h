// What launchers call.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <cstring>
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
  switch (a) {
    case cudaDevAttrMultiProcessorCount: *v = emulation::kMultiprocessors; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = (int)emulation::most_shared(); break;
    case cudaDevAttrClusterLaunch: *v = 1;
  }
  return cudaSuccess;
}
template <class K>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, K) {
  const char* e = getenv("SNNFAST_EMULATION_PTX");
  *attributes = {emulation::kStaticShared, e ? atoi(e) : 90};
  return cudaSuccess;
}
template <class K>
cudaError_t cudaFuncSetAttribute(K, cudaFuncAttribute a, int v) {
  if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (v > 0 && v + emulation::kStaticShared > emulation::most_shared()) return emulation::last_error = cudaErrorInvalidValue;
  emulation::max_dyn_smem = std::max<size_t>(emulation::max_dyn_smem, v);
  return cudaSuccess;
}
template <class K>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, K, int, size_t smem) {
  *n = emulation::resident_blocks(smem);
  return cudaSuccess;
}
template <class K>
cudaError_t cudaOccupancyMaxActiveClusters(int* n, K, const cudaLaunchConfig_t* config) {
  *n = (int)emulation::resident_clusters(emulation::cluster_of(*config), config->dynamicSmemBytes);
  return cudaSuccess;
}
// A launch whose blocks are a cluster, or all of which are resident.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), const Arguments&... arguments) {
  const auto run = [&] { kernel(arguments...); };
  if (const size_t blocks = emulation::cluster_of(*config))
    emulation::launch_clusters(config->gridDim, config->blockDim, config->dynamicSmemBytes, blocks, run);
  else
    emulation::launch_cooperative(config->gridDim, config->blockDim, config->dynamicSmemBytes, run);
  return emulation::last_error;
}
