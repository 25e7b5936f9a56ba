// Pooling of channels-last images over adjacent windows.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Rows and columns after the last whole window belong to no window.
struct Pool2d {
  int64_t N, C, H, W;            // x and its gradient [N, H, W, C], contiguous
  int64_t kh, kw, out_h, out_w;  // y and its gradient [N, out_h, out_w, C], contiguous
  Dtype dtype;                   // f32, f64 or bf16 (computed in float)
  bool average;
  const void *x, *grad;
  void *y, *grad_x;
  uint8_t* argmax;  // index of each maximum in its window, row by row; shape of y
};

constexpr int64_t kPoolPixels = 256;  // maximum number of pixels of a max-pooling window

// Minimum number of channels of a pixel: the lanes of the narrowest vector of the compute type.
template <class C>
constexpr int kPoolChannels = 16 / sizeof(C);

}  // namespace snnfast
