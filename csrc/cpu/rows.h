// Rows of a sequence, converted to and from the compute type C a block at a time.
#pragma once
#include "core/half.h"
#include "core/neuron.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace snnfast::cpu::SNNFAST_ISA {

// Converts row t of neurons [n0, n0 + m) to buffer, which is returned: rows that repeat one value, or in another dtype
// than that of buffer and bfloat16. Compiled once (rows.cpp), not wherever a row is read.
const float* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, float* buffer);
const double* read_rare_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, double* buffer);
void flush_half(void* out, int64_t m, const float* buffer);
// Parameter of neurons [n0, n0 + m); the last value is repeated up to `lines`.
void read_param(const Param& p, int64_t n0, int64_t m, int64_t lines, float* row);
void read_param(const Param& p, int64_t n0, int64_t m, int64_t lines, double* row);

}  // namespace snnfast::cpu::SNNFAST_ISA

namespace snnfast::cpu {
namespace {

template <class C, class T>
inline void convert_in(const T* row, int64_t m, C* out) {
#pragma omp simd
  for (int64_t i = 0; i < m; i++) out[i] = load_as<C>(row[i]);
}

template <class C>
constexpr Dtype native() {
  return sizeof(C) == 8 ? Dtype::f64 : Dtype::f32;
}

template <class C>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(C));  // elements of a cache line

template <class T>
inline const T* row_at(const Rows& rows, int64_t t, int64_t n0) {
  return static_cast<const T*>(rows.data) + t * rows.time_stride + n0 * rows.inner_stride;
}

// Row t of neurons [n0, n0 + m) in C: in place if possible, else in buffer.
template <class C>
inline const C* read_row(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* buffer) {
  if (rows.inner_stride) {
    if (rows.dtype == native<C>()) return row_at<C>(rows, t, n0);
    if constexpr (native<C>() == Dtype::f32) {
      if (rows.dtype == Dtype::bf16) return convert_in(row_at<BFloat16>(rows, t, n0), m, buffer), buffer;
    }
  }
  return SNNFAST_ISA::read_rare_row(rows, t, n0, m, buffer);
}

// The same, readable to the end of its last line.
template <class C>
inline const C* read_lines(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* buffer) {
  const C* row = read_row(rows, t, n0, m, buffer);
  if (row == buffer || m % kLine<C> == 0) return row;
  for (int64_t i = 0; i < m; i++) buffer[i] = row[i];
  return buffer;
}

inline int64_t bytes_of(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }

inline const char* address(const Rows& rows, int64_t t, int64_t n0) {
  return static_cast<const char*>(rows.data) + (t * rows.time_stride + n0 * rows.inner_stride) * bytes_of(rows.dtype);
}

// The rows of a block are far apart, so the hardware does not prefetch the next one. Prefetching a row that does not
// exist costs only the instruction. Cache: 3 for L1, 2 for L2.
constexpr int64_t kAhead = 2;
template <int Cache = 3>
inline void prefetch_row(const Rows& rows, int64_t t, int64_t n0, int64_t m) {
  if (!rows.data) return;
  const char* row = address(rows, t, n0);
  const int64_t end = rows.inner_stride ? m * bytes_of(rows.dtype) : 1;
  for (int64_t i = 0; i < end; i += 64) __builtin_prefetch(row + i, 0, Cache);
  __builtin_prefetch(row + end - 1, 0, Cache);  // for rows that begin within a line
}

enum class Order { forward, backward };  // of the steps of a segment

// Prefetches the rows that a scan reads later, one per step, into L2, for tensors larger than the caches: the
// prefetches into L1 above come too late for memory, and L1 allows too few outstanding misses (on Zen 4 they read rows
// at 14 GB/s, these at 19). The scan processes one block of neurons after the other, each through T steps in segments
// of K, the last segment first.
class RowsAhead {
 public:
  // Not inline: called once per kernel call, from many kernels.
  __attribute__((noinline)) RowsAhead(const Rows& rows, int64_t T, int64_t K, int64_t begin, int64_t end, int64_t block,
                                      Order order, bool wanted)
      : rows_(rows),
        wanted_(wanted && T),
        K_(K),
        last_(T ? (T - 1) / K * K : 0),
        rest_(T - last_),
        end_(end),
        block_(block),
        order_(order),
        n0_(begin),
        t0_(last_),
        length_(rest_) {
    for (int64_t k = 0; k < kDistance && wanted_; k++) next();
  }

