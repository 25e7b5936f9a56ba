// Edges of sparse connections, sorted for snnfast.connect. Integers alone, so compiled once, for every processor.
#pragma once
#include <cstdint>

namespace snnfast::cpu {

struct Edges {
  const int32_t *row, *target;  // [count], in [0, rows) and [0, n_post)
  int64_t count, rows, n_post;  // count: less than 2^31
  int64_t* first;               // [rows + 1]: where each row begins
  void* targets;                // [count] of int32_t if wide, else of int16_t
  bool wide;
  int32_t* order;  // [count]: index of the edge that became each synapse; null: not wanted
};

// Sorts edges by row, then by target; those of the same row and target stay in their order. Returns false, and writes
// no order, if they were in order.
bool sort_edges(const Edges& a);

}  // namespace snnfast::cpu
