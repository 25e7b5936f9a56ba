// Winograd's F(4 x 4, 3 x 3) for the gradient of images: 36 products instead of 144 for a tile of 4 x 4 pixels.
//
// A tile of y is A^T [ (G w G^T) * (B^T x B) ] A, summed over inputs (Lavin and Gray, Fast Algorithms for Convolutional
// Neural Networks, 2016). Of each of the 36 positions the sums over inputs are a matrix product, tiles times inputs
// times outputs.
#include "core/spike_conv2d.h"
#include "cpu/lanes.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

using Vector = Vectors<float>::Type;
constexpr int64_t kLanes = Vectors<float>::kLanes;
// Sums of a product in registers: rows of tiles by vectors of outputs. 512-bit sets have 32 registers.
constexpr int kRows = kVectorBytes == 16 ? 3 : 6;
constexpr int64_t kColumns = kVectorBytes == 64 ? 64 : 16;

// Contracted where the processor has such an instruction: spikes do not depend on these sums.
inline Vector multiply_add(const Vector& a, float b, const Vector& sum) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vector>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), _mm512_set1_ps(b), reinterpret_cast<__m512>(sum)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vector>(
      _mm256_fmadd_ps(reinterpret_cast<__m256>(a), _mm256_set1_ps(b), reinterpret_cast<__m256>(sum)));
#else
  return a * b + sum;
#endif
}

// Every ninth number.
inline Vector every_ninth(const float* from) {
#if defined(__AVX512F__)
  const __m512i ninth =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(9));
  return reinterpret_cast<Vector>(_mm512_i32gather_ps(ninth, from, 4));
#else
  Vector v;
  for (int64_t l = 0; l < kLanes; l++) v[l] = from[9 * l];
  return v;
#endif
}

// Number of outputs of the block that begins with output `o`.
inline int64_t columns_from(const SpikeConv2d& a, int64_t o) { return min(kColumns, a.O - o); }

// Rows of B^T x, of G w and of A^T m: `at(k)` is row k of the matrix, `to(k, value)` takes that of the product.
template <class At, class To>
inline void image_rows(const At& at, const To& to) {
  const Vector a = at(0), b = at(1), c = at(2), d = at(3), e = at(4), f = at(5);
  const Vector p = e - 4 * c, q = d - 4 * b, r = e - c, s = 2 * (d - b);
  to(0, 4 * a - 5 * c + e), to(1, p + q), to(2, p - q), to(3, r + s), to(4, r - s), to(5, 4 * b - 5 * d + f);
}
template <class At, class To>
inline void weight_rows(const At& at, const To& to) {
  const Vector a = at(0), b = at(1), c = at(2);
  const Vector p = (a + c) * (-1.f / 6), q = b * (-1.f / 6), r = a * (1.f / 24) + c * (1.f / 6), s = b * (1.f / 12);
  to(0, a * 0.25f), to(1, p + q), to(2, p - q), to(3, r + s), to(4, r - s), to(5, c);
}
template <class At, class To>
inline void result_rows(const At& at, const To& to) {
  const Vector a = at(0), b = at(1), c = at(2), d = at(3), e = at(4), f = at(5);
  const Vector p = b + c, q = b - c, r = d + e, s = d - e;
  to(0, a + p + r), to(1, q + 2 * s), to(2, p + 4 * r), to(3, q + 8 * s + f);
}

// Transformed weights of outputs [o, o + columns): [36][C][columns], a line between positions.
void transform_weights(const SpikeConv2d& a, int64_t o, float* table) {
  const int64_t columns = columns_from(a, o), position = winograd_position(a.C * columns);
  const float* weight = static_cast<const float*>(a.weight);
  for (int64_t c = 0; c < a.C; c++)
    for (int64_t i = 0; i < columns; i += kLanes) {
      const float* from = weight + (c * a.O + o + i) * 9;
      Vector half[6][3];
      for (int x = 0; x < 3; x++)
        weight_rows([&](int y) { return every_ninth(from + 8 - 3 * y - x); },
                    [&](int y, const Vector& value) { half[y][x] = value; });
      float* to = table + c * columns + i;
      for (int y = 0; y < 6; y++)
        weight_rows([&](int x) { return half[y][x]; },
                    [&](int x, const Vector& value) { vector_at(to + (y * 6 + x) * position) = value; });
    }
}

// Transformed tiles [begin, end): [36][end - begin][C], a line between positions.
void transform_tiles(const SpikeConv2d& a, int64_t begin, int64_t end, float* tiles) {
  const int64_t down = winograd_down(a), across = winograd_across(a), position = winograd_position((end - begin) * a.C);
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t n = tile / (down * across), y0 = tile / across % down * 4 - a.pad_h, x0 = tile % across * 4 - a.pad_w;
    const float* image = static_cast<const float*>(a.x) + n * a.H * a.W * a.C;
    for (int64_t c = 0; c < a.C; c += kLanes) {
      Vector half[6][6];
      for (int x = 0; x < 6; x++) {
        const int64_t column = x0 + x;
        if (column < 0 || column >= a.W) {
          for (int y = 0; y < 6; y++) half[y][x] = Vector{};
          continue;
        }
        image_rows(
            [&](int y) {
              const int64_t row = y0 + y;
              return row < 0 || row >= a.H ? Vector{} : Vector(vector_at(image + (row * a.W + column) * a.C + c));
            },
            [&](int y, const Vector& value) { half[y][x] = value; });
      }
      float* to = tiles + (tile - begin) * a.C + c;
      for (int y = 0; y < 6; y++)
        image_rows([&](int x) { return half[y][x]; },
                   [&](int x, const Vector& value) { vector_at(to + (y * 6 + x) * position) = value; });
    }
  }
}

