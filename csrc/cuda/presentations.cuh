// Encodes the three forms of presentations as lists of firing inputs, each block for itself: random numbers are cheaper
// than waiting for those of another block.
#pragma once
#include "core/poisson.h"
#include "core/presentations.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

// Whether element `at` of spikes of `width` bytes is a spike.
__device__ inline bool is_spike(const void* spikes, int32_t width, int64_t at) {
  switch (width) {
    case 1: return static_cast<const uint8_t*>(spikes)[at] != 0;
    case 4: return (static_cast<const uint32_t*>(spikes)[at] & 0x7fffffffu) != 0;  // -0 is no spike
    default: return (static_cast<const uint64_t*>(spikes)[at] & 0x7fffffffffffffffull) != 0;
  }
}

// Inputs that fire in a step, ascending.
struct StepInputs {
  const int32_t* begin;
  int32_t count;
};

// By one warp: lists the inputs i in [0, inputs) that fire. They come in groups of four: bit k of fires(q) is input 4 q
// + k - phase.
template <class Fires>
__device__ int32_t list_fired(int64_t inputs, int phase, const Fires& fires, int32_t* out) {
  const int lane = threadIdx.x % 32;
  const uint32_t before = (1u << lane) - 1;
  const int64_t groups = (inputs + phase + 3) / 4;
  int32_t count = 0;
  for (int64_t q0 = 0; q0 < groups; q0 += 32) {
    const int64_t first = 4 * (q0 + lane) - phase;
    uint32_t bits = q0 + lane < groups ? fires(q0 + lane) : 0;
    if (first < 0) bits &= ~0u << -first;
    if (inputs - first < 4) bits &= inputs > first ? (1u << (inputs - first)) - 1 : 0;
    int32_t at = count;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const uint32_t all = __ballot_sync(~0u, bits >> k & 1);
      at += __popc(all & before);
      count += __popc(all);
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (bits >> k & 1) out[at++] = static_cast<int32_t>(first + k);
  }
  return count;
}

template <class Bits>
__device__ int32_t list_spikes(const Bits* row, int64_t inputs, Bits significant, int32_t* out) {
  const auto fires = [&](int64_t q) {
    uint32_t bits = 0;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (4 * q + k < inputs && (row[4 * q + k] & significant)) bits |= 1u << k;
    return bits;
  };
  return list_fired(inputs, 0, fires, out);
}

// The spikes of poisson(hz per_hz, T, seed), bit for bit.
__device__ inline int32_t list_rates(const Presentations& x, int64_t p, int64_t t, int32_t* out) {
  const float* hz = x.hz + p * x.I;
  const int64_t seed = x.seeds[p], first = t * x.I / 4;
  const int phase = static_cast<int>(t * x.I % 4);
  const auto fires = [&](int64_t q) {
    float rate[4];
    bool any = false;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int64_t i = 4 * q + k - phase;
      rate[k] = i >= 0 && i < x.I ? hz[i] * x.per_hz : 0.f;
      any |= rate[k] > 0.f;
    }
    if (!any) return 0u;  // the dark parts of an image
    const Words<uint32_t> drawn = poisson_words(first + q, seed);
    const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    uint32_t bits = 0;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (poisson_fires(poisson_uniform(words[k]), rate[k])) bits |= 1u << k;
    return bits;
  };
  return list_fired(x.I, phase, fires, out);
}

// Lists of several steps at a time, one warp each, in a ring of rows [chunk + 1, I], so that the list of the step
// before is available as well. Events need no encoding: they are lists.
class BlockInputs {
 public:
  // Steps that a block of `threads` encodes at a time; memory: rows(...) I and rows(...) int32_t.
  static SNNFAST_HD int64_t chunk(const Presentations& x, int64_t threads) {
    const int64_t room = (int64_t{1} << 20) / (x.I + 1), warps = threads / 32, most = min(room, warps);
    return listed(x) || most < 1 ? 1 : most;
  }
  static SNNFAST_HD int64_t rows(const Presentations& x, int64_t threads) { return chunk(x, threads) + 1; }

  __device__ BlockInputs(const Presentations& x, int64_t network, int32_t* lists, int32_t* counts)
      : x_(x),
        network_(network),
        lists_(lists),
        counts_(counts),
        chunk_(chunk(x, blockDim.x)),
        rows_(rows(x, blockDim.x)) {}

  // List from flags [I]. Like all calls here: by all threads, and with a __syncthreads of the caller before the next
  // one.
  __device__ StepInputs from_flags(const bool* fired) {
    if (threadIdx.x < 32) {
      const int32_t count =
          list_spikes<uint8_t>(reinterpret_cast<const uint8_t*>(fired), x_.I, 0xff, lists_ + row_ * x_.I);
      if (threadIdx.x == 0) counts_[row_] = count;
    }
    __syncthreads();
    return {lists_ + row_ * x_.I, counts_[row_]};
  }

  // List of step t of presentation p; steps in order, beginning with 0.
  __device__ StepInputs next(int64_t p, int64_t t) {
    if (listed(x_)) return events(p, t);
    row_ = row_ + 1 == rows_ ? 0 : row_ + 1;
    if (t == 0) ready_ = 0;
    if (ready_ == 0) {
      ready_ = min(chunk_, x_.T - t);
      for (int64_t k = threadIdx.x / 32; k < ready_; k += blockDim.x / 32) {
        const int64_t row = (row_ + k) % rows_;
        const int32_t count = encode(p, t + k, lists_ + row * x_.I);
        if (threadIdx.x % 32 == 0) counts_[row] = count;
      }
      __syncthreads();
    }
    ready_--;
    return {lists_ + row_ * x_.I, counts_[row_]};
  }

 private:
  const Presentations& x_;
  const int64_t network_;
  int32_t *lists_, *counts_;
  int64_t chunk_, rows_, row_ = 0, ready_ = 0;

  static SNNFAST_HD bool listed(const Presentations& x) { return x.form == PresentationForm::events; }

  // Clamped: a step of events has each input at most once, whatever the caller passes.
  __device__ StepInputs events(int64_t p, int64_t t) const {
    const int64_t* offsets = x_.network(network_).offsets + p * (x_.T + 1) + t;
    const int64_t count = offsets[1] - offsets[0];
    return {x_.inputs + offsets[0], static_cast<int32_t>(count < 0 ? 0 : count < x_.I ? count : x_.I)};
  }

  __device__ int32_t encode(int64_t p, int64_t t, int32_t* out) const {
    const Presentations x = x_.network(network_);
    const int64_t row = p * x.presentation_stride + t * x.step_stride;
    if (x.form == PresentationForm::rates) return list_rates(x, p, t, out);
    switch (x.width) {
      case 1: return list_spikes<uint8_t>(static_cast<const uint8_t*>(x.spikes) + row, x.I, 0xff, out);
      case 4:
        return list_spikes<uint32_t>(static_cast<const uint32_t*>(x.spikes) + row, x.I, 0x7fffffffu,
                                     out);  // -0 is no spike
      default:
        return list_spikes<uint64_t>(static_cast<const uint64_t*>(x.spikes) + row, x.I, 0x7fffffffffffffffull, out);
    }
  }
};

}  // namespace
}  // namespace snnfast
