#include "cuda/launch.h"

namespace snnfast {

const char* cuda_error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace snnfast
