// A linear map of sparse inputs: sums of the rows of a table whose input is not 0.
#pragma once
#include <cstdint>

#include "spike_bits.h"

namespace snnfast {

// Transposed bits: `to` has a row per input of `of`, whose word r / 64 holds row r in bit r % 64.
struct SpikeTranspose {
  SpikeBits of;
  int64_t words;  // words of a row of `to`
  uint64_t* to;
};

// Lists of the events of each result; a result is a row of the bits. A list ends where the index of an event passes a
// multiple of `chunk`: list (n, c) has the events [starts[n chunks + c], starts[n chunks + c + 1]).
struct SpikeLists {
  SpikeBits of;
  int64_t x_row, x_column;  // strides of x
  int64_t chunk, chunks;
  int64_t* starts;   // at first the number of events of each list
  int32_t* indices;  // index of an event within its chunk
  void* values;      // value of an event, in the type of sums; null if all are 1
};

// result[n, o] = bias[o] + the sum over the events e of n, in their order, of values[e] source[index of e, o].
// in_blocks: sum each list separately, then add these sums: the error grows less with the number of events.
struct SpikeSums {
  bool in_blocks;
  int64_t N, K, O;
  int64_t chunk, chunks;
  const int64_t* starts;
  const int32_t* indices;
  const void* values;
  Dtype dtype;  // of source, bias and result; sums are float64 for float64, else float32
  bool int8;    // source is int8, and all else int32; no dtype
  const void* source;
  int64_t source_row, source_column;  // strides; one of them is 1
  bool in_place;                      // rows of the source are read where they lie
  const void* bias;                   // or null
  void* result;
  int64_t result_row, result_column;  // strides; one of them is 1
};

// grad_x[r, i] = the sum over o of grad[r, o] weight[o, i], in the order of o, each product and each sum rounded.
struct FewOutputs {
  int64_t outputs, inputs;
  Dtype dtype;
  const void *grad, *weight;
  void* grad_x;  // all contiguous
};

// Largest number of inputs of int8 weights, and largest bias, for which sums fit in 32 bits.
constexpr int64_t kMostWholeInputs = 65535, kMostWholeBias = int64_t{1} << 30;

constexpr int64_t kSpikeBlock = 256;   // bytes of a row of the table that are summed in registers
constexpr int64_t kSpikeChunk = 1024;  // rows of the table: with the block's bytes 256 KiB, in every second-level cache
constexpr int64_t kSpikeTile = 1024;   // results that are summed before they are written in another type or order

// A cost model from measurements on processors with AVX2 and AVX-512 (docs/ops/spike_linear.md). A matrix product costs
// its multiplications and, with few outputs, its inputs; sums by events cost their additions and the copies before.
inline bool spikes_by_events(int64_t nonzeros, int64_t rows, int64_t inputs, int64_t outputs, Dtype dtype,
                             bool in_place) {
  const int64_t lanes = dtype == Dtype::f64 ? 8 : 16;
  const double additions =
      static_cast<double>(nonzeros) * static_cast<double>((outputs + lanes - 1) / lanes * lanes + 8);
  const double copied = static_cast<double>(rows + (in_place ? 0 : inputs)) * static_cast<double>(outputs);
  const double products = static_cast<double>(rows) * static_cast<double>(inputs) *
                          static_cast<double>(outputs + (outputs < 4 ? 4 * outputs : 16));
  const double worth = dtype == Dtype::bf16 ? 0.15 : 0.4;
  return additions + 4 * copied <= worth * products;
}

// PyTorch's product over few outputs takes up to three times as long as sums of them in registers.
inline bool has_few_outputs(int64_t outputs, int64_t inputs, Dtype dtype) {
  const int64_t size = dtype == Dtype::f64 ? 8 : 4;
  return outputs <= 16 && inputs * size >= 64 && (dtype == Dtype::f32 || dtype == Dtype::f64);
}

}  // namespace snnfast
