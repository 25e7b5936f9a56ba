#include "core/sparse_linear.h"

#include <type_traits>

#include "cpu/rows.h"
#include "cpu/sparse_rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// Loads rows of `neurons` numbers into a tile of L lanes; lanes without a row are 0.
template <int L, class C>
void load(const SparseLinear& a, const void* data, int64_t neurons, int64_t tile, C* rows, C* to) {
  const int64_t width = padded(neurons), first = tile * kSparseGroup;
  const Rows from{data, a.dtype, neurons, 1};
  C* const start = L == 1 ? to : rows;
  for (int64_t r = 0; r < L; r++) {
    C* const row = start + r * width;
    const int64_t here = first + r < a.rows ? neurons : 0;
    const C* source = here ? read_row<C>(from, first + r, 0, here, row) : row;
    if (source != row) copy(row, source, here);
    for (int64_t i = here; i < width; i++) row[i] = C(0);
  }
  if constexpr (L > 1) by_neuron<L>(rows, width, to);
}

// Stores a tile as rows.
template <int L, class C>
void store(const SparseLinear& a, const C* tile_values, int64_t neurons, int64_t tile, C* rows, void* data) {
  const int64_t width = padded(neurons), first = tile * kSparseGroup;
  if constexpr (L > 1) by_sample<L>(tile_values, width, rows);
  const C* const from = L == 1 ? tile_values : rows;
  for (int64_t r = 0; r < min(a.rows - first, int64_t(L)); r++)
    flush_row(data, a.dtype, (first + r) * neurons, neurons, false, from + r * width);
}

template <int L, class C, class Index, bool OneARow>
void forward_tile(const SparseLinear& a, int64_t tile, const SparseLinearMemory<C>& memory) {
  const SparseRows<C, L, Index> synapses(a.synapses, a.weight);
  load<L>(a, a.x, a.inputs, tile, memory.rows, memory.in);
  for (int64_t i = 0; i < padded(a.outputs) * L; i++) memory.out[i] = C(0);
  each_event<L>(memory.in, 0, a.inputs, [&](int64_t j, uint32_t spiked, const C* values) {
    synapses.template row<OneARow>(j, 0).template deliver<OneARow>(spiked, values, memory.out, [] {});
  });
  store<L>(a, memory.out, a.outputs, tile, memory.rows, a.y);
}

// Replaces the inputs [begin, end) of a tile by their gradients, and adds to those of their weights.
template <int L, class C, class Index, bool OneARow>
void backward_tile(const SparseLinear& a, int64_t tile, int64_t begin, int64_t end) {
  const SparseRows<C, L, Index> synapses(a.synapses, a.weight);
  C* const in = static_cast<C*>(a.tiles_in) + tile * a.tile_size(a.inputs);
  const C* const out = static_cast<const C*>(a.tiles_out) + tile * a.tile_size(a.outputs);
  C* const grad_weight = static_cast<C*>(a.grad_weight);
  for (int64_t j = begin; j < end; j++) {
    C* const values = in + j * L;
    uint32_t spiked = 0;
    for (int l = 0; l < L; l++) spiked |= static_cast<uint32_t>(values[l] != 0) << l;
    const bool learns = grad_weight && spiked;
    const auto row = synapses.template row<OneARow>(j, 0);
    typename Lanes<C, L>::Type sum{};
    if constexpr (OneARow) {
      if (a.grad_x || learns) row.template gather<true>(out, sum);
      for (int l = 0; l < (learns ? L : 0); l++)
        if (spiked >> l & 1) grad_weight[j] += values[l] * lane<C, L>(sum, l);
      sum *= synapses.weight[j];
    } else if (learns && a.grad_x) {
      row.gather_and_learn(out, sum, values, spiked, grad_weight + synapses.begin(j, 0));
    } else if (learns) {
      row.learn(out, values, spiked, grad_weight + synapses.begin(j, 0));
    } else if (a.grad_x) {
      row.template gather<false>(out, sum);
    }
    Lanes<C, L>::at(values) = sum;
  }
}

