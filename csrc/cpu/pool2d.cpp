#include "core/pool2d.h"

#include <limits>

#include "cpu/channels.h"
#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// Indices in windows, of L channels, as bytes in memory.
template <class Indices, int L>
struct Bytes {
  typedef uint8_t Type __attribute__((vector_size(L)));
  typedef uint8_t Loose __attribute__((vector_size(L), aligned(1), may_alias));
  using Twice = typename Vector<uint16_t, L>::Type;
  using Fourfold = typename Vector<uint32_t, L>::Type;
  // By doubling: GCC would convert directly from bytes one by one.
  static inline Indices load(const uint8_t* from) {
    const Twice twice = __builtin_convertvector(static_cast<Type>(*reinterpret_cast<const Loose*>(from)), Twice);
    return __builtin_convertvector(__builtin_convertvector(twice, Fourfold), Indices);
  }
  static inline void store(uint8_t* to, Indices argmax) {
    *reinterpret_cast<Loose*>(to) = __builtin_convertvector(argmax, Type);
  }
};

// Windows of rows [begin, end) of y. If C is no multiple of L, the last vector overlaps the one before. As in PyTorch,
// the first of equal maxima and the last NaN win. K: window size, or 0 for any.
template <class T, int L, int K, bool Average>
void pool_rows(const Pool2d& a, int64_t begin, int64_t end) {
  using Stored = Channels<T, L>;
  using V = typename Stored::Type;
  using Indices = typename Stored::Indices;
  using Index = decltype(+Indices{}[0]);
  using Compute = typename Stored::Compute;
  const int64_t kh = K ? K : a.kh, kw = K ? K : a.kw, C = a.C, row = a.W * C;
  for (int64_t u = begin; u < end; u++) {
    const T* x = static_cast<const T*>(a.x) + (u / a.out_h * a.H + u % a.out_h * kh) * row;
    for (int64_t ox = 0; ox < a.out_w; ox++)
      for (int64_t c = 0; c < C; c += L) {
        const int64_t channel = min(c, C - L), to = (u * a.out_w + ox) * C + channel;
        V best = V{} - std::numeric_limits<Compute>::infinity(), sum{};
        Indices at{};
        for (int64_t r = 0; r < kh; r++)
          for (int64_t s = 0; s < kw; s++) {
            const T* pixel = x + r * row + (ox * kw + s) * C + channel;
            __builtin_prefetch(pixel + kh * row);  // the windows below
            const V value = Stored::load(pixel);
            const Indices greater = (value > best) | (value != value);
            best = greater ? value : best;
            at = greater ? Indices{} + static_cast<Index>(r * kw + s) : at;
            sum += value;
          }
        Stored::store(static_cast<T*>(a.y) + to, Average ? Stored::round(sum / static_cast<Compute>(kh * kw)) : best);
        if (!Average) Bytes<Indices, L>::store(a.argmax + to, at);
      }
  }
}

template <class T, int L, int K, bool Average>
void pool_gradients(const Pool2d& a, int64_t begin, int64_t end) {
  using Stored = Channels<T, L>;
  using V = typename Stored::Type;
  using Indices = typename Stored::Indices;
  using Index = decltype(+Indices{}[0]);
  using Compute = typename Stored::Compute;
  const int64_t kh = K ? K : a.kh, kw = K ? K : a.kw, C = a.C, row = a.W * C;
  const bool streaming = kStreamLine == L * sizeof(T) && C % L == 0 &&
                         reinterpret_cast<uintptr_t>(a.grad_x) % 64 == 0 && streams<T>(a.N * a.H, row);
  for (int64_t u = begin; u < end; u++) {
    T* grad_x = static_cast<T*>(a.grad_x) + (u / a.out_h * a.H + u % a.out_h * kh) * row;
    for (int64_t ox = 0; ox < a.out_w; ox++)
      for (int64_t c = 0; c < C; c += L) {
        const int64_t channel = min(c, C - L), from = (u * a.out_w + ox) * C + channel;
        const V loaded = Stored::load(static_cast<const T*>(a.grad) + from);
        const V g = Average ? Stored::round(loaded / static_cast<Compute>(kh * kw)) : loaded;
        const Indices at = Average ? Indices{} : Bytes<Indices, L>::load(a.argmax + from);
        for (int64_t r = 0; r < kh; r++)
          for (int64_t s = 0; s < kw; s++) {
            const V value = Average ? g : at == static_cast<Index>(r * kw + s) ? g : V{};
            T* to = grad_x + r * row + (ox * kw + s) * C + channel;
            if (streaming)
              stream_line(to, &value);
            else
              Stored::store(to, value);
          }
      }
    const bool last = u % a.out_h == a.out_h - 1;
    for (int64_t r = 0; r < kh; r++)
      for (int64_t i = a.out_w * kw * C; i < row; i++) grad_x[r * row + i] = T{};
    for (int64_t i = kh * row; last && i < (a.H - (a.out_h - 1) * kh) * row; i++) grad_x[i] = T{};
  }
  stream_done();
}

template <class T, int L, int K, bool Backward>
void pool_by(const Pool2d& a, int64_t begin, int64_t end) {
  if constexpr (Backward)
    a.average ? pool_gradients<T, L, K, true>(a, begin, end) : pool_gradients<T, L, K, false>(a, begin, end);
  else
    a.average ? pool_rows<T, L, K, true>(a, begin, end) : pool_rows<T, L, K, false>(a, begin, end);
}

// Number of channels at a time: as many as there are, up to a vector.
template <class T, bool Backward, int L = Vectors<typename Channels<T, 4>::Compute>::kLanes>
void pool(const Pool2d& a, int64_t begin, int64_t end) {
  if constexpr (L > kPoolChannels<typename Channels<T, L>::Compute>)
    if (a.C < L) return pool<T, Backward, L / 2>(a, begin, end);
  a.kh == 2 && a.kw == 2 ? pool_by<T, L, 2, Backward>(a, begin, end) : pool_by<T, L, 0, Backward>(a, begin, end);
}

template <bool Backward>
void pool_as(const Pool2d& a, int64_t begin, int64_t end) {
  switch (a.dtype) {
    case Dtype::f64: return pool<double, Backward>(a, begin, end);
    case Dtype::bf16: return pool<BFloat16, Backward>(a, begin, end);
    default: return pool<float, Backward>(a, begin, end);
  }
}

}  // namespace

void pool2d_forward(const Pool2d& a, int64_t begin, int64_t end) { pool_as<false>(a, begin, end); }
void pool2d_backward(const Pool2d& a, int64_t begin, int64_t end) { pool_as<true>(a, begin, end); }

}  // namespace snnfast::cpu::SNNFAST_ISA
