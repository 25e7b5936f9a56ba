// What the operators (csrc/ops, which know PyTorch) hand to the scans over time (csrc/cpu, csrc/cuda, which do not).
#pragma once
#include <cstdint>

namespace snnfast {

enum class Dtype : int32_t { f32, f64, bf16, f16 };

enum class Reset : int32_t { hard, soft, none };  // none: a leaky readout, it never fires

// A sequence of rows, one per time step: element (t, n) stands at data[t * time_stride + n * inner_stride].
// inner_stride is 1, or 0 for a row that repeats one value; time_stride 0 repeats one row.
struct Rows {
  const void* data;
  Dtype dtype;
  int64_t time_stride, inner_stride;
};

// A parameter of neuron n: data[(n / inner) % count] in the compute type, or value for every neuron where data is null.
struct Param {
  const void* data;
  double value;
  int64_t count, inner;
};

constexpr int kMaxStates = 2;
constexpr int kMaxParams = 3;

// The compute type C is double for f64 and float for every other dtype. All state is in C.
struct NeuronScan {
  int64_t T, N;
  Rows x;                            // [T, N]
  const void* state_in[kMaxStates];  // [N], null: at rest
  const void* checkpoints;           // [(T - 1) / checkpoint_every, states, N]: the state before step k * checkpoint_every, k >= 1
  int64_t checkpoint_every;          // 0: none are kept
  Param param[kMaxParams];
  double gain;  // of the input, where the decay is a number
  double v_reset, v_rest;
  Reset reset;
  bool decay_input;  // gain = 1 - decay, else 1, where the decay is a tensor
};

struct NeuronForward : NeuronScan {
  void* spikes;                 // [T, N] in x's dtype, null for Reset::none
  void* state_out[kMaxStates];  // [N] or null
  void* v_seq;                  // [T, N] in C or null
  void* checkpoints_out;
};

struct NeuronBackward : NeuronScan {
  Rows grad_spikes, grad_v_seq;            // data is null where there is none
  const void* grad_state_out[kMaxStates];  // [N] or null
  int32_t surrogate;
  double alpha;
  bool detach_reset;
  void* grad_x;                     // [T, N] in x's dtype
  void* grad_state_in[kMaxStates];  // [N] or null
  void* grad_param[kMaxParams];     // [N] or null: per neuron, summed over time
};

}  // namespace snnfast
