// Bits of spikes for the operators that sum spikes.
#pragma once
#include <atomic>

#include "core/spike_bits.h"
#include "cpu/dispatch.h"
#include "ops/device.h"

SNNFAST_CPU_KERNEL(spike_bits, (const SpikeBits&, int64_t begin, int64_t end, SpikesFound*))
SNNFAST_CPU_KERNEL(spike_values, (const SpikeBits&, int64_t begin, int64_t end, void* x))

namespace snnfast {

// Contents of the tensor `found`, which goes with the bits.
enum { kNonzeros, kOthers, kByEvents, kFound };

inline SpikesFound find_bits(const SpikeBits& a) {
  std::atomic<int64_t> nonzeros{0}, others{0};
  in_parallel(a.rows, a.inputs / 4, [&](int64_t begin, int64_t end) {
    SpikesFound here{};
    cpu::spike_bits()(a, begin, end, &here);
    nonzeros += here.nonzeros, others += here.others;
  });
  return {nonzeros, others};
}

}  // namespace snnfast
