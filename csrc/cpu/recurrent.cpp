// Shared part of the recurrent layers on the CPU: the loop over time, packing of the weights, and the sum of their
// gradients.
#include "core/any_neuron.h"
#include "cpu/recurrent_loop.h"

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
void sum(C* parts, int64_t count, int64_t H, C* grad_weight) {
  const int64_t width = padded(H), size = H * width;
  for (int64_t part = 1; part < count; part++)
    for (int64_t k = 0; k < size; k++) parts[k] += parts[part * size + k];
  for (int64_t i0 = 0; i0 < H; i0 += kTile)
    for (int64_t j0 = 0; j0 < H; j0 += kTile)
      for (int64_t i = i0; i < min(i0 + kTile, H); i++)
        for (int64_t j = j0; j < min(j0 + kTile, H); j++) grad_weight[i * H + j] = count ? parts[j * width + i] : C(0);
}

template <class C>
void groups(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, int64_t begin, int64_t end,
            char* scratch) {
  const RecurrentMemory<C> memory(scratch, neuron.piece_rows, neuron.tape_rows, a.recurrence, 1, false);
  for (int64_t group = begin; group < end; group++) forward_group(a, neuron, group, memory);
  stream_done();
}

template <class C>
void parts_of_groups(const RecurrentBackwardScan& a, const RecurrentNeuron<C>& neuron, int64_t begin, int64_t end,
                     char* scratch) {
  const int64_t H = a.recurrence.H, size = H * padded(H), steps = min(a.T, a.checkpoint_every);
  const RecurrentMemory<C> memory(scratch, neuron.piece_rows, neuron.tape_rows, a.recurrence, steps, true);
  const RecurrentParts parts(a.N / H);
  for (int64_t part = begin; part < end; part++) {
    C* grad_weight = static_cast<C*>(a.grad_weight) + part * size;
    for (int64_t i = 0; i < size; i++) grad_weight[i] = C(0);
    const int64_t first = part * parts.groups_a_part, remaining = parts.groups - first;
    for (int64_t group = first; group < first + min(remaining, parts.groups_a_part); group++)
      backward_group(a, neuron, group, memory, grad_weight);
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

}  // namespace snnfast::cpu::SNNFAST_ISA
