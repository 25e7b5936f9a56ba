// Spikes as bits, all that the backward pass needs of them.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Bits of the nonzero inputs: bit i % 64 of word i / 64 of a row is input i. Bits after the last input are 0, since
// lists are made from whole words.
struct SpikeBits {
  int64_t rows, inputs, words;  // words of a row
  const void* x;                // [rows, inputs], contiguous
  Dtype dtype;
  bool bytes;  // x is bool or int8, and dtype is not used
  uint64_t* bits;
};

struct SpikesFound {
  int64_t nonzeros, others;  // others: neither 0 nor 1
};

}  // namespace snnfast
