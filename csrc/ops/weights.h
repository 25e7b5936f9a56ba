// Checks of weights that an operator changes in place, and of what goes with them.
#pragma once
#include <vector>

#include "ops/device.h"

namespace snnfast {

inline void check_like(const char* op, const char* name, const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape) {
  const auto sizes = t.sizes();
  SNNFAST_CHECK(std::vector<int64_t>(sizes.begin(), sizes.end()) == shape, op, ": ", name, " has a wrong shape");
  SNNFAST_CHECK(t.scalar_type() == type, op, ": ", name, " has a wrong dtype");
  SNNFAST_CHECK(t.is_cuda() == w.is_cuda() && t.get_device_index() == w.get_device_index(), op, ": ", name, " must be on the device of w");
}

// A matrix of contiguous rows, which may lie apart.
inline void check_weights(const char* op, const char* name, const Tensor& w) {
  SNNFAST_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, op, ": ", name, " must be float32 or float64");
  SNNFAST_CHECK(w.dim() == 2 && (w.stride(1) == 1 || w.size(1) <= 1) && (w.stride(0) >= w.size(1) || w.size(0) <= 1), op, ": ", name,
                " must have two dimensions and contiguous rows");
}

// A contiguous one.
inline void check_contiguous_weights(const char* op, const char* name, const Tensor& w) {
  check_weights(op, name, w);
  SNNFAST_CHECK(w.is_contiguous(), op, ": ", name, " must be contiguous");
}

// Whether two contiguous matrices share memory.
inline bool overlap(const Tensor& a, const Tensor& b) {
  const auto first = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.const_data_ptr()); };
  const auto end = [&](const Tensor& t) { return first(t) + static_cast<uintptr_t>(t.numel()) * static_cast<uintptr_t>(t.element_size()); };
  return a.numel() > 0 && b.numel() > 0 && first(a) < end(b) && first(b) < end(a);
}

}  // namespace snnfast
