// Spikes as bits, which the backward pass needs no more of.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

// Which inputs are not 0: bit i % 64 of word i / 64 of a row is input i's. Lists are made of bits that are 0 after the
// last input.
struct SpikeBits {
  int64_t rows, inputs, words;  // words of a row
  const void* x;                // [rows, inputs], contiguous
  Dtype dtype;
  bool bytes;  // x is bool or int8, and has no dtype
  uint64_t* bits;
};

struct SpikesFound {
  int64_t nonzeros, others;  // others: neither 0 nor 1
};

}  // namespace snnfast
