// Convolution of images that are mostly 0: sums the weights of the nonzero pixels.
#pragma once
#include <cstdint>

#include "spike_bits.h"

namespace snnfast {

// For a dilation of 1, in float32 or float64. The table stores the weights of each input contiguously, in the order of
// the sums: [blocks][kh][kw][C][width]. A block has kConvBlock outputs, the last block the remaining ones, rounded up
// to kConvLine. Images are in groups, each with its own table of gradients; the tables are then summed in order.
struct SpikeConv2d {
  int64_t N, C, H, W;  // x [N, H, W, C], contiguous
  int64_t O, kh, kw, stride_h, stride_w, pad_h, pad_w, out_h,
      out_w;               // y and its gradient [N, out_h, out_w, O], contiguous
  int64_t images, groups;  // images of a group
  Dtype dtype;
  bool whole;                            // x and weight are int8; y, bias and table are int32, as wide as the dtype
  bool turned;                           // weight is [C, O, kh, kw], flipped in rows and columns
  const uint64_t* bits;                  // of x, one row per image
  bool binary;                           // x holds only 0 and 1: its bits are read, x is not
  const void *x, *weight, *bias, *grad;  // weight [O, C, kh, kw]; bias [O] or null
  void *y, *table, *grad_tables, *grad_weight;
};

constexpr int64_t kConvLine = 16;    // outputs
constexpr int64_t kConvBlock = 64;   // outputs that are summed in registers
constexpr int64_t kConvGroups = 16;  // maximum
constexpr int64_t kConvPixels =
    256;  // minimum number of pixels of a group: each table of gradients is cleared and summed

inline int64_t conv_table_size(const SpikeConv2d& a) {
  return a.kh * a.kw * a.C * ((a.O + kConvLine - 1) / kConvLine * kConvLine);
}

// Words of an image's bits.
inline int64_t conv_words(const SpikeConv2d& a) { return (a.H * a.W * a.C + 63) / 64; }

// Bytes of scratch memory: lists of events, and the zero-padded gradient or rows of outputs.
inline int64_t conv_scratch(const SpikeConv2d& a) {
  const int64_t size = a.dtype == Dtype::f64 ? 8 : 4, pixels = a.H * a.W;
  return (a.out_h + 2 * (a.kh - 1)) * (a.out_w + 2 * (a.kw - 1)) * kConvBlock * size + pixels * a.C * (size + 4) +
         (pixels + 1 + a.C) * 4;
}

// Measured costs (docs/ops/spike_conv2d.md) against a dense product, which multiplies whole lines of outputs. Events
// add such lines, must be listed, and each output waits for each row of the kernel; weights are copied into the table
// first. If more than a third of the pixels are nonzero, loading the lines of the table is too slow.
inline bool conv_by_events(int64_t nonzeros, const SpikeConv2d& a) {
  const double outputs = static_cast<double>(a.N) * static_cast<double>(a.out_h * a.out_w),
               found = static_cast<double>(nonzeros);
  const double pixels = static_cast<double>(a.N) * static_cast<double>(a.H * a.W) * static_cast<double>(a.C);
  const double weights = static_cast<double>(a.kh * a.kw) * static_cast<double>(a.C) *
                         static_cast<double>((a.O + kConvLine - 1) / kConvLine);
  const double dense = outputs * weights;
  if (nonzeros == 0 || a.O == 0) return true;
  return 3 * found <= pixels &&
         2 * dense * found / pixels + 4 * found + 78 * outputs * static_cast<double>(a.kh) + 8 * weights <= dense;
}

}  // namespace snnfast
