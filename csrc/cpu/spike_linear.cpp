#include "core/spike_linear.h"

#include <type_traits>

#include "core/half.h"
#include "cpu/lanes.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// ---- lists

// Transposes bits, bit i of word r to bit r of word i: swaps blocks of 32 by 32 bits, then of 16 by 16 in them, etc.
inline void transpose_bits(uint64_t* square) {
  uint64_t mask = 0xffffffff;
  for (int64_t size = 32; size; size /= 2, mask ^= mask << size)
    for (int64_t k = 0; k < 64; k += 2 * size)
      for (int64_t r = k; r < k + size; r++) {
        const uint64_t other = (square[r] >> size ^ square[r + size]) & mask;
        square[r] ^= other << size;
        square[r + size] ^= other;
      }
}

template <class C, class T>
void lists_of(const SpikeLists& a, int64_t begin, int64_t end) {
  const int64_t chunk_words = a.chunk / 64;
  const int32_t* const limit = a.indices + a.starts[end * a.chunks];  // another thread writes beyond it
  for (int64_t r = begin; r < end; r++) {
    int32_t* out = a.indices + a.starts[r * a.chunks];
    for (int64_t w = 0; w < a.of.words; w++) {
      const int32_t first = static_cast<int32_t>(w % chunk_words * 64);
      const uint64_t bits = a.of.bits[r * a.of.words + w];
      int32_t* const before = out;
      if (limit - out >= 64 + 16)
        for (int part = 0; part < 64; part += 16)
          out = append_set(out, first + part, static_cast<uint32_t>(bits >> part & 0xffff));
      else
        for (uint64_t left = bits; left; left &= left - 1) *out++ = first + __builtin_ctzll(left);
      if (a.values) {
        C* values = static_cast<C*>(a.values) + (before - a.indices);
        const T* x = static_cast<const T*>(a.of.x) + r * a.x_row + (w * 64 - first) * a.x_column;
        for (const int32_t* e = before; e < out; e++) *values++ = load_as<C>(x[*e * a.x_column]);
      }
    }
  }
}

// ---- sums

// Copies a block of rows in the type of sums: [K, width], with zeros after the last output.
template <class C, class T>
void pack(const SpikeSums& a, int64_t k0, int64_t k1, int64_t o0, int64_t width, C* table) {
  const T* source = static_cast<const T*>(a.source) + k0 * a.source_row + o0 * a.source_column;
  const int64_t K = k1 - k0, used = min(a.O - o0, width);
  if (a.source_column == 1) {
    for (int64_t k = 0; k < K; k++) {
      const T* from = source + k * a.source_row;
      C* to = table + k * width;
      for (int64_t o = 0; o < used; o++) to[o] = load_as<C>(from[o]);
      for (int64_t o = used; o < width; o++) to[o] = 0;
    }
    return;
  }
  int64_t done = 0;
  if (sizeof(T) == sizeof(float) && sizeof(C) == sizeof(float) && used == width && width % kTransposed == 0)
    for (; done + kTransposed <= K; done += kTransposed)
      for (int64_t o = 0; o < width; o += kTransposed)
        transpose(reinterpret_cast<const float*>(source + done + o * a.source_column), a.source_column,
                  reinterpret_cast<float*>(table + done * width + o), width);
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t k = done; k < K; k += kLine) {
    const int64_t last = min(K - k, kLine);
    for (int64_t o = 0; o < width; o++)
      for (int64_t l = 0; l < last; l++)
        table[(k + l) * width + o] = o < used ? load_as<C>(source[k + l + o * a.source_column]) : C(0);
  }
}

template <int n>
struct Registers {
  static constexpr int value = n;
};

