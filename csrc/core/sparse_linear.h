// A linear map through sparse connections: y[r, i] = the sum over the synapses e to i, in order of their presynaptic
// neurons and in their order, of weight[e] x[r, pre(e)]. An input of 0 adds nothing. kSparseGroup rows are a tile,
// whose rows are lanes: a loaded synapse serves all of them.
#pragma once
#include "recurrent.h"

namespace snnfast {

struct SparseLinear {
  int64_t rows, inputs, outputs;
  Dtype dtype;        // of x, y and their gradients; weights and sums are float64 for float64, else float32
  Synapses synapses;  // with a single delay, which does not matter
  const void* weight;
  const void* x;  // [rows, inputs]
  void* y;        // [rows, outputs]
  void* sums;     // [rows, outputs] in the dtype of the weights, on CUDA; y itself in that dtype

  // Backward pass; null: not wanted
  const void* grad_y;
  void *grad_x, *grad_weight;
  void *tiles_in, *tiles_out;  // [tiles, padded(inputs or outputs), lanes]: x, then its gradient; the gradient of y

  int64_t tiles() const { return (rows + kSparseGroup - 1) / kSparseGroup; }
  int64_t tile_size(int64_t neurons) const { return padded(neurons) * sparse_lanes(rows); }
};

namespace {

// Memory of a thread: rows of a tile, padded with zeros, and tiles of inputs and outputs.
template <class C>
struct SparseLinearMemory {
  C *rows, *in, *out;
  int64_t bytes;

  SparseLinearMemory(char* memory, const SparseLinear& a) : SparseLinearMemory(Arena(memory), a) {}

 private:
  SparseLinearMemory(Arena arena, const SparseLinear& a) {
    const int64_t in_size = a.tile_size(a.inputs), out_size = a.tile_size(a.outputs);
    rows = arena.take<C>(in_size > out_size ? in_size : out_size);
    in = arena.take<C>(in_size);
    out = arena.take<C>(out_size);
    bytes = arena.used();
  }
};

}  // namespace
}  // namespace snnfast
