// Conversion of rows in rare dtypes and layouts: declared in rows.h.
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

template <class C>
void fill(C* row, int64_t m, C value) {
  for (int64_t i = 0; i < m; i++) row[i] = value;
}

// In runs: of neurons that share a value, or of contiguous values.
template <class C>
void read_runs(const Param& p, int64_t n0, int64_t m, int64_t lines, C* row) {
  if (!p.data || p.count == 1) return fill(row, lines, param_of_neuron<C>(p, 0));
  const C* values = static_cast<const C*>(p.data);
  int64_t k = n0 / p.inner % p.count, within = n0 % p.inner;
  for (int64_t i = 0; i < m;) {
    const int64_t run = p.inner == 1 ? min(p.count - k, m - i) : min(p.inner - within, m - i);
    p.inner == 1 ? copy(row + i, values + k, run) : fill(row + i, run, values[k]);
    i += run, k += p.inner == 1 ? run : 1, within = 0;
    if (k == p.count) k = 0;
  }
  fill(row + m, lines - m, row[m - 1]);
}

}  // namespace

void read_param(const Param& p, int64_t n0, int64_t m, int64_t lines, float* row) { read_runs(p, n0, m, lines, row); }
void read_param(const Param& p, int64_t n0, int64_t m, int64_t lines, double* row) { read_runs(p, n0, m, lines, row); }
const float* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, float* buffer) {
  return read_converted(rows, t, n0, m, buffer);
}
const double* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, double* buffer) {
  return read_converted(rows, t, n0, m, buffer);
}
void flush_half(void* out, int64_t m, const float* buffer) { convert_out(buffer, m, static_cast<Half*>(out)); }

}  // namespace snnfast::cpu::SNNFAST_ISA
