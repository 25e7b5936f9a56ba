// Recurrent neurons. At step t, neuron i of the H neurons of a sample receives x and sum_j weight_ij r_j[t]. r_j[t] are
// the spikes of neuron j that arrive at step t: s_j[t - 1], or with a delay d_j, interpolated linearly, (1 - f) s_j[t -
// 1 - l] + f s_j[t - 2 - l] with l = floor(d_j), f = d_j - l. The sum starts with x and is in order of j. Works with
// any neuron of neuron.h.
#pragma once
#include "arena.h"
#include "interrupt.h"
#include "neuron.h"

namespace snnfast {

// Sparse connections: the synapses of presynaptic neuron j with a delay of steps[k] are first[j * delays + k] to
// first[j * delays + k + 1], in order of their targets. A spike of step t arrives at step t + steps[k]. Target
// r * H + i is input r of neuron i.
struct Synapses {
  const int64_t* first;  // [H * delays + 1]; null: the connections are dense
  const int64_t* steps;  // [delays], rising, at least 1
  int64_t delays;
  const void* targets;  // [synapses] of int16_t, or of int32_t if wide
  bool wide;
  bool one_a_row;  // weight has one number for each presynaptic neuron, not for each synapse
  int64_t size;    // number of synapses

  SNNFAST_HD int64_t longest() const { return delays ? steps[delays - 1] : 1; }
  SNNFAST_HD int64_t count(int64_t H) const { return first[H * delays]; }
};

// Poisson input of sparse connections. Target n, input n / H of neuron n % H of all H neurons of the network, has the
// first run of targets that ends behind it. A run is a row of the table: its first target, the smallest number of
// arrivals in a step, and thresholds, each of which adds an arrival where the random word of the target reaches it.
// 2^32 and more are never reached.
struct Noise {
  const int64_t* table;  // [runs, width]; null: no noise
  int64_t runs, width;
  const void* weight;  // [targets] in C, of an arrival
  uint64_t seed;
  int64_t step;        // number of the first step in the sequence of random words
  const int64_t* key;  // on CUDA: these two

