// Arguments of pooling, checked.
#pragma once
#include "core/pool2d.h"

#include "cpu/dispatch.h"
#include "ops/neuron.h"

SNNFAST_CPU_KERNEL(pool2d_forward, (const Pool2d&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(pool2d_backward, (const Pool2d&, int64_t begin, int64_t end))

namespace snnfast {

// Pooling of images {N, C, H, W} in the dtype of x, without their memory.
Pool2d pool2d_of(const char* op, const Tensor& x, const std::vector<int64_t>& images, int64_t kernel_h,
                 int64_t kernel_w, bool average);

}  // namespace snnfast
