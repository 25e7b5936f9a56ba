// Neurons whose spikes come back to them. The neurons of a sample, H of them, get at step t what x brings and
// sum_j weight_ij r_j[t], where r_j[t] is what arrives then of neuron j's spikes: those of the step before, s_j[t - 1],
// or with a delay d_j, linear between two steps, (1 - f) s_j[t - 1 - l] + f s_j[t - 2 - l] with l = floor(d_j), f = d_j
// - l. The sum begins with x and goes by j. Any neuron of neuron.h; this knows nothing of its maths.
#pragma once
#include "arena.h"
#include "neuron.h"

namespace snnfast {

struct Recurrence {
  int64_t H;           // neurons of a sample; neuron n of all is n % H of its sample
  const void* weight;  // [H, H] in C, weight[i * H + j] from j to i
  const void* delay;   // [H] in C or null: all 0
  Rows past;           // [K, N] spikes of the K steps before the first; data is null where K is 0
  int64_t K;
  int64_t ring;         // steps that spikes under way are kept: a power of 2, the longest delay and 3 at least
  const void* to_post;  // [H, padded(H)] in C, row j: weight_ij over i; with 0 behind
  const void* to_pre;   // [H, padded(H)] in C, row i: weight_ij over j
  void* room;           // [samples, recurrent_room(H)] in C, on CUDA beyond kRecurrentThreads neurons
};

template <class Neuron>
struct RecurrentForward : NeuronForward<Neuron> {
  Recurrence recurrence;
  void* columns;  // [states, N] in C, on CUDA beyond kRecurrentThreads neurons: the states
};

template <class Neuron>
struct RecurrentBackward : NeuronBackward<Neuron> {
  Recurrence recurrence;
  Rows spikes;         // [T, N] that the forward pass gave
  void* grad_weight;   // [RecurrentParts::parts, H, padded(H)] in C, to be added: rows as those of to_post
  void* grad_past;     // [K, N] in x's dtype, null where K is 0
  void* grad_delay;    // [N] in C or null: per neuron, summed over time
  void* grad_current;  // [T, N] in C, on CUDA: dL/d(input of a step), which grad_x is in its dtype
  void* returned;      // [T, N] in C, on CUDA with delays: dL/d(what arrives)
  void* columns;       // [recurrent_columns, N] in C, on CUDA: what a neuron keeps
};

// of a CUDA block, which is one sample; up to so many neurons keep their states in registers
constexpr int64_t kRecurrentThreads = 512;

// Numbers that a CUDA block needs at a step: the events that arrive (Events), and gradients of the inputs.
SNNFAST_HD int64_t recurrent_room(int64_t H) { return 3 * H + (H + 31) / 32 + 128; }

// Memory of a neuron on CUDA: its states, their gradients and those of parameters, of what arrived and of
// the delay, and the tape between checkpoints.
constexpr int64_t recurrent_columns(int64_t states, int64_t params, int64_t tape_rows, int64_t steps) {
  return 2 * states + params + 2 + steps * tape_rows;
}

// Inputs of the gradient of the weights on CUDA.
struct RecurrentWeightGradient {
  int64_t T, N;
  Recurrence recurrence;
  Rows spikes;
  const void* grad_current;
  void* parts;
};

// samples that a CPU takes side by side, so that a weight that is read serves them all
constexpr int64_t kRecurrentGroup = 4;
constexpr int64_t kRecurrentParts = 16;  // partial sums of the gradient of the weights, at most

// Groups of samples, and the parts that they are taken in: the same for any number of threads, as is the order of all
// sums.
struct RecurrentParts {
  int64_t groups, groups_a_part, parts;
  SNNFAST_HD explicit RecurrentParts(int64_t samples)
      : groups((samples + kRecurrentGroup - 1) / kRecurrentGroup),
        groups_a_part((groups + kRecurrentParts - 1) / kRecurrentParts),
        parts(groups_a_part ? (groups + groups_a_part - 1) / groups_a_part : 0) {}
};

// A row of H numbers that ends with whole vectors of any processor.
SNNFAST_HD int64_t padded(int64_t H) { return (H + 15) / 16 * 16; }

namespace {

// How spikes of a neuron arrive: `steps` after the one that all take, with the weights early, and late a step after.
template <class C>
struct Lag {
  int64_t steps;
  C early, late;
  bool moves;  // whether the delay has a gradient
};

// A delay below 0, or NaN, is 0; spikes that would take `most` steps never arrive.
template <class C>
SNNFAST_HD Lag<C> lag_of(C delay, int64_t most) {
  if (!(delay >= C(0))) return {0, C(1), C(0), false};
  if (!(delay < static_cast<C>(most))) return {0, C(0), C(0), false};
  const int64_t steps = static_cast<int64_t>(delay);
  const C late = delay - static_cast<C>(steps);
  return {steps, C(1) - late, late, true};
}

// Rows of a block that a CPU keeps of a piece of a sample: states and their gradients, those of parameters, and
// coefficients.
template <class Neuron>
constexpr int64_t kRecurrentPieceRows = 2 * Neuron::kStates + Neuron::kParams + Neuron::kCoefficients;

// Memory of a CPU thread for one group of samples.
template <class C>
struct RecurrentMemory {
  C* pieces;  // [group, pieces of a sample, kRecurrentPieceRows, block]
  C* tape;    // [steps, group, pieces of a sample, kNeuronTapeRows, block]
  C* value;   // [lists + 1, group, padded + 16], with index and count: what arrives, and a spare list
  int32_t *index, *count;
  C *current, *spikes, *row;  // [group, padded]
  C* under_way;               // [ring, group, padded]: spikes
  C* returned;    // [ring, group, padded]: gradients of what arrived; with delays [group, padded, ring + 16]
  C* grad_delay;  // [group, padded]
  Lag<C>* lags;   // [H]
  // Of how many steps what arrives is known, in the backward pass. With delays that takes as many steps before, so it
  // is done for as many at a time.
  int64_t lists, bytes;

  RecurrentMemory(char* memory, int64_t piece_rows, int64_t tape_rows, const Recurrence& r, int64_t steps,
                  bool backward)
      : lists(backward && r.delay && steps ? (r.ring + steps - 1) / steps * steps : steps) {
    Arena arena(memory);
    const int64_t H = r.H, ring = r.ring, wide = padded(H), samples = kRecurrentGroup;
    const int64_t blocks = samples * ((H + kNeuronBlock - 1) / kNeuronBlock) * kNeuronBlock;
    pieces = arena.take<C>(blocks * piece_rows);
    tape = arena.take<C>(backward ? steps * blocks * tape_rows : 0);
    value = arena.take<C>((lists + 1) * samples * (wide + 16));
    index = arena.take<int32_t>((lists + 1) * samples * (wide + 16));
    count = arena.take<int32_t>((lists + 1) * samples);
    current = arena.take<C>(samples * wide);
    spikes = arena.take<C>(samples * wide);
    row = arena.take<C>(samples * wide);
    under_way = arena.take<C>(ring * samples * wide);
    returned = arena.take<C>(backward ? (r.delay ? ring + 16 : ring) * samples * wide : 0);
    grad_delay = arena.take<C>(samples * wide);
    lags = arena.take<Lag<C>>(H);
    bytes = arena.used();
  }
};

}  // namespace
}  // namespace snnfast
