// Philox 4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011): four random words from a
// counter and a key, without a state, so that any thread can compute any word.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace snnfast {
namespace {

// Word: uint32_t, or a vector whose lanes hold one word in their low 32 bits and anything above.
template <class Word>
struct Words {
  Word x, y, z, w;
};

// The 64-bit product of a word and a constant; specialised for vectors.
template <class Word>
struct Multiply {
  static SNNFAST_HD uint64_t by(Word a, uint32_t b) { return static_cast<uint64_t>(a) * b; }
};

// Several counters under one key share the round keys.
template <int kCounters, class Word>
SNNFAST_HD void philox4x32_10(Words<Word> (&counters)[kCounters], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    SNNFAST_UNROLL
    for (int k = 0; k < kCounters; k++) {
      const Words<Word> c = counters[k];
      const auto x = Multiply<Word>::by(c.x, 0xD2511F53u);
      const auto z = Multiply<Word>::by(c.z, 0xCD9E8D57u);
      counters[k] = {static_cast<Word>(z >> 32) ^ c.y ^ key0, static_cast<Word>(z),
                     static_cast<Word>(x >> 32) ^ c.w ^ key1, static_cast<Word>(x)};
    }
    key0 += 0x9E3779B9u;  // golden ratio and sqrt(3) - 1, the Weyl sequence of the keys
    key1 += 0xBB67AE85u;
  }
}

template <class Word>
SNNFAST_HD Words<Word> philox4x32_10(Words<Word> c, uint32_t key0, uint32_t key1) {
  Words<Word> one[] = {c};
  philox4x32_10(one, key0, key1);
  return one[0];
}

}  // namespace
}  // namespace snnfast
