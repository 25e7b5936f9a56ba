// Checks of weights that an operator changes in place, and of the tensors that go with them.
#pragma once
#include <vector>

#include "ops/device.h"

namespace snnfast {

inline void check_like(const char* op, const char* name, const Tensor& t, const Tensor& w, ScalarType type,
                       const std::vector<int64_t>& shape) {
  check_tensor(op, name, t, type, shape, "w", w);
}

// Matrix with contiguous rows, at any row stride.
inline void check_weights(const char* op, const char* name, const Tensor& w) {
  check_float32_or_float64(op, name, w);
  SNNFAST_CHECK(w.dim() == 2, op, ": ", name, " must have 2 dimensions, got shape ", shape_of(w));
  SNNFAST_CHECK((w.stride(1) == 1 || w.size(1) <= 1) && (w.stride(0) >= w.size(1) || w.size(0) <= 1), op, ": ", name,
                " must have contiguous rows, got strides [", w.stride(0), ", ", w.stride(1), "] for shape ",
                shape_of(w));
}

// Contiguous matrix.
inline void check_contiguous_weights(const char* op, const char* name, const Tensor& w) {
  check_weights(op, name, w);
  check_contiguous(op, name, w);
}

// Whether two contiguous matrices share memory.
inline bool overlap(const Tensor& a, const Tensor& b) {
  const auto first = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.const_data_ptr()); };
  const auto end = [&](const Tensor& t) {
    return first(t) + static_cast<uintptr_t>(t.numel()) * static_cast<uintptr_t>(t.element_size());
  };
  return a.numel() > 0 && b.numel() > 0 && first(a) < end(b) && first(b) < end(a);
}

}  // namespace snnfast