// Sums V registers of a block for the results [n0, n1) in chunk c. `from` has the sums of earlier chunks: this chunk
// continues them, or is added to them (in_blocks). R results are interleaved to hide the latency of additions.
template <class C, int V, int R, bool kScaled, class S>
void sum_rows(const SpikeSums& a, int64_t c, int64_t n0, int64_t n1, const S* table, int64_t stride, const C* from,
              int64_t from_stride, C* to, int64_t to_stride) {
  using Vector = typename Vectors<C>::Type;
  constexpr int kLanes = Vectors<C>::kLanes;
  const auto add = [&](Vector* sum, int64_t e) {
    const S* row = table + a.indices[e] * stride;
    const C value = kScaled ? static_cast<const C*>(a.values)[e] : C(1);
    SNNFAST_UNROLL
    for (int v = 0; v < V; v++) {
      const Vector weights = vector_as<C>(row + v * kLanes);
      sum[v] += kScaled ? value * weights : weights;
    }
  };
  const bool apart = a.in_blocks && c > 0;
  int64_t n = n0;
  for (; n + R <= n1; n += R, from += R * from_stride, to += R * to_stride) {
    Vector sum[R][V];
    int64_t e[R], end[R], common = INT64_MAX;
    SNNFAST_UNROLL
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < V; v++) sum[r][v] = apart ? Vector{} : vector_at(from + r * from_stride + v * kLanes);
      e[r] = a.starts[(n + r) * a.chunks + c], end[r] = a.starts[(n + r) * a.chunks + c + 1];
      common = min(end[r] - e[r], common);
    }
    for (int64_t k = 0; k < common; k++) {
      SNNFAST_UNROLL
      for (int r = 0; r < R; r++) add(sum[r], e[r]++);
    }
    SNNFAST_UNROLL
    for (int r = 0; r < R; r++) {
      for (; e[r] < end[r]; e[r]++) add(sum[r], e[r]);
      for (int v = 0; v < V; v++)
        vector_at(to + r * to_stride + v * kLanes) =
            apart ? vector_at(from + r * from_stride + v * kLanes) + sum[r][v] : sum[r][v];
    }
  }
  if constexpr (R > 1) sum_rows<C, V, 1, kScaled>(a, c, n, n1, table, stride, from, from_stride, to, to_stride);
}

template <class C, bool kScaled, class S>
void sum_block(const SpikeSums& a, int64_t c, int64_t n0, int64_t n1, const S* table, int64_t stride, int64_t width,
               const C* from, int64_t from_stride, C* to, int64_t to_stride) {
  constexpr int kLanes = Vectors<C>::kLanes;
  const auto sum = [&](auto registers, int64_t o) {
    constexpr int V = decltype(registers)::value;
    constexpr int kTogether = V < 4 ? 4 : 1;
    sum_rows<C, V, kTogether, kScaled>(a, c, n0, n1, table + o, stride, from + o, from_stride, to + o, to_stride);
    return V * kLanes;
  };
  for (int64_t o = 0; o < width;) {
    const int64_t left = (width - o) / kLanes;
    o += left >= 8   ? sum(Registers<8>(), o)
         : left >= 4 ? sum(Registers<4>(), o)
         : left >= 2 ? sum(Registers<2>(), o)
                     : sum(Registers<1>(), o);
  }
}

// Writes sums in the dtype and the layout of the result.
template <class C, class T>
void write(const SpikeSums& a, int64_t n0, int64_t n1, int64_t o0, int64_t used, const C* sums, int64_t width) {
  T* result = static_cast<T*>(a.result) + n0 * a.result_row + o0 * a.result_column;
  const int64_t N = n1 - n0;
  if (a.result_column == 1) {
    for (int64_t n = 0; n < N; n++)
      for (int64_t o = 0; o < used; o++) result[n * a.result_row + o] = Store<T>::from(sums[n * width + o]);
    return;
  }
  int64_t done = 0;
  if (sizeof(T) == sizeof(float) && sizeof(C) == sizeof(float) && used == width && width % kTransposed == 0)
    for (; done + kTransposed <= N; done += kTransposed)
      for (int64_t o = 0; o < width; o += kTransposed)
        transpose(reinterpret_cast<const float*>(sums + done * width + o), width,
                  reinterpret_cast<float*>(result + done + o * a.result_column), a.result_column);
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t n = done; n < N; n += kLine) {
    const int64_t last = min(N - n, kLine);
    for (int64_t o = 0; o < used; o++)
      for (int64_t l = 0; l < last; l++)
        result[n + l + o * a.result_column] = Store<T>::from(sums[(n + l) * width + o]);
  }
}

