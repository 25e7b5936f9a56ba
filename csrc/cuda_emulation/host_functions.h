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
}  // namespace emulation

inline cudaError_t cudaGetLastError() {
  auto e = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return e;
}
inline cudaError_t cudaPeekAtLastError() { return emulation::last_error; }
inline const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess                       ? "no error"
         : e == cudaErrorInvalidConfiguration   ? "invalid configuration argument"
         : e == cudaErrorInsufficientDriver     ? "CUDA driver version is insufficient for CUDA runtime version"
         : e == cudaErrorNoKernelImageForDevice ? "no kernel image is available for execution on the device"
                                                : "invalid argument";
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
  *v = a == cudaDevAttrMultiProcessorCount ? emulation::kMultiprocessors : (int)emulation::most_shared();
  return cudaSuccess;
}
template <class K>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, K) {
  *attributes = {emulation::kStaticShared};
  return cudaSuccess;
}
// The limit of a kernel may not be lowered: another host thread may be about to launch it with more.
template <class K>
cudaError_t cudaFuncSetAttribute(K kernel, cudaFuncAttribute a, int v) {
  if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
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
