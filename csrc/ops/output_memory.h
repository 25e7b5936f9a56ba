// Cached memory of large CPU outputs.
//
// The pages of a fresh allocation of many megabytes are not mapped: each first touch of a page is a fault, in which the
// kernel clears the page, and that takes several times as long as the scan that fills it. malloc returns such blocks to
// the system when they are freed, so a training loop pays again every step. Outputs from 1 MiB on therefore come from a
// small cache of blocks, on huge pages where the system has them. It holds at most `limit` bytes of free blocks. A
// block is cut for a smaller output, and free neighbours are merged, so outputs of all sizes share the memory.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include <torch/csrc/stable/tensor.h>

namespace snnfast::output_memory {

// A contiguous CPU tensor from the cache; nothing if it is small, the cache is off (limit 0), or this PyTorch cannot
// wrap foreign memory (before 2.11).
std::optional<torch::stable::Tensor> allocate(const std::vector<int64_t>& shape, torch::headeronly::ScalarType type);

struct Statistics {
  int64_t limit, cached, in_use;  // bytes
};
Statistics statistics();
void set_limit(int64_t bytes);
void release();  // returns all free blocks to the system

// Makes malloc keep all freed memory of the process from now on. False if malloc has no such setting.
bool keep_freed_memory();

}  // namespace snnfast::output_memory
