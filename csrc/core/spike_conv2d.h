// A convolution of images most of whose pixels are 0: sums of the weights of the pixels that are not.
#pragma once
#include <cstdint>

#include "spike_bits.h"

namespace snnfast {

// With a dilation of 1, in float32 or float64. The table has the weights of each input side by side, as the sums
// read them: [blocks][kh][kw][C][width], where a block has kConvBlock outputs, the last those that are left, rounded up
// to kConvLine. Images are in groups; each has a table of its own for gradients, which are then summed in order.
struct SpikeConv2d {
  int64_t N, C, H, W;  // x [N, H, W, C], contiguous
  int64_t O, kh, kw, stride_h, stride_w, pad_h, pad_w, out_h,
      out_w;               // y and its gradient [N, out_h, out_w, O], contiguous
  int64_t images, groups;  // images of a group
  Dtype dtype;
  bool whole;            // x and weight are int8, y, bias and table int32, as wide as the dtype
  bool turned;           // weight is [C, O, kh, kw], and its rows and columns are taken from the last one on
  const uint64_t* bits;  // of x, an image a row
  bool ones;             // the bits are all there is to know of x, which is then not read
  const void *x, *weight, *bias, *grad;  // weight [O, C, kh, kw]; bias [O] or null
  void *y, *table, *grad_tables, *grad_weight;
};

constexpr int64_t kConvLine = 16;     // outputs
constexpr int64_t kConvBlock = 64;    // outputs that are summed in registers
constexpr int64_t kConvGroups = 16;   // at most
constexpr int64_t kConvPixels = 256;  // of a group, at least: each table of gradients is cleared and summed

inline int64_t conv_table_size(const SpikeConv2d& a) {
  return a.kh * a.kw * a.C * ((a.O + kConvLine - 1) / kConvLine * kConvLine);
}

// Words of an image's bits.
inline int64_t conv_words(const SpikeConv2d& a) { return (a.H * a.W * a.C + 63) / 64; }

// Bytes that lists of events take, and the gradient with zeros around, or rows of outputs.
inline int64_t conv_scratch(const SpikeConv2d& a) {
  const int64_t size = a.dtype == Dtype::f64 ? 8 : 4, pixels = a.H * a.W;
  return (a.out_h + 2 * (a.kh - 1)) * (a.out_w + 2 * (a.kw - 1)) * kConvBlock * size + pixels * a.C * (size + 4) +
         (pixels + 1 + a.C) * 4;
}

// Costs that are measured (docs/ops/spike_conv2d.md), beside those of a dense product, which multiplies whole lines of
// outputs. Events add such lines, are listed, and wait at each output for each row of the kernel; weights are copied
// into the table first. Above a third of the pixels the table's lines come too slowly.
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