// Types: C of sums, T of the source, R of bias and result.
template <class C, class T, class R = T>
void sums_of(const SpikeSums& a, int64_t block, int64_t begin, int64_t end, char* scratch) {
  constexpr int64_t kBlock = kSpikeBlock / sizeof(C), kLanes = Vectors<C>::kLanes;
  const int64_t o0 = block * kBlock, used = min(a.O - o0, kBlock), width = (used + kLanes - 1) / kLanes * kLanes;
  alignas(64) C bias[kBlock] = {};
  if (a.bias)
    for (int64_t o = 0; o < used; o++) bias[o] = load_as<C>(static_cast<const R*>(a.bias)[o0 + o]);
  C* const table = reinterpret_cast<C*>(scratch);
  C* const sums = table + kSpikeChunk * kBlock;
  const bool reads_source = a.in_place && used == width,
             writes_result = sizeof(R) == sizeof(C) && a.result_column == 1 && used == width;
  const int64_t tile = writes_result ? end - begin : kSpikeTile;
  for (int64_t n0 = begin; n0 < end; n0 += tile) {
    const int64_t n1 = end - n0 < tile ? end : n0 + tile;
    C* const to = writes_result ? static_cast<C*>(a.result) + n0 * a.result_row + o0 : sums;
    const int64_t to_stride = writes_result ? a.result_row : width;
    for (int64_t c = 0; c < a.chunks; c++) {
      const int64_t k0 = c * a.chunk, k1 = a.K - k0 < a.chunk ? a.K : k0 + a.chunk;
      if (!reads_source && (a.chunks > 1 || n0 == begin)) pack<C, T>(a, k0, k1, o0, width, table);
      const C* from = c ? to : bias;
      const int64_t from_stride = c ? to_stride : 0;
      const auto sum = [&](const auto* rows, int64_t stride) {
        if (a.values)
          sum_block<C, true>(a, c, n0, n1, rows, stride, width, from, from_stride, to, to_stride);
        else
          sum_block<C, false>(a, c, n0, n1, rows, stride, width, from, from_stride, to, to_stride);
      };
      using Source = std::conditional_t<std::is_same_v<T, int8_t>, T, C>;  // 16 bits are never read in place
      if (reads_source)
        sum(static_cast<const Source*>(a.source) + k0 * a.source_row + o0, a.source_row);
      else
        sum(table, width);
    }
    if (!writes_result) write<C, R>(a, n0, n1, o0, used, sums, width);
  }
}

// ---- the gradient of the inputs of few outputs

// Computes V registers of R rows, from input i on.
template <class C, int R, int V>
inline void grad_inputs(const FewOutputs& a, int64_t r, int64_t i) {
  using Vector = typename Vectors<C>::Type;
  constexpr int kLanes = Vectors<C>::kLanes;
  const C* grad = static_cast<const C*>(a.grad) + r * a.outputs;
  const C* weight = static_cast<const C*>(a.weight) + i;
  C* grad_x = static_cast<C*>(a.grad_x) + r * a.inputs + i;
  Vector sum[R][V] = {};
  for (int64_t o = 0; o < a.outputs; o++) {
    SNNFAST_UNROLL
    for (int v = 0; v < V; v++) {
      const Vector w = vector_at(weight + o * a.inputs + v * kLanes);
      SNNFAST_UNROLL
      for (int k = 0; k < R; k++) sum[k][v] += grad[k * a.outputs + o] * w;
    }
  }
  SNNFAST_UNROLL
  for (int k = 0; k < R; k++) {
    SNNFAST_UNROLL
    for (int v = 0; v < V; v++) vector_at(grad_x + k * a.inputs + v * kLanes) = sum[k][v];
  }
}