template <int Rows, int V>
inline void multiply_rows(int64_t C, const float* rows, const float* table, float* sums) {
  constexpr int64_t columns = V * kLanes;
  Vector total[Rows][V] = {};
  for (int64_t c = 0; c < C; c++) {
    Vector w[V];
    for (int v = 0; v < V; v++) w[v] = vector_at(table + c * columns + v * kLanes);
    SNNFAST_UNROLL
    for (int r = 0; r < Rows; r++)
      for (int v = 0; v < V; v++) total[r][v] = multiply_add(w[v], rows[r * C + c], total[r][v]);
  }
  for (int r = 0; r < Rows; r++)
    for (int v = 0; v < V; v++) vector_at(sums + r * columns + v * kLanes) = total[r][v];
}

template <int V, int Rows = kRows>
void multiply(int64_t C, int64_t count, const float* rows, const float* table, float* sums) {
  constexpr int64_t columns = V * kLanes;
  for (; count >= Rows; count -= Rows, rows += Rows * C, sums += Rows * columns)
    multiply_rows<Rows, V>(C, rows, table, sums);
  if constexpr (Rows > 1) {
    if (count) multiply<V, Rows - 1>(C, count, rows, table, sums);
  }
}

// Products of all positions of `count` tiles with outputs [o, o + columns): [36][count][columns].
void multiply_positions(const SpikeConv2d& a, int64_t count, int64_t columns, const float* tiles, const float* table,
                        float* sums) {
  for (int64_t k = 0; k < 36; k++) {
    const float *rows = tiles + k * winograd_position(count * a.C),
                *weights = table + k * winograd_position(a.C * columns);
    float* to = sums + k * winograd_position(count * columns);
    switch (columns / kLanes) {
      case 1: multiply<1>(a.C, count, rows, weights, to); break;
      case 2: multiply<2>(a.C, count, rows, weights, to); break;
      case 3: multiply<3>(a.C, count, rows, weights, to); break;
      default: multiply<4>(a.C, count, rows, weights, to);
    }
  }
}

void transform_sums(const SpikeConv2d& a, int64_t begin, int64_t end, int64_t o, const float* sums) {
  const int64_t down = winograd_down(a), across = winograd_across(a), columns = columns_from(a, o),
                position = winograd_position((end - begin) * columns);
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t n = tile / (down * across), y0 = tile / across % down * 4, x0 = tile % across * 4,
                  height = min(4, a.out_h - y0), width = min(4, a.out_w - x0);
    float* image = static_cast<float*>(a.y) + ((n * a.out_h + y0) * a.out_w + x0) * a.O + o;
    for (int64_t i = 0; i < columns; i += kLanes) {
      const float* from = sums + (tile - begin) * columns + i;
      Vector half[4][6];
      for (int x = 0; x < 6; x++)
        result_rows([&](int y) { return vector_at(from + (y * 6 + x) * position); },
                    [&](int y, const Vector& value) { half[y][x] = value; });
      for (int y = 0; y < height; y++)
        result_rows([&](int x) { return half[y][x]; },
                    [&](int x, const Vector& value) {
                      if (x < width) vector_at(image + (y * a.out_w + x) * a.O + i) = value;
                    });
    }
  }
}

}  // namespace

// Units [begin, end): blocks of outputs if all tiles are one block, whose weights are transformed into scratch and used
// at once; else blocks of tiles, with the weights that spike_conv2d_winograd_pack transformed.
void spike_conv2d_winograd(const SpikeConv2d& a, int64_t begin, int64_t end, char* scratch) {
  const int64_t count = winograd_tiles(a);
  float* tiles = reinterpret_cast<float*>(scratch);
  float* sums = tiles + 36 * winograd_position(min(count, kWinogradTiles) * a.C);
  if (winograd_in_scratch(a)) {
    float* table = sums + 36 * winograd_position(count * kColumns);
    transform_tiles(a, 0, count, tiles);
    for (int64_t o = begin * kConvBlock; o < min(end * kConvBlock, a.O); o += kColumns) {
      transform_weights(a, o, table);
      multiply_positions(a, count, columns_from(a, o), tiles, table, sums);
      transform_sums(a, 0, count, o, sums);
    }
    return;
  }
  for (int64_t block = begin; block < end; block++) {
    const int64_t first = block * kWinogradTiles, last = min(first + kWinogradTiles, count);
    transform_tiles(a, first, last, tiles);
    const float* table = static_cast<const float*>(a.table);
    for (int64_t o = 0; o < a.O; o += kColumns) {
      const int64_t columns = columns_from(a, o);
      multiply_positions(a, last - first, columns, tiles, table, sums);
      transform_sums(a, first, last, o, sums);
      table += 36 * winograd_position(a.C * columns);
    }
  }
}

// Blocks [begin, end) of outputs.
void spike_conv2d_winograd_pack(const SpikeConv2d& a, int64_t begin, int64_t end) {
  for (int64_t o = begin * kConvBlock; o < min(end * kConvBlock, a.O); o += kColumns) {
    // Every block before this one has kColumns outputs.
    float* table = static_cast<float*>(a.table) + o / kColumns * 36 * winograd_position(a.C * kColumns);
    transform_weights(a, o, table);
  }
}

}  // namespace snnfast::cpu::SNNFAST_ISA
