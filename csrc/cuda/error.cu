#include <string>

#include "cuda/launch.h"

namespace snnfast {
namespace {

std::string release(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// First driver that runs binaries of this CUDA release, from NVIDIA's release notes.
int first_driver(int release) { return release == 11 ? 450 : release == 12 ? 525 : release == 13 ? 580 : 0; }

}  // namespace

// CUDA versions of the driver and of the build, 1000 major + 10 minor; 0: no driver.
void cuda_versions(int* driver, int* build) {
  *driver = *build = 0;
  (void)cudaDriverGetVersion(driver);
  (void)cudaRuntimeGetVersion(build);
}

// Why the installed driver cannot run the kernels, and what to do; empty if it can, or if there is none.
std::string cuda_driver_problem() {
  int driver, build;
  cuda_versions(&driver, &build);
  const int needed = build / 1000, number = first_driver(needed);
  if (driver == 0 || driver / 1000 >= needed) return "";
  return "the NVIDIA driver is for CUDA " + release(driver) + ", but snnfast was built with CUDA " + release(build) +
         ", which needs a driver for CUDA " + std::to_string(needed) +
         (number ? " (" + std::to_string(number) + " or later)" : "") +
         ": update the driver, or build snnfast with nvcc " + std::to_string(driver / 1000) + " (set CUDA_HOME)";
}

// Text for a launch error, with a remedy. Clears the error of the runtime, or the next launch would return it again.
std::string cuda_error(int error) {
  (void)cudaGetLastError();
  const std::string text = cudaGetErrorString(static_cast<cudaError_t>(error));
  const std::string problem = cuda_driver_problem();
  if (!problem.empty()) return text + ": " + problem;
  if (error == cudaErrorNoKernelImageForDevice) return text + ": build snnfast for this GPU (set TORCH_CUDA_ARCH_LIST)";
  return text;
}

}  // namespace snnfast
