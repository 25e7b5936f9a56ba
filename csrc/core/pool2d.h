// Pooling over windows that lie side by side, of channels-last images.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Rows and columns behind the last whole window belong to none.
struct Pool2d {
  int64_t N, C, H, W;            // x and its gradient [N, H, W, C], contiguous
  int64_t kh, kw, out_h, out_w;  // y and its gradient [N, out_h, out_w, C], contiguous
  Dtype dtype;                   // f32, f64 or bf16, which computes in float
  bool average;
  const void *x, *grad;
  void *y, *grad_x;
  uint8_t* places;  // of each maximum in its window, row by row; as y
};

constexpr int64_t kPoolPlaces = 256;  // pixels that the window of a maximum has at most

// A pixel has as many channels at least: those of the narrowest vector of the type that computes.
template <class C>
constexpr int kPoolChannels = 16 / sizeof(C);

}  // namespace snnfast