  SNNFAST_HD const int64_t* run(int64_t k) const { return table + k * width; }
  // Whether a run never has arrivals: its rate is 0.
  SNNFAST_HD bool silent(const int64_t* run) const {
    return run[1] == 0 && (width == 2 || run[2] > int64_t(UINT32_MAX));
  }
};

// Spikes as events, in order of their steps, samples and neurons; several spikes of a neuron in a step are several. A
// cache line of its own, since threads write to neighbouring lists.
struct alignas(64) EventList {
  int32_t* numbers;  // [room, 3]: step, sample and neuron
  int64_t count, room;
  bool whole;  // all spikes were whole numbers of at least 0
  void* owner;
  void (*grow)(EventList& list);  // makes room for more events
};

// The neurons of a call may be a part of a network: [first, first + H) of `senders` neurons, of which other processes
// compute the rest. After each `window` steps, at most the shortest delay, the parts exchange their spikes.
struct Part {
  int64_t senders, first, window;
  EventList* spikes;  // memory for the exchange; null: the neurons of the call are the whole network
  int64_t key;
  // Replaces the spikes of the call's neurons since the last exchange by those of the whole network, in order of their
  // steps, neurons and samples; at step t = 0 by those before the first step. False: the call ends.
  bool (*exchange)(int64_t key, int64_t first_sample, int64_t samples, int64_t t, EventList& spikes);
};

// Learning within a call, on the CPU: learn is called behind every step t, from the earliest whose spikes arrive in the
// call on, with the neurons that spiked, in order, and for each the bits of its samples. It may change the weights.
struct Learning {
  void* learner;  // null: nothing learns
  void (*learn)(void* learner, int64_t t, int64_t count, const int32_t* neurons, const uint16_t* samples);
};

struct Recurrence {
  int64_t H;           // neurons of a sample; neuron n of the call is neuron n % H of its sample
  int64_t inputs;      // of a neuron; several only with sparse connections
  const void* weight;  // [H, H] in C, weight[i * H + j]: from j to i; of sparse connections [synapses] or [H]
  Synapses synapses;   // then delay, to_post and to_pre are null
  Noise noise;
  Part part;          // of sparse connections
  Learning learning;  // the same, with samples of one group
  // [groups of samples + ranges of neurons]: the forward pass with sparse connections lists the spikes here. Null: it
  // writes them.
  EventList* events;
  const void* delay;  // [H] in C or null: all 0
  Rows past;          // [K, N] spikes of the K steps before the first; data is null if K is 0
  int64_t K;
  int64_t ring;         // steps for which spikes in flight are stored: a power of 2, at least the longest delay and 3
  const void* to_post;  // [H, padded(H)] in C, row j: weight_ij over i; zero-padded
  const void* to_pre;   // [H, padded(H)] in C, row i: weight_ij over j
  // In C, on CUDA: beyond kRecurrentThreads neurons [samples, recurrent_room(H)]; of sparse connections all inputs of a
  // step, [samples, inputs * H]
  void* room;
  // On the CPU: number of threads, and a loop over ranges of [0, n) that runs on them (cpu/parallel_for.h)
  int64_t threads;
  void (*parallel_for)(int64_t n, int64_t grain, const void* context,
                       void (*body)(const void* context, int64_t begin, int64_t end));
  Interrupt interrupt;
};

template <class Neuron>
struct RecurrentForward : NeuronForward<Neuron> {
  Recurrence recurrence;
  void* columns;  // [states, N] in C, on CUDA if the recurrence has `room`: the states
};

template <class Neuron>
struct RecurrentBackward : NeuronBackward<Neuron> {
  Recurrence recurrence;
  Rows spikes;         // [T, N] result of the forward pass
  void* grad_weight;   // [RecurrentParts::parts, H, padded(H)] in C, partial sums; rows as in to_post, if sparse weight
  void* grad_past;     // [K, N] in x's dtype, null if K is 0
  void* grad_delay;    // [N] in C or null: per neuron, summed over time
  void* grad_current;  // [T, samples, inputs, H] in C, on CUDA: dL/d(input of a step); grad_x is the same in x's dtype
  void* returned;      // [T, N] in C, on CUDA with delays: dL/d(arriving spikes); of sparse connections [N]: of a step
  void* columns;       // [recurrent_columns, N] in C, on CUDA: memory of each neuron
};

// threads of a CUDA block, which is one sample; up to this number of neurons, states are in registers
constexpr int64_t kRecurrentThreads = 512;

// Values that a CUDA block stores for a step: the arriving events (Events), and gradients of the inputs.
SNNFAST_HD int64_t recurrent_room(int64_t H) { return 3 * H + (H + 31) / 32 + 128; }

// Memory of a neuron on CUDA: its states, the gradients of states, parameters, arriving spikes and delay, and the tape
// between checkpoints.
constexpr int64_t recurrent_columns(int64_t states, int64_t params, int64_t tape_rows, int64_t steps) {
  return 2 * states + params + 2 + steps * tape_rows;
}

// Arguments of the kernel for the gradient of the weights on CUDA.
struct RecurrentWeightGradient {
  int64_t T, N;
  Recurrence recurrence;
  Rows spikes;
  const void* grad_current;
  void* parts;
};

// Number of samples that a CPU thread processes together, so that a loaded weight serves all of them: more samples
// where the weights are beyond the cache of a core, else more threads.
SNNFAST_HD constexpr int64_t recurrent_group(int64_t H, int64_t samples) { return H > 1024 && samples > 4 ? 16 : 4; }
constexpr int64_t kRecurrentParts = 16;  // maximum number of partial sums of the gradient of the weights
constexpr int64_t kSparseGroup = 16;     // the same for sparse connections: a loaded synapse serves more samples
constexpr int64_t kSparseParts = 4;      // and partial sums are as many numbers as synapses

// Groups of samples, and the parts whose sums they add to: independent of the number of threads, as is the order of all
// sums.
struct RecurrentParts {
  int64_t group, groups, groups_a_part, parts;
  SNNFAST_HD RecurrentParts(int64_t samples, int64_t H, bool sparse = false) {
    const int64_t most = sparse ? kSparseParts : kRecurrentParts;
    group = sparse ? kSparseGroup : recurrent_group(H, samples);
    groups = (samples + group - 1) / group;
    groups_a_part = (groups + most - 1) / most;
    parts = groups_a_part ? (groups + groups_a_part - 1) / groups_a_part : 0;
  }
};

// Number of weights: `dense` of dense connections.
SNNFAST_HD int64_t recurrent_weights(const Recurrence& r, int64_t dense) {
  if (!r.synapses.first) return dense;
  return r.synapses.one_a_row ? r.H : r.synapses.size;
}

// Length of a row of H numbers, rounded up to whole vectors of any processor.
SNNFAST_HD int64_t padded(int64_t H) { return (H + 15) / 16 * 16; }

namespace {

// Arrival of a neuron's spikes: `steps` steps late with weight `early`, and one more step late with weight `late`.
template <class C>
struct Lag {
  int64_t steps;
  C early, late;
  bool moves;  // whether the delay has a gradient
};

// A delay below 0 or NaN counts as 0; spikes with a delay of `most` steps or more never arrive.
template <class C>
SNNFAST_HD Lag<C> lag_of(C delay, int64_t most) {
  if (!(delay >= C(0))) return {0, C(1), C(0), false};
  if (!(delay < static_cast<C>(most))) return {0, C(0), C(0), false};
  const int64_t steps = static_cast<int64_t>(delay);
  const C late = delay - static_cast<C>(steps);
  return {steps, C(1) - late, late, true};
}

// Rows of a block that a CPU stores for a piece of a sample: states and their gradients, gradients of parameters, and
// coefficients.
template <class Neuron>
constexpr int64_t kRecurrentPieceRows = 2 * Neuron::kStates + Neuron::kParams + Neuron::kCoefficients;

// Memory of a CPU thread for the neurons of a group of samples.
template <class C>
struct SamplesMemory {
  C* pieces;        // [group, pieces of a sample, kRecurrentPieceRows, block]
  C* tape;          // [steps, group, pieces of a sample, kNeuronTapeRows, block]
  C* current;       // [group, padded], of all inputs
  C *spikes, *row;  // [group, padded]

