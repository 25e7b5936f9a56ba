// Shared part of the recurrent layers on the CPU: the loop over time, packing of the weights, and the sum of their
// gradients.
#include <algorithm>

#include "core/any_neuron.h"
#include "cpu/recurrent_loop.h"
#include "cpu/sparse_connections.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kTile = 16;  // rows and columns transposed at a time, those of a cache line

template <class C>
void pack(const C* weight, int64_t H, C* to_post, C* to_pre) {
  const int64_t width = padded(H);
  for (int64_t i = 0; i < H; i++)
    for (int64_t j = 0; j < width; j++) to_pre[i * width + j] = j < H ? weight[i * H + j] : C(0);
  for (int64_t j0 = 0; j0 < H; j0 += kTile)
    for (int64_t i0 = 0; i0 < width; i0 += kTile)
      for (int64_t j = j0; j < min(j0 + kTile, H); j++)
        for (int64_t i = i0; i < i0 + kTile; i++) to_post[j * width + i] = i < H ? weight[i * H + j] : C(0);
}

template <class C>
void add_parts(C* parts, int64_t count, int64_t size) {
  for (int64_t part = 1; part < count; part++)
    for (int64_t k = 0; k < size; k++) parts[k] += parts[part * size + k];
}

template <class C>
void sum(C* parts, int64_t count, int64_t H, C* grad_weight) {
  const int64_t width = padded(H);
  add_parts(parts, count, H * width);
  for (int64_t i0 = 0; i0 < H; i0 += kTile)
    for (int64_t j0 = 0; j0 < H; j0 += kTile)
      for (int64_t i = i0; i < min(i0 + kTile, H); i++)
        for (int64_t j = j0; j < min(j0 + kTile, H); j++) grad_weight[i * H + j] = count ? parts[j * width + i] : C(0);
}

template <class C>
void groups(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, int64_t begin, int64_t end,
            char* scratch) {
  const Recurrence& r = a.recurrence;
  if (r.synapses.first) {
    const SparseMemory<C> memory(scratch, neuron.piece_rows, neuron.tape_rows, r, a.N / r.H, 1, false);
    const int64_t parts = a.T > 0 ? sparse_parts(a) : 1;
    if (parts > 1)
      return r.synapses.wide ? forward_in_parts<C, int32_t>(a, neuron, memory, parts)
                             : forward_in_parts<C, int16_t>(a, neuron, memory, parts);
    for (int64_t group = begin; group < end; group++)
      with_sparse_group(a, neuron, memory, group, 1, [&](auto& sparse) { forward_group(a, neuron, sparse); });
  } else {
    const RecurrentMemory<C> memory(scratch, neuron.piece_rows, neuron.tape_rows, r, a.N / r.H, 1, false);
    for (int64_t group = begin; group < end; group++) forward_group(a, neuron, Group<C>(a, neuron, memory, group));
  }
  stream_done();
}

template <class C>
void parts_of_groups(const RecurrentBackwardScan& a, const RecurrentNeuron<C>& neuron, int64_t begin, int64_t end,
                     char* scratch) {
  const Recurrence& r = a.recurrence;
  const bool sparse = r.synapses.first;
  const int64_t H = r.H, steps = min(a.T, a.checkpoint_every), size = recurrent_weights(r, H * padded(H));
  const RecurrentMemory<C> memory(scratch, neuron.piece_rows, neuron.tape_rows, r, a.N / H, steps, true);
  const SparseMemory<C> sparse_memory(scratch, neuron.piece_rows, neuron.tape_rows, r, a.N / H, steps, true);
  const RecurrentParts parts(a.N / H, H, sparse);
  for (int64_t part = begin; part < end; part++) {
    C* grad_weight = static_cast<C*>(a.grad_weight) + part * size;
    for (int64_t i = 0; i < size; i++) grad_weight[i] = C(0);
    const int64_t first = part * parts.groups_a_part, remaining = parts.groups - first;
    for (int64_t group = first; group < first + min(remaining, parts.groups_a_part); group++)
      if (sparse)
        with_sparse_group(a, neuron, sparse_memory, group, steps,
                          [&](auto& connected) { backward_group(a, neuron, connected, grad_weight); });
      else
        backward_group(a, neuron, Group<C>(a, neuron, memory, group), grad_weight);
  }
  stream_done();
}

}  // namespace

