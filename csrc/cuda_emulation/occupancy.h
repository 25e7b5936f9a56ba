// GPU that launches are planned for. The emulated one is small; SNNFAST_EMULATION_DEVICE names a file with the numbers
// of another, and with the resources that the compiler reports for kernels. Launches are then planned and traced, but
// not run.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

namespace emulation {

struct KernelUse {
  int64_t registers, static_shared;  // of a thread; of a block
};

// Compute capability 8.0 or later: 65,536 registers per multiprocessor, and 1 KB of shared memory reserved by the
// system per block.
struct Device {
  int64_t multiprocessors, warps, blocks;  // warps and blocks of a multiprocessor
  int64_t shared, block_shared;            // bytes of a multiprocessor, and those that a block may request
  int64_t clusters;                        // whether it has clusters
  std::map<uintptr_t, KernelUse> kernels;  // by their addresses in this library

  const KernelUse& use(const void* kernel) const {
    Dl_info library{};
    dladdr(kernel, &library);
    const auto found =
        kernels.find(reinterpret_cast<uintptr_t>(kernel) - reinterpret_cast<uintptr_t>(library.dli_fbase));
    if (found == kernels.end())
      throw std::runtime_error("emulation: SNNFAST_EMULATION_DEVICE says nothing of a kernel that is launched");
    return found->second;
  }

  // By the rules of CUDA's programming guide.
  int64_t resident_blocks(const void* kernel, int64_t threads, int64_t dynamic_shared) const {
    const auto up = [](int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; };
    const KernelUse& usage = use(kernel);
    const int64_t warps_of_block = (threads + 31) / 32, per_warp = up(usage.registers * 32, 256);
    int64_t most = warps / warps_of_block;
    const int64_t by_registers =
        65536 / 4 / per_warp * 4 / warps_of_block;  // a warp uses those of one of four schedulers
    const int64_t by_shared = shared / (up(usage.static_shared + dynamic_shared, 128) + 1024);
    for (const int64_t other : {by_registers, by_shared, blocks}) most = other < most ? other : most;
    return most;
  }
};

// Null: the small one. Not a thread_local variable, since poison_statics() overwrites those.
inline const Device* device() {
  const char* path = std::getenv("SNNFAST_EMULATION_DEVICE");
  if (!path) return nullptr;
  static std::mutex one_by_one;
  static std::map<std::string, Device> devices;
  const std::lock_guard<std::mutex> lock(one_by_one);
  if (const auto known = devices.find(path); known != devices.end()) return &known->second;
  std::ifstream file(path);
  Device found{};
  file >> found.multiprocessors >> found.warps >> found.blocks >> found.shared >> found.block_shared >> found.clusters;
  if (!file) throw std::runtime_error(std::string("emulation: cannot read SNNFAST_EMULATION_DEVICE: ") + path);
  uintptr_t place;
  KernelUse use;
  while (file >> place >> use.registers >> use.static_shared) found.kernels[place] = use;
  return &(devices[path] = found);
}

}  // namespace emulation
