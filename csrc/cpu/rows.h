// Rows of a sequence, converted to and from the compute type C a block at a time.
#pragma once
#include "core/half.h"
#include "core/neuron.h"

namespace snnfast::cpu {
namespace {

template <class C, class T>
inline void convert_in(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* out) {
  const T* row = static_cast<const T*>(rows.data) + t * rows.time_stride + n0 * rows.inner_stride;
  if (rows.inner_stride) {
#pragma omp simd
    for (int64_t i = 0; i < m; i++) out[i] = load_as<C>(row[i]);
  } else {
    const C value = load_as<C>(*row);
    for (int64_t i = 0; i < m; i++) out[i] = value;
  }
}

template <class C>
constexpr Dtype native() {
  return sizeof(C) == 8 ? Dtype::f64 : Dtype::f32;
}

// Row t of neurons [n0, n0 + m) in C: in place where it lies so, else in buffer.
template <class C>
inline const C* read_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* buffer) {
  if (rows.dtype == native<C>() && rows.inner_stride) return static_cast<const C*>(rows.data) + t * rows.time_stride + n0;
  switch (rows.dtype) {
    case Dtype::f32: convert_in<C, float>(rows, t, n0, m, buffer); break;
    case Dtype::f64: convert_in<C, double>(rows, t, n0, m, buffer); break;
    case Dtype::bf16: convert_in<C, BFloat16>(rows, t, n0, m, buffer); break;
    case Dtype::f16: convert_in<C, Half>(rows, t, n0, m, buffer); break;
  }
  return buffer;
}

// Where to compute row t of a contiguous [T, N] output: in place, or in buffer for flush_row to convert.
template <class C>
inline C* output_row(void* data, Dtype dtype, int64_t offset, C* buffer) {
  return dtype == native<C>() ? static_cast<C*>(data) + offset : buffer;
}

template <class C>
inline void flush_row(void* data, Dtype dtype, int64_t offset, int64_t m, const C* buffer) {
  if (dtype == Dtype::bf16) {
    BFloat16* out = static_cast<BFloat16*>(data) + offset;
#pragma omp simd
    for (int64_t i = 0; i < m; i++) out[i] = Store<BFloat16>::from(static_cast<float>(buffer[i]));
  } else if (dtype == Dtype::f16) {
    Half* out = static_cast<Half*>(data) + offset;
#pragma omp simd
    for (int64_t i = 0; i < m; i++) out[i] = Store<Half>::from(static_cast<float>(buffer[i]));
  }
}

template <class C>
inline void copy(C* to, const C* from, int64_t m) {
  for (int64_t i = 0; i < m; i++) to[i] = from[i];
}

}  // namespace
}  // namespace snnfast::cpu
