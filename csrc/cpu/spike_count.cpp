#include "core/spike_count.h"

#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = kNeuronBlock;

template <class C, Reset R>
void count_block(const NeuronForward<SpikeCount>& a, int64_t n0, int64_t m) {
  alignas(64) C v[kBlock], count[kBlock], threshold[kBlock], x_buffer[kBlock];
  const C v_reset = static_cast<C>(a.settings[SpikeCount::kVReset]);
  const C *v_in = static_cast<const C*>(a.state_in[SpikeCount::kV]),
          *count_in = static_cast<const C*>(a.state_in[SpikeCount::kCount]);
  for (int64_t i = 0; i < m; i++) {
    v[i] = v_in ? v_in[n0 + i] : v_reset;
    count[i] = count_in ? count_in[n0 + i] : C(0);
    threshold[i] = param_of_neuron<C>(a.param[SpikeCount::kVThreshold], n0 + i);
  }
  for (int64_t t = 0; t < a.T; t++) {
    const C* x = read_row<C>(a.x, t, n0, m, x_buffer);
    if (t + kAhead < a.T) prefetch_row(a.x, t + kAhead, n0, m);
    SNNFAST_SIMD
    for (int64_t i = 0; i < m; i++) spike_count_step<C, R>(x[i], threshold[i], v_reset, &v[i], &count[i]);
  }
  copy(static_cast<C*>(a.state_out[SpikeCount::kV]) + n0, v, m);
  copy(static_cast<C*>(a.state_out[SpikeCount::kCount]) + n0, count, m);
}

template <class C, Reset R>
void count_blocks(const NeuronForward<SpikeCount>& a, int64_t begin, int64_t end) {
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) count_block<C, R>(a, n0, min(end - n0, kBlock));
}

template <class C>
void count_as(const NeuronForward<SpikeCount>& a, int64_t begin, int64_t end) {
  a.reset == Reset::hard ? count_blocks<C, Reset::hard>(a, begin, end) : count_blocks<C, Reset::soft>(a, begin, end);
}

}  // namespace

void spike_count(const NeuronForward<SpikeCount>& a, int64_t begin, int64_t end) {
  a.x.dtype == Dtype::f64 ? count_as<double>(a, begin, end) : count_as<float>(a, begin, end);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
