// BP-STDP of one layer pair (Tavanaei and Maida 2019).
#pragma once
#include <cstdint>

namespace snnfast {

struct BpStdp {
  int64_t T, B, I, O;
  int64_t epsilon;
  int64_t span;  // steps between weight updates: 1 or T
  double scale;  // factor of the errors: the learning rate, divided by the batch size if averaged
  bool is_double;
  int32_t width;      // bytes of a spike
  const void* pre;    // [T, B, I]
  const void* error;  // [T, B, O]
  void* w;            // [O, I]
  void* passed;       // [T, B, I], or null
  void* counts;       // [B, I] int32_t: running spike counts of the window
  void* windows;      // [span B, I]: the same counts of every step, in the dtype of w
};

}  // namespace snnfast