  SamplesMemory(Arena& arena, int64_t samples, const Recurrence& r, int64_t piece_rows, int64_t tape_rows,
                int64_t steps) {
    const int64_t H = r.H;
    const int64_t blocks = samples * ((H + kNeuronBlock - 1) / kNeuronBlock) * kNeuronBlock;
    pieces = arena.take<C>(blocks * piece_rows);
    tape = arena.take<C>(steps * blocks * tape_rows);
    current = arena.take<C>(samples * padded(r.inputs * H));
    spikes = arena.take<C>(samples * padded(H));
    row = arena.take<C>(samples * padded(H));
  }
};

// The same with dense connections.
template <class C>
struct RecurrentMemory : SamplesMemory<C> {
  C* value;  // [lists + 1, group, padded + 16], with index and count: lists of arriving spikes, and a spare list
  int32_t *index, *count;
  // Of the segment of the backward pass: gradients of the inputs [steps, group, padded]; and its arriving spikes by
  // presynaptic neuron, of neuron j those from first[j] to first[j + 1]: value and row of inputs_back.
  C *inputs_back, *arrived;
  int32_t *arrived_in, *first;
  C* under_way;   // [ring, group, padded]: spikes in flight
  C* returned;    // [ring, group, padded]: gradients of arriving spikes; with delays [group, padded, ring + 16]
  C* grad_delay;  // [group, padded]
  Lag<C>* lags;   // [H]
  // Number of steps whose arriving spikes are listed together in the backward pass. With delays, a list depends on
  // `ring` earlier steps, so at least `ring` steps are listed together.
  int64_t group, lists, bytes;

  RecurrentMemory(char* memory, int64_t piece_rows, int64_t tape_rows, const Recurrence& r, int64_t samples,
                  int64_t steps, bool backward)
      : RecurrentMemory(Arena(memory), piece_rows, tape_rows, r, recurrent_group(r.H, samples), steps, backward) {}

 private:
  RecurrentMemory(Arena arena, int64_t piece_rows, int64_t tape_rows, const Recurrence& r, int64_t together,
                  int64_t steps, bool backward)
      : SamplesMemory<C>(arena, together, r, piece_rows, tape_rows, backward ? steps : 0),
        group(together),
        lists(backward && r.delay && steps ? (r.ring + steps - 1) / steps * steps : steps) {
    const int64_t H = r.H, ring = r.ring, wide = padded(H);
    value = arena.take<C>((lists + 1) * group * (wide + 16));
    index = arena.take<int32_t>((lists + 1) * group * (wide + 16));
    count = arena.take<int32_t>((lists + 1) * group);
    const int64_t inputs = backward ? steps * group : 0;
    inputs_back = arena.take<C>(inputs * wide);
    arrived = arena.take<C>(inputs * H);
    arrived_in = arena.take<int32_t>(inputs * H);
    first = arena.take<int32_t>(H + 2);
    under_way = arena.take<C>(ring * group * wide);
    returned = arena.take<C>(backward ? (r.delay ? ring + 16 : ring) * group * wide : 0);
    grad_delay = arena.take<C>(group * wide);
    lags = arena.take<Lag<C>>(H);
    bytes = arena.used();
  }
};

// Number of samples that run together with sparse connections, `samples` of them or fewer, rounded up to lanes.
constexpr int64_t sparse_lanes(int64_t samples) { return samples > 4 ? kSparseGroup : samples > 1 ? 4 : 1; }

// The same with sparse connections; arrays by neuron hold the samples of a neuron, the lanes, side by side.
template <class C>
struct SparseMemory : SamplesMemory<C> {
  int64_t ring;    // steps for which gradients of inputs are stored: a power of 2, at least the longest delay
  C* by_neuron;    // [padded, lanes]: all inputs, spikes, or gradients of spikes of a step
  C* inputs_back;  // [ring, padded, lanes]: gradients of all inputs
  int64_t bytes;

  SparseMemory(char* memory, int64_t piece_rows, int64_t tape_rows, const Recurrence& r, int64_t samples, int64_t steps,
               bool backward)
      : SparseMemory(Arena(memory), piece_rows, tape_rows, r, sparse_lanes(samples), backward ? steps : 0) {}

 private:
  SparseMemory(Arena arena, int64_t piece_rows, int64_t tape_rows, const Recurrence& r, int64_t lanes, int64_t steps)
      : SamplesMemory<C>(arena, lanes, r, piece_rows, tape_rows, steps), ring(1) {
    while (ring < r.synapses.longest()) ring *= 2;
    const int64_t wide = padded(r.inputs * r.H);
    by_neuron = arena.take<C>(wide * lanes);
    inputs_back = arena.take<C>(steps ? ring * wide * lanes : 0);
    bytes = arena.used();
  }
};

}  // namespace
}  // namespace snnfast
