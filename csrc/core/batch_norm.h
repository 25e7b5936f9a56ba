// Batch normalisation of channels-last rows: sums of every channel, then rows scaled and shifted by channel.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Rows are cut into blocks, whatever the number of threads, so that sums are always added in the same order.
struct BatchNormRows {
  int64_t rows, C;  // x, grad and result [rows, C], contiguous
  int64_t block;    // rows of a block
  Dtype dtype;      // f32, f64 or bf16, which computes in float
  const void *x, *grad;
};

// Of each block the sums over its rows, in float64, [blocks, 2, C]: without grad those of x - center and of its square,
// with grad those of grad and of grad (x - center). Near the mean a center in float costs no precision.
struct BatchNormSums : BatchNormRows {
  const void* center;  // [C], in the type that computes
  double* sums;
};

// result = slope (x - mean) + shift, and with grad scale (grad - grad_mean + slope (x - mean) + shift).
struct BatchNormResult : BatchNormRows {
  const void *slope, *mean, *shift, *scale, *grad_mean;  // [C], in the type that computes
  void* result;
};

constexpr int64_t kBatchNormBlocks = 64;    // at most
constexpr int64_t kBatchNormBlock = 65536;  // elements of a block, at least
constexpr int64_t kBatchNormRows = 16;      // that are added in the type that computes, before float64

}  // namespace snnfast