// Calls run(number of lanes, a value of the type of the indices, whether a row has one weight), types of constants.
template <class Run>
void with_types(const SparseLinear& a, int64_t tile, const Run& run) {
  const auto with_lanes = [&](auto index, auto one_a_row) {
    switch (sparse_lanes(a.rows - tile * kSparseGroup)) {
      case 1: return run(std::integral_constant<int, 1>{}, index, one_a_row);
      case 4: return run(std::integral_constant<int, 4>{}, index, one_a_row);
      default: return run(std::integral_constant<int, kSparseGroup>{}, index, one_a_row);
    }
  };
  const auto with_index = [&](auto index) {
    a.synapses.one_a_row ? with_lanes(index, std::true_type{}) : with_lanes(index, std::false_type{});
  };
  a.synapses.wide ? with_index(int32_t{}) : with_index(int16_t{});
}

template <class C>
void forward(const SparseLinear& a, int64_t begin, int64_t end, char* scratch) {
  const SparseLinearMemory<C> memory(scratch, a);
  for (int64_t tile = begin; tile < end; tile++)
    with_types(a, tile, [&](auto lanes, auto index, auto one_a_row) {
      forward_tile<decltype(lanes)::value, C, decltype(index), decltype(one_a_row)::value>(a, tile, memory);
    });
}

template <class C>
void backward(const SparseLinear& a, int64_t begin, int64_t end) {
  const Synapses& s = a.synapses;
  C* const grad_weight = static_cast<C*>(a.grad_weight);
  for (int64_t k = s.one_a_row ? begin : s.first[begin]; grad_weight && k < (s.one_a_row ? end : s.first[end]); k++)
    grad_weight[k] = C(0);
  for (int64_t tile = 0; tile < a.tiles(); tile++)
    with_types(a, tile, [&](auto lanes, auto index, auto one_a_row) {
      backward_tile<decltype(lanes)::value, C, decltype(index), decltype(one_a_row)::value>(a, tile, begin, end);
    });
}

// Before the backward pass loads its tiles, after it stores the gradient of x.
template <bool Before, class C>
void convert(const SparseLinear& a, int64_t begin, int64_t end, char* scratch) {
  const SparseLinearMemory<C> memory(scratch, a);
  for (int64_t tile = begin; tile < end; tile++)
    with_types(a, tile, [&](auto lanes, auto, auto) {
      constexpr int L = decltype(lanes)::value;
      C* const in = static_cast<C*>(a.tiles_in) + tile * a.tile_size(a.inputs);
      if constexpr (Before) {
        load<L>(a, a.x, a.inputs, tile, memory.rows, in);
        load<L>(a, a.grad_y, a.outputs, tile, memory.rows,
                static_cast<C*>(a.tiles_out) + tile * a.tile_size(a.outputs));
      } else {
        store<L>(a, in, a.inputs, tile, memory.rows, a.grad_x);
      }
    });
}

}  // namespace

// Tiles [begin, end).
void sparse_linear_forward(const SparseLinear& a, int64_t begin, int64_t end, void* scratch) {
  char* const memory = static_cast<char*>(scratch);
  a.dtype == Dtype::f64 ? forward<double>(a, begin, end, memory) : forward<float>(a, begin, end, memory);
}
// Presynaptic neurons [begin, end).
void sparse_linear_backward(const SparseLinear& a, int64_t begin, int64_t end) {
  a.dtype == Dtype::f64 ? backward<double>(a, begin, end) : backward<float>(a, begin, end);
}
// Tiles [begin, end), before the backward pass and after it.
void sparse_linear_load(const SparseLinear& a, int64_t begin, int64_t end, void* scratch) {
  char* const memory = static_cast<char*>(scratch);
  a.dtype == Dtype::f64 ? convert<true, double>(a, begin, end, memory) : convert<true, float>(a, begin, end, memory);
}
void sparse_linear_store(const SparseLinear& a, int64_t begin, int64_t end, void* scratch) {
  char* const memory = static_cast<char*>(scratch);
  a.dtype == Dtype::f64 ? convert<false, double>(a, begin, end, memory) : convert<false, float>(a, begin, end, memory);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
