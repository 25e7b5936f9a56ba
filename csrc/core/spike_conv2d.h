// Convolution of images that are mostly 0: sums the weights of the nonzero pixels.
#pragma once
#include <cstdint>

#include "spike_bits.h"

namespace snnfast {

// For a dilation of 1, in float32 or float64. The table stores the weights of each input contiguously, in the order of
// the sums: [blocks][kh][kw][C][width]. A block has kConvBlock outputs, the last block the remaining ones, rounded up
// to kConvLine. Gradients of weights are summed in parallel over parts of the inputs, and over groups of images where
// inputs are few: each group has its own table of gradients, and the tables are then summed in order.
struct SpikeConv2d {
  int64_t N, C, H, W;  // x [N, H, W, C], contiguous
  int64_t O, kh, kw, stride_h, stride_w, pad_h, pad_w, out_h,
      out_w;               // y and its gradient [N, out_h, out_w, O], contiguous
  int64_t images, groups;  // images of a group
  int64_t parts;           // of the inputs
  Dtype dtype;
  bool int8;                             // x and weight are int8; y, bias and table are int32, as wide as the dtype
  bool turned;                           // weight is [C, O, kh, kw], flipped in rows and columns
  const uint64_t* bits;                  // of x, one row per image
  bool binary;                           // x holds only 0 and 1: its bits are read, x is not
  const void *x, *weight, *bias, *grad;  // weight [O, C, kh, kw]; bias [O] or null
  void *y, *table, *grad_tables, *grad_weight;
};

constexpr int64_t kConvLine = 16;   // outputs
constexpr int64_t kConvBlock = 64;  // outputs that are summed in registers
constexpr int64_t kConvPart = 32;   // inputs
constexpr int64_t kConvUnits = 16;  // maximum number of groups and parts together
constexpr int64_t kConvPixels =
    256;  // minimum number of pixels of a group: each table of gradients is cleared and summed
// Pixels of the images that are processed together, and so share the loads of the table: pixels of x in the forward
// pass, of the padded gradient in the backward pass. Larger images are processed one by one.
constexpr int64_t kConvTogether = 256;

inline int64_t conv_table_size(const SpikeConv2d& a) {
  return a.kh * a.kw * a.C * ((a.O + kConvLine - 1) / kConvLine * kConvLine);
}

// Words of an image's bits.
inline int64_t conv_words(const SpikeConv2d& a) { return (a.H * a.W * a.C + 63) / 64; }

// The gradient of an image with the zeros around it that kernels reach from a pixel of x.
inline int64_t conv_padded_h(const SpikeConv2d& a) { return a.out_h + 2 * (a.kh - 1 - a.pad_h); }
inline int64_t conv_padded_w(const SpikeConv2d& a) { return a.out_w + 2 * (a.kw - 1 - a.pad_w); }
inline int64_t conv_padded(const SpikeConv2d& a) { return conv_padded_h(a) * conv_padded_w(a); }

inline int64_t conv_together(int64_t pixels, int64_t images) {
  return max(min(kConvTogether / max(pixels, 1), images), 1);
}
inline int64_t conv_forward_images(const SpikeConv2d& a) { return conv_together(a.H * a.W, a.N); }
inline int64_t conv_backward_images(const SpikeConv2d& a) { return conv_together(conv_padded(a), a.images); }

// Bytes of the events of an image.
inline int64_t conv_events(const SpikeConv2d& a) {
  const int64_t pixels = a.H * a.W;
  return (pixels * a.C * ((a.dtype == Dtype::f64 ? 8 : 4) + 4) + (pixels + 1) * 4 + 63) / 64 * 64;
}

// Bytes of scratch memory: lists of events, and the zero-padded gradients or rows of outputs.
inline int64_t conv_forward_scratch(const SpikeConv2d& a) {
  return conv_forward_images(a) * conv_events(a) +
         a.kh * (a.W + a.kw - 1) * kConvLine * (a.dtype == Dtype::f64 ? 8 : 4);
}
inline int64_t conv_backward_scratch(const SpikeConv2d& a) {
  return conv_backward_images(a) * (conv_events(a) + conv_padded(a) * kConvBlock * (a.dtype == Dtype::f64 ? 8 : 4)) +
         a.C * 4;
}

// Costs of events, in those of a line of outputs of a dense product (docs/ops/spike_conv2d.md). These are of a Zen 5;
// snnfast/ops/spike_costs.py measures those of the processor that runs.
struct ConvCosts {
  double small = 2, large = 2;  // to add a line of a table of weights that fits the first-level cache, or does not
  double row = 78;              // of an output, for each row of the kernel
  double most = 1.0 / 3;        // largest share of events
  double weight_line = 2.1, weight_pixel = 200, weight_most = 0.4;  // the same of the gradient of the weights
};
inline ConvCosts conv_costs;
constexpr int64_t kConvSmall = 40 << 10;  // bytes of such a table

// A dense product multiplies whole lines of outputs. Events add such lines, must be listed, and each output waits for
// each row of the kernel; weights are copied into the table first.
inline bool conv_by_events(int64_t nonzeros, const SpikeConv2d& a) {
  const double outputs = static_cast<double>(a.N) * static_cast<double>(a.out_h * a.out_w),
               found = static_cast<double>(nonzeros);
  const double pixels = static_cast<double>(a.N) * static_cast<double>(a.H * a.W) * static_cast<double>(a.C);
  const double weights = static_cast<double>(a.kh * a.kw) * static_cast<double>(a.C) *
                         static_cast<double>((a.O + kConvLine - 1) / kConvLine);
  const double dense = outputs * weights;
  if (nonzeros == 0 || a.O == 0) return true;
  const ConvCosts& c = conv_costs;
  const double line = weights * kConvLine * (a.dtype == Dtype::f64 ? 8 : 4) <= kConvSmall ? c.small : c.large;
  return found <= c.most * pixels &&
         line * dense * found / pixels + 4 * found + c.row * outputs * static_cast<double>(a.kh) + 8 * weights <= dense;
}

// The same for the gradient of the weights. Its dense product is slower, above all with a stride and for small images;
// events are listed and gradients padded for each pixel. No measured size but 1 x 1 kernels loses more than a tenth.
inline bool conv_weight_by_events(int64_t nonzeros, const SpikeConv2d& a) {
  const double outputs = static_cast<double>(a.N) * static_cast<double>(a.out_h * a.out_w),
               pixels = static_cast<double>(a.N) * static_cast<double>(a.H * a.W);
  const double weights = static_cast<double>(a.kh * a.kw) * static_cast<double>(a.C) *
                         static_cast<double>((a.O + kConvLine - 1) / kConvLine);
  const bool small = a.H * a.W <= 16, strided = a.stride_h * a.stride_w > 1;
  const double share = static_cast<double>(nonzeros) / (pixels * static_cast<double>(a.C)),
               slower = strided ? 1.5 : (small ? 1.4 : 1), dense = slower * outputs * weights;
  const ConvCosts& c = conv_costs;
  return conv_by_events(nonzeros, a) ||
         (share <= (small ? 0.7 : c.weight_most) &&
          c.weight_line * share * outputs * weights + c.weight_pixel * pixels + 8 * weights <= dense);
}

// ---- Winograd's F(4 x 4, 3 x 3), for 16 n inputs and outputs (csrc/cpu/spike_conv2d_winograd.cpp)

constexpr int64_t kWinogradTiles = 48;  // whose 36 positions stay in the second-level cache

inline int64_t winograd_down(const SpikeConv2d& a) { return (a.out_h + 3) / 4; }
inline int64_t winograd_across(const SpikeConv2d& a) { return (a.out_w + 3) / 4; }
inline int64_t winograd_tiles(const SpikeConv2d& a) { return a.N * winograd_down(a) * winograd_across(a); }

// Numbers from one position to the next: a line more than the matrix, since caches evict at powers of 2.
inline int64_t winograd_position(int64_t numbers) { return numbers + kConvLine; }

// Numbers of all transformed weights, with up to a line for every 16 outputs.
inline int64_t winograd_table(const SpikeConv2d& a) { return 36 * (a.C + 1) * a.O; }

// Measured costs in products: 800 to transform the weights of an input and an output, 525 to transform a tile of an
// input or of an output. A direct product must cost a quarter more.
inline bool winograd_pays(const SpikeConv2d& a) {
  if (a.dtype != Dtype::f32 || a.int8 || a.kh != 3 || a.kw != 3 || a.stride_h != 1 || a.stride_w != 1) return false;
  if (a.C % kConvLine || a.O % kConvLine) return false;
  const double pairs = static_cast<double>(a.C) * static_cast<double>(a.O),
               tiles = static_cast<double>(winograd_tiles(a)),
               outputs = static_cast<double>(a.N) * static_cast<double>(a.out_h * a.out_w);
  return (36 * tiles + 800) * pairs + 525 * tiles * static_cast<double>(a.C + a.O) <= 0.8 * 9 * outputs * pairs;
}

inline bool winograd_in_scratch(const SpikeConv2d& a) { return winograd_tiles(a) <= kWinogradTiles; }

// Bytes of scratch memory: tiles, sums, and weights of a block of outputs.
inline int64_t winograd_scratch(const SpikeConv2d& a) {
  const int64_t tiles = min(winograd_tiles(a), kWinogradTiles);
  return 36 * 4 *
         (winograd_position(tiles * a.C) + winograd_position(tiles * kConvBlock) +
          (winograd_in_scratch(a) ? winograd_position(a.C * kConvBlock) : 0));
}

}  // namespace snnfast
