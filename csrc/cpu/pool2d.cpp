#include "core/pool2d.h"

#include <limits>

#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// Vectors of L channels, and of integers as wide.
template <class T, int L>
struct Channels {
  typedef T Type __attribute__((vector_size(L * sizeof(T))));
  typedef T Loose __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T))));  // anywhere in memory
  using Places = decltype(Type{} > Type{});
};

// The windows of rows [begin, end) of y. Where C is no multiple of L, the last vector overlaps the one before. Which place of a
// window is the greatest, its gradient finds anew: the first, or the last NaN, as PyTorch's. K: the window's size, or 0 for any.
template <class T, int L, int K, bool Backward>
void pool_rows(const Pool2d& a, int64_t begin, int64_t end) {
  using V = typename Channels<T, L>::Type;
  using Loose = typename Channels<T, L>::Loose;
  using Places = typename Channels<T, L>::Places;
  using Place = decltype(+Places{}[0]);
  const int64_t kh = K ? K : a.kh, kw = K ? K : a.kw, C = a.C, row = a.W * C;
  const T count = static_cast<T>(kh * kw);
  const bool streaming = kStreamLine == sizeof(V) && C % L == 0 && reinterpret_cast<uintptr_t>(a.grad_x) % 64 == 0 && streams<T>(a.N * a.H, row);
  for (int64_t u = begin; u < end; u++) {
    const int64_t from = (u / a.out_h * a.H + u % a.out_h * kh) * row;
    const T* x = static_cast<const T*>(a.x) + from;
    const T* grad = static_cast<const T*>(a.grad) + u * a.out_w * C;
    T* y = static_cast<T*>(a.y) + u * a.out_w * C;
    T* grad_x = static_cast<T*>(a.grad_x) + from;
    for (int64_t ox = 0; ox < a.out_w; ox++)
      for (int64_t c = 0; c < C; c += L) {
        const int64_t channel = c < C - L ? c : C - L, window = ox * kw * C + channel;
        V best = V{} - std::numeric_limits<T>::infinity(), sum{};
        Places at{};
        if (!Backward || !a.average)
          for (int64_t r = 0; r < kh; r++)
            for (int64_t s = 0; s < kw; s++) {
              const T* there = x + r * row + s * C + window;
              __builtin_prefetch(there + kh * row);  // the windows below
              const V value = *reinterpret_cast<const Loose*>(there);
              const Places greater = (value > best) | (value != value);
              best = greater ? value : best;
              if (Backward) at = greater ? Places{} + static_cast<Place>(r * kw + s) : at;
              if (!Backward) sum += value;
            }
        if constexpr (!Backward) {
          *reinterpret_cast<Loose*>(y + ox * C + channel) = a.average ? sum / count : best;
        } else {
          const V g = *reinterpret_cast<const Loose*>(grad + ox * C + channel);
          for (int64_t r = 0; r < kh; r++)
            for (int64_t s = 0; s < kw; s++) {
              const V value = a.average ? g / count : at == static_cast<Place>(r * kw + s) ? g : V{};
              T* to = grad_x + r * row + s * C + window;
              if (streaming)
                stream_line(to, &value);
              else
                *reinterpret_cast<Loose*>(to) = value;
            }
        }
      }
    if constexpr (Backward) {
      const bool last = u % a.out_h == a.out_h - 1;
      for (int64_t r = 0; r < kh; r++)
        for (int64_t i = a.out_w * kw * C; i < row; i++) grad_x[r * row + i] = T(0);
      for (int64_t i = kh * row; last && i < (a.H - (a.out_h - 1) * kh) * row; i++) grad_x[i] = T(0);
    }
  }
  if (Backward) stream_done();
}

// As many channels at a time as there are and a vector holds.
template <class T, bool Backward, int L = Vectors<T>::kLanes>
void pool(const Pool2d& a, int64_t begin, int64_t end) {
  if constexpr (L * sizeof(T) > kPoolBytes)
    if (a.C < L) return pool<T, Backward, L / 2>(a, begin, end);
  a.kh == 2 && a.kw == 2 ? pool_rows<T, L, 2, Backward>(a, begin, end) : pool_rows<T, L, 0, Backward>(a, begin, end);
}

template <bool Backward>
void pool_as(const Pool2d& a, int64_t begin, int64_t end) {
  a.dtype == Dtype::f64 ? pool<double, Backward>(a, begin, end) : pool<float, Backward>(a, begin, end);
}

}  // namespace

void pool2d_forward(const Pool2d& a, int64_t begin, int64_t end) { pool_as<false>(a, begin, end); }
void pool2d_backward(const Pool2d& a, int64_t begin, int64_t end) { pool_as<true>(a, begin, end); }

}  // namespace snnfast::cpu::SNNFAST_ISA