void recurrent_groups(const RecurrentForwardScan& a, const RecurrentNeuron<float>& neuron, int64_t begin, int64_t end,
                      char* scratch) {
  groups(a, neuron, begin, end, scratch);
}
void recurrent_groups(const RecurrentForwardScan& a, const RecurrentNeuron<double>& neuron, int64_t begin, int64_t end,
                      char* scratch) {
  groups(a, neuron, begin, end, scratch);
}
void recurrent_parts(const RecurrentBackwardScan& a, const RecurrentNeuron<float>& neuron, int64_t begin, int64_t end,
                     char* scratch) {
  parts_of_groups(a, neuron, begin, end, scratch);
}
void recurrent_parts(const RecurrentBackwardScan& a, const RecurrentNeuron<double>& neuron, int64_t begin, int64_t end,
                     char* scratch) {
  parts_of_groups(a, neuron, begin, end, scratch);
}

// Neuron that is compiled at run time; `neuron` is a RecurrentNeuron of its dtype.
void own_recurrent_forward(const RecurrentForward<AnyNeuron>& a, const void* neuron, int64_t begin, int64_t end,
                           void* scratch) {
  const auto run = [&](auto compiled) {
    compiled.scan = static_cast<const NeuronScan<AnyNeuron>*>(&a);
    groups(forward_scan(a), compiled, begin, end, static_cast<char*>(scratch));
  };
  a.x.dtype == Dtype::f64 ? run(*static_cast<const RecurrentNeuron<double>*>(neuron))
                          : run(*static_cast<const RecurrentNeuron<float>*>(neuron));
}
void own_recurrent_backward(const RecurrentBackward<AnyNeuron>& a, const void* neuron, int64_t begin, int64_t end,
                            void* scratch) {
  const auto run = [&](auto compiled) {
    compiled.scan = static_cast<const NeuronScan<AnyNeuron>*>(&a);
    parts_of_groups(backward_scan(a), compiled, begin, end, static_cast<char*>(scratch));
  };
  a.x.dtype == Dtype::f64 ? run(*static_cast<const RecurrentNeuron<double>*>(neuron))
                          : run(*static_cast<const RecurrentNeuron<float>*>(neuron));
}

void recurrent_pack(const Recurrence& r, bool is_double, void* to_post, void* to_pre) {
  if (is_double)
    pack(static_cast<const double*>(r.weight), r.H, static_cast<double*>(to_post), static_cast<double*>(to_pre));
  else
    pack(static_cast<const float*>(r.weight), r.H, static_cast<float*>(to_post), static_cast<float*>(to_pre));
}

void recurrent_sum(void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight) {
  if (is_double)
    sum(static_cast<double*>(parts), count, H, static_cast<double*>(grad_weight));
  else
    sum(static_cast<float*>(parts), count, H, static_cast<float*>(grad_weight));
}

// Adds the partial sums of the gradient of sparse weights to the first.
void recurrent_sum_sparse(void* parts, int64_t count, int64_t size, bool is_double) {
  is_double ? add_parts(static_cast<double*>(parts), count, size) : add_parts(static_cast<float*>(parts), count, size);
}

// Whether the synapses are rows of [0, count) with targets in [0, targets) and rising delays of at least a step.
void sparse_fits(const Synapses& s, int64_t H, int64_t targets, int64_t count, bool* fits) {
  bool all = s.first[0] == 0 && s.first[H * s.delays] == count && s.delays > 0 && s.steps[0] >= 1;
  for (int64_t k = 1; k < s.delays; k++) all = all && s.steps[k] > s.steps[k - 1];
  for (int64_t k = 0; k < H * s.delays; k++) all = all && s.first[k] <= s.first[k + 1];
  // Negative numbers are large as unsigned ones.
  const auto most = [&](const auto* all_targets) {
    auto found = all_targets[0];
    for (int64_t e = 1; e < count; e++) found = std::max(found, all_targets[e]);
    return static_cast<int64_t>(found);
  };
  *fits = all && (count == 0 || (s.wide ? most(static_cast<const uint32_t*>(s.targets))
                                        : most(static_cast<const uint16_t*>(s.targets))) < targets);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