template <class C, int R>
void grad_rows(const FewOutputs& a, int64_t r) {
  constexpr int64_t kLanes = Vectors<C>::kLanes, kMany = kVectorBytes / 16;
  int64_t i = 0;
  for (; i + kMany * kLanes <= a.inputs; i += kMany * kLanes) grad_inputs<C, R, kMany>(a, r, i);
  for (; i + kLanes <= a.inputs; i += kLanes) grad_inputs<C, R, 1>(a, r, i);
  // The last register overlaps the one before.
  if (i < a.inputs) grad_inputs<C, R, 1>(a, r, a.inputs - kLanes);
}

template <class C>
void grad_of_few(const FewOutputs& a, int64_t begin, int64_t end) {
  int64_t r = begin;
  for (; r + 4 <= end; r += 4) grad_rows<C, 4>(a, r);
  for (; r < end; r++) grad_rows<C, 1>(a, r);
}

}  // namespace

// Transposes the inputs of the words [begin, end).
void spike_transpose(const SpikeTranspose& a, int64_t begin, int64_t end) {
  for (int64_t w = begin; w < end; w++)
    for (int64_t t = 0; t < a.words; t++) {
      const int64_t rows = min(a.of.rows - t * 64, 64), inputs = min(a.of.inputs - w * 64, 64);
      uint64_t square[64];
      for (int64_t r = 0; r < 64; r++) square[r] = r < rows ? a.of.bits[(t * 64 + r) * a.of.words + w] : 0;
      transpose_bits(square);
      for (int64_t i = 0; i < inputs; i++) a.to[(w * 64 + i) * a.words + t] = square[i];
    }
}

// Counts the events of the lists of the rows [begin, end).
void spike_counts(const SpikeLists& a, int64_t begin, int64_t end) {
  const int64_t chunk_words = a.chunk / 64;
  for (int64_t r = begin; r < end; r++)
    for (int64_t c = 0; c < a.chunks; c++) {
      const int64_t last = min((c + 1) * chunk_words, a.of.words);
      int64_t count = 0;
      for (int64_t w = c * chunk_words; w < last; w++) count += __builtin_popcountll(a.of.bits[r * a.of.words + w]);
      a.starts[r * a.chunks + c] = count;
    }
}

// Fills the lists of the rows [begin, end).
void spike_lists(const SpikeLists& a, int64_t begin, int64_t end) {
  if (a.of.bytes) return lists_of<int32_t, int8_t>(a, begin, end);  // bool has no values
  switch (a.of.dtype) {
    case Dtype::f32: return lists_of<float, float>(a, begin, end);
    case Dtype::f64: return lists_of<double, double>(a, begin, end);
    case Dtype::bf16: return lists_of<float, BFloat16>(a, begin, end);
    case Dtype::f16: return lists_of<float, Half>(a, begin, end);
  }
}

// Computes the results [begin, end) of a block of outputs.
void spike_sums(const SpikeSums& a, int64_t block, int64_t begin, int64_t end, char* scratch) {
  if (a.int8) return sums_of<int32_t, int8_t, int32_t>(a, block, begin, end, scratch);
  switch (a.dtype) {
    case Dtype::f32: return sums_of<float, float>(a, block, begin, end, scratch);
    case Dtype::f64: return sums_of<double, double>(a, block, begin, end, scratch);
    case Dtype::bf16: return sums_of<float, BFloat16>(a, block, begin, end, scratch);
    case Dtype::f16: return sums_of<float, Half>(a, block, begin, end, scratch);
  }
}

// Computes the gradients of the rows [begin, end).
void few_outputs_backward(const FewOutputs& a, int64_t begin, int64_t end) {
  a.dtype == Dtype::f64 ? grad_of_few<double>(a, begin, end) : grad_of_few<float>(a, begin, end);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
