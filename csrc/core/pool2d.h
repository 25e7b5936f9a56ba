// Pooling over windows that lie side by side, of channels-last images.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Rows and columns behind the last whole window belong to none.
struct Pool2d {
  int64_t N, C, H, W;            // x and its gradient [N, H, W, C], contiguous
  int64_t kh, kw, out_h, out_w;  // y and its gradient [N, out_h, out_w, C], contiguous
  Dtype dtype;                   // f32 or f64
  bool average;
  const void *x, *grad;
  void *y, *grad_x;
};

constexpr int64_t kPoolBytes = 16;  // of a pixel's channels at least: the narrowest vector

}  // namespace snnfast
