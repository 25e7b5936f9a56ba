#include "core/pool2d.h"

#include <limits>

#include "core/half.h"
#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// L channels as vectors of the type C that computes.
template <class C, int L>
struct Vector {
  typedef C Type __attribute__((vector_size(L * sizeof(C))));
  using Places = decltype(Type{} > Type{});  // integers as wide
};

// The same in memory, anywhere, as numbers of type T.
template <class T, int L>
struct Channels : Vector<T, L> {
  using Compute = T;
  using typename Vector<T, L>::Type;
  typedef T Loose __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T))));
  static inline Type load(const T* from) { return *reinterpret_cast<const Loose*>(from); }
  static inline void store(T* to, Type value) { *reinterpret_cast<Loose*>(to) = value; }
  static inline Type round(Type value) { return value; }
};

template <int L>
struct Channels<BFloat16, L> : Vector<float, L> {
  using Compute = float;
  using typename Vector<float, L>::Type;
  using Bits = typename Vector<uint32_t, L>::Type;
  typedef uint16_t Loose __attribute__((vector_size(L * sizeof(BFloat16)), aligned(sizeof(BFloat16))));
  static inline Type load(const BFloat16* from) { return reinterpret_cast<Type>(__builtin_convertvector(*reinterpret_cast<const Loose*>(from), Bits) << 16); }
  static inline void store(BFloat16* to, Type value) { *reinterpret_cast<Loose*>(to) = __builtin_convertvector(reinterpret_cast<Bits>(value) >> 16, Loose); }
  // To a number that bfloat16 has, as Store<BFloat16> does.
  static inline Type round(Type value) {
    const Bits u = reinterpret_cast<Bits>(value), rounded = u + 0x7fffu + ((u >> 16) & 1u);
    return reinterpret_cast<Type>(value == value ? rounded : Bits{} + 0x7fc00000u);
  }
};

// The windows of rows [begin, end) of y. Where C is no multiple of L, the last vector overlaps the one before. Which place of a
// window is the greatest, its gradient finds anew: the first, or the last NaN, as PyTorch's. K: the window's size, or 0 for any.
template <class T, int L, int K, bool Backward>
void pool_rows(const Pool2d& a, int64_t begin, int64_t end) {
  using Stored = Channels<T, L>;
  using V = typename Stored::Type;
  using Places = typename Stored::Places;
  using Place = decltype(+Places{}[0]);
  using Compute = typename Stored::Compute;
  const int64_t kh = K ? K : a.kh, kw = K ? K : a.kw, C = a.C, row = a.W * C;
  const Compute count = static_cast<Compute>(kh * kw);
  const bool streaming = kStreamLine == L * sizeof(T) && C % L == 0 && reinterpret_cast<uintptr_t>(a.grad_x) % 64 == 0 && streams<T>(a.N * a.H, row);
  for (int64_t u = begin; u < end; u++) {
    const int64_t from = (u / a.out_h * a.H + u % a.out_h * kh) * row;
    const T* x = static_cast<const T*>(a.x) + from;
    const T* grad = static_cast<const T*>(a.grad) + u * a.out_w * C;
    T* y = static_cast<T*>(a.y) + u * a.out_w * C;
    T* grad_x = static_cast<T*>(a.grad_x) + from;
    for (int64_t ox = 0; ox < a.out_w; ox++)
      for (int64_t c = 0; c < C; c += L) {
        const int64_t channel = c < C - L ? c : C - L, window = ox * kw * C + channel;
        V best = V{} - std::numeric_limits<Compute>::infinity(), sum{};
        Places at{};
        if (!Backward || !a.average)
          for (int64_t r = 0; r < kh; r++)
            for (int64_t s = 0; s < kw; s++) {
              const T* there = x + r * row + s * C + window;
              __builtin_prefetch(there + kh * row);  // the windows below
              const V value = Stored::load(there);
              const Places greater = (value > best) | (value != value);
              best = greater ? value : best;
              if (Backward) at = greater ? Places{} + static_cast<Place>(r * kw + s) : at;
              if (!Backward) sum += value;
            }
        if constexpr (!Backward) {
          Stored::store(y + ox * C + channel, a.average ? Stored::round(sum / count) : best);
        } else {
          const V given = Stored::load(grad + ox * C + channel), g = a.average ? Stored::round(given / count) : given;
          for (int64_t r = 0; r < kh; r++)
            for (int64_t s = 0; s < kw; s++) {
              const V value = a.average ? g : at == static_cast<Place>(r * kw + s) ? g : V{};
              T* to = grad_x + r * row + s * C + window;
              if (streaming)
                stream_line(to, &value);
              else
                Stored::store(to, value);
            }
        }
      }
    if constexpr (Backward) {
      const bool last = u % a.out_h == a.out_h - 1;
      for (int64_t r = 0; r < kh; r++)
        for (int64_t i = a.out_w * kw * C; i < row; i++) grad_x[r * row + i] = T{};
      for (int64_t i = kh * row; last && i < (a.H - (a.out_h - 1) * kh) * row; i++) grad_x[i] = T{};
    }
  }
  if (Backward) stream_done();
}

// As many channels at a time as there are and a vector holds.
template <class T, bool Backward, int L = Vectors<typename Channels<T, 4>::Compute>::kLanes>
void pool(const Pool2d& a, int64_t begin, int64_t end) {
  if constexpr (L > kPoolChannels<typename Channels<T, L>::Compute>)
    if (a.C < L) return pool<T, Backward, L / 2>(a, begin, end);
  a.kh == 2 && a.kw == 2 ? pool_rows<T, L, 2, Backward>(a, begin, end) : pool_rows<T, L, 0, Backward>(a, begin, end);
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