  void fetch() {
    if (!wanted_) return;
    const int64_t remaining = end_ - n0_;
    if (remaining > 0)
      prefetch_row<2>(rows_, t0_ + (order_ == Order::forward ? j_ : length_ - 1 - j_), n0_, min(remaining, block_));
    next();
  }

  // The same for rows of a fixed number of lines.
  template <int Lines>
  inline void fetch_lines() {
    if (!wanted_) return;
    if (n0_ < end_ && rows_.data) {
      const char* row = address(rows_, t0_ + (order_ == Order::forward ? j_ : length_ - 1 - j_), n0_);
      SNNFAST_UNROLL
      for (int l = 0; l < Lines; l++) __builtin_prefetch(row + 64 * l, 0, 2);
      __builtin_prefetch(row + 64 * Lines - 1, 0, 2);
    }
    next();
  }

 private:
  static constexpr int64_t kDistance = 16;  // rows; the scan reads as many in about 400 ns

  const Rows& rows_;
  const bool wanted_;
  const int64_t K_, last_, rest_, end_, block_;
  const Order order_;
  int64_t n0_, t0_, length_, j_ = 0;  // the next row to fetch is row j_, in reading order, of the segment from t0_

  void next() {
    if (++j_ < length_) return;
    j_ = 0;
    n0_ += t0_ ? 0 : block_;
    t0_ = t0_ ? t0_ - K_ : last_;
    length_ = t0_ == last_ ? rest_ : K_;
  }
};

// Outputs of this size or larger bypass the caches: a normal store first reads the line that it overwrites. Measured
// with the next reader included: the same at 4 MiB, better above, worse at 2 MiB, which a cache still holds.
constexpr int64_t kStreamBytes = int64_t{4} << 20;

template <class C>
inline bool streams(int64_t T, int64_t N) {
  return T * N * static_cast<int64_t>(sizeof(C)) >= kStreamBytes;
}

// Rows of larger tensors come from memory. Measured with an L3 of 32 MiB: RowsAhead costs time at 6 MiB, none at 8, and
// saves some at 12.
template <class C>
inline bool beyond_caches(int64_t T, int64_t N) {
  return T * N * static_cast<int64_t>(sizeof(C)) > 2 * kStreamBytes;
}

#if defined(__x86_64__)
#if defined(__AVX512F__)
constexpr int64_t kStreamLine = 64;
inline void stream_line(void* to, const void* from) {
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
}
#elif defined(__AVX__)
constexpr int64_t kStreamLine = 32;
inline void stream_line(void* to, const void* from) {
  _mm256_stream_si256(static_cast<__m256i*>(to), _mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
#else
constexpr int64_t kStreamLine = 16;
inline void stream_line(void* to, const void* from) {
  _mm_stream_si128(static_cast<__m128i*>(to), _mm_loadu_si128(static_cast<const __m128i*>(from)));
}
#endif
inline void stream_done() { _mm_sfence(); }  // before another thread reads the lines
#else
constexpr int64_t kStreamLine = 0;
inline void stream_line(void*, const void*) {}
inline void stream_done() {}
#endif

// Whether an output row that begins at `row` bypasses the caches.
inline bool writes_past(const void* row, bool streaming) {
  return kStreamLine && streaming && reinterpret_cast<uintptr_t>(row) % 64 == 0;
}

// Writes a line past the caches.
template <class C>
inline __attribute__((always_inline)) void stream_whole(C* to, const C* line) {
  for (int64_t i = 0; i < 64; i += kStreamLine ? kStreamLine : 64)
    stream_line(to + i / sizeof(C), line + i / sizeof(C));
}

// Writes a line that was just computed. Inlined, it stores from the register: a line that went through a buffer would
// be stored twice, and such loops are bound by stores.
template <class C>
inline __attribute__((always_inline)) void write_line(C* to, const C* line, bool past) {
  if (__builtin_expect(kStreamLine && past, 0))
    stream_whole(to, line);
  else
    __builtin_memcpy(to, line, 64);
}

template <class C>
inline void copy(C* to, const C* from, int64_t m) {
  for (int64_t i = 0; i < m; i++) to[i] = from[i];
}

// from is a buffer aligned to 64 bytes.
template <class C>
inline void stream(C* to, const C* from, int64_t m) {
  constexpr int64_t lane = kStreamLine / static_cast<int64_t>(sizeof(C));
  int64_t i = 0;
  if (kStreamLine && reinterpret_cast<uintptr_t>(to) % 64 == 0)
    for (; i + lane <= m; i += lane) stream_line(to + i, from + i);
  copy(to + i, from + i, m - i);
}

// Rows that begin within a cache line, written past the caches block by block, for consecutive blocks of neurons
// [begin, end). A line shared by two blocks is written with the second; until then the end of the first block is
// stored, for the first kSteps steps. Later steps use the caches.
template <class C>
class AcrossLines {
 public:
  AcrossLines(int64_t begin, int64_t end) : begin_(begin), end_(end) {}

  // Whether rows of N numbers, the first of which is at `data`, begin within a line and bypass the caches.
  static bool wanted(const void* data, Dtype dtype, int64_t N, bool streaming) {
    return kStreamLine && streaming && dtype == native<C>() &&
           (N % kLine<C> != 0 || reinterpret_cast<uintptr_t>(data) % 64 != 0);
  }

  // Step t of neurons [n0, n0 + m). row: aligned, readable to the end of its last line; a block ends with a line,
  // except the last one. Not inline: one version for all neurons.
  __attribute__((noinline)) void write(int64_t t, int64_t n0, int64_t m, C* to, const C* row) {
    constexpr int64_t line = kLine<C>;
    const int64_t before = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % 64 / sizeof(C));
    int64_t i = min(m, (line - before) % line);
    if (n0 == begin_ || t >= kSteps) {
      copy(to, row, i);
    } else if (before) {
      alignas(64) C ends[2 * line];
      __builtin_memcpy(ends, line_ends_[t], 64);
      __builtin_memcpy(ends + line, row, 64);
      if (m < line - before) return copy(to - before, ends + line - before, before + m);
      stream_whole(to - before, ends + line - before);
    }
    for (; i + line <= m; i += line) stream_whole(to + i, row + i);
    if (n0 + m == end_ || t >= kSteps)
      copy(to + i, row + i, m - i);
    else
      __builtin_memcpy(line_ends_[t], row + m - line, 64);
  }

 private:
  static constexpr int64_t kSteps = 256;

  const int64_t begin_, end_;
  alignas(64) C line_ends_[kSteps][kLine<C>];
};

// Row t of a contiguous [T, N] output while it is computed: in place, or buffer, which flush_row converts or streams.
template <class C>
inline C* output_row(void* data, Dtype dtype, int64_t offset, bool buffered, C* buffer) {
  return dtype == native<C>() && !buffered ? static_cast<C*>(data) + offset : buffer;
}

template <class T>
inline void convert_out(const float* row, int64_t m, T* out) {
#pragma omp simd
  for (int64_t i = 0; i < m; i++) out[i] = Store<T>::from(row[i]);
}

// Outputs are in 16 bits only if C is float.
template <class C>
inline void flush_row(void* data, Dtype dtype, int64_t offset, int64_t m, bool streaming, const C* buffer) {
  if constexpr (native<C>() == Dtype::f32) {
    if (dtype == Dtype::bf16) return convert_out(buffer, m, static_cast<BFloat16*>(data) + offset);
    if (dtype == Dtype::f16) return SNNFAST_ISA::flush_half(static_cast<Half*>(data) + offset, m, buffer);
  }
  streaming ? stream(static_cast<C*>(data) + offset, buffer, m) : copy(static_cast<C*>(data) + offset, buffer, m);
}

}  // namespace
}  // namespace snnfast::cpu
