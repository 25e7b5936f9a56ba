// Batch normalisation of channels-last rows: sums of every channel, then rows scaled and shifted by channel.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Rows are split into blocks independently of the number of threads, so that sums are always added in the same order.
struct BatchNormRows {
  int64_t rows, C;  // x, grad and result [rows, C], contiguous
  int64_t block;    // rows of a block
  Dtype dtype;      // f32, f64 or bf16 (computed in float)
  const void *x, *grad;
};

// Sums over the rows of each block, in float64, [blocks, 2, C]. Without grad: of x - center and of its square. With
// grad: of grad and of grad (x - center). A center near the mean loses no precision in float.
struct BatchNormSums : BatchNormRows {
  const void* center;  // [C], in the compute type
  double* sums;
};

// result = slope (x - mean) + shift, and with grad scale (grad - grad_mean + slope (x - mean) + shift).
struct BatchNormResult : BatchNormRows {
  const void *slope, *mean, *shift, *scale, *grad_mean;  // [C], in the compute type
  void* result;
};

constexpr int64_t kBatchNormBlocks = 64;    // maximum
constexpr int64_t kBatchNormBlock = 65536;  // minimum number of elements of a block
constexpr int64_t kBatchNormRows = 16;      // added in the compute type, before float64

}  // namespace snnfast
