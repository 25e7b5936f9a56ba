// Rows that are seldom read or written, converted: declared in rows.h.
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class C, class T>
inline void convert_rare(const Rows& rows, const T* row, int64_t m, C* out) {
  if (rows.inner_stride) return convert_in(row, m, out);
  const C value = load_as<C>(*row);
  for (int64_t i = 0; i < m; i++) out[i] = value;
}

template <class C>
const C* read_converted(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* buffer) {
  switch (rows.dtype) {
    case Dtype::f32: convert_rare(rows, row_at<float>(rows, t, n0), m, buffer); break;
    case Dtype::f64: convert_rare(rows, row_at<double>(rows, t, n0), m, buffer); break;
    case Dtype::bf16: convert_rare(rows, row_at<BFloat16>(rows, t, n0), m, buffer); break;
    case Dtype::f16: convert_rare(rows, row_at<Half>(rows, t, n0), m, buffer); break;
  }
  return buffer;
}

}  // namespace

const float* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, float* buffer) { return read_converted(rows, t, n0, m, buffer); }
const double* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, double* buffer) { return read_converted(rows, t, n0, m, buffer); }
void flush_half(void* out, int64_t m, const float* buffer) { convert_out(buffer, m, static_cast<Half*>(out)); }

}  // namespace snnfast::cpu::SNNFAST_ISA
