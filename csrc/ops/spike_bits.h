// Bits of spikes for the operators that sum spikes.
#pragma once
#include <atomic>
#include <cstdlib>

#include "core/spike_linear.h"
#include "cpu/dispatch.h"
#include "ops/device.h"

SNNFAST_CPU_KERNEL(spike_bits, (const SpikeBits&, int64_t begin, int64_t end, SpikesFound*))
SNNFAST_CPU_KERNEL(spike_values, (const SpikeBits&, int64_t begin, int64_t end, void* x))

namespace snnfast {

// Contents of the tensor `found`, which accompanies the bits.
enum { kNonzeros, kOthers, kByEvents, kFound };

inline SpikesFound find_bits(const SpikeBits& a) {
  std::atomic<int64_t> nonzeros{0}, others{0};
  in_parallel(a.rows, a.inputs / 4, [&](int64_t begin, int64_t end) {
    SpikesFound partial{};
    cpu::spike_bits()(a, begin, end, &partial);
    nonzeros += partial.nonzeros, others += partial.others;
  });
  return {nonzeros, others};
}

// Sums of int8 in int32 must not overflow.
inline void check_int8(const char* op, int64_t inputs, const std::optional<Tensor>& bias) {
  SNNFAST_CHECK(inputs <= kMostWholeInputs, op, ": an output of int8 weights must have at most ", kMostWholeInputs,
                " inputs, whose sum fits in 32 bits, got ", inputs);
  if (!bias) return;
  const Tensor contiguous = contiguous_of(*bias);
  const int32_t* b = static_cast<const int32_t*>(contiguous.const_data_ptr());
  for (int64_t o = 0; o < contiguous.numel(); o++)
    SNNFAST_CHECK(std::abs(int64_t{b[o]}) <= kMostWholeBias, op, ": bias must lie in [", -kMostWholeBias, ", ",
                  kMostWholeBias, "], got ", b[o]);
}

}  // namespace snnfast
