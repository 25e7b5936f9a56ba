// Neighbours have other delays, so a row of the output comes from many rows of the input. Rows go through stages: stage s keeps
// the last 2^s rows and hands on, of each neuron, the row or the one 2^s steps before, by a bit of its delay. So every load is
// aligned and whole, and what is kept are as many rows as the longest delay has steps, and not the sequence. Many rows of a
// vector of neurons go through in registers: a stage then keeps only what the next rows need.
#include "core/delay.h"

#include <type_traits>

#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = kDelayBlock;
constexpr int kRows = kVectorBytes == 64 ? 16 : 8;  // taken at a time: half as many as there are registers

template <class C>
inline void save(C* p, const typename Vectors<C>::Type& v, bool past_caches) {
  if (past_caches)
    stream_line(p, &v);
  else
    vector_at(p) = v;
}

// The delays of a block of neurons. Taps: those of them all, or 0 for any number.
template <class C, int Taps>
class Delays {
  using Vector = typename Vectors<C>::Type;
  using Int = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  using Bits = typename Vectors<Int>::Type;
  static constexpr int64_t L = Vectors<C>::kLanes;

 public:
  Delays(const DelayScan& a, C* scratch) : a_(a), taps_(Taps ? Taps : delay_taps(a)), weights_(scratch) {
    slopes_ = weights_ + taps_ * kBlock;
    shifted_ = slopes_ + taps_ * kBlock;
    bits_ = reinterpret_cast<Int*>(shifted_ + (taps_ - 1 + kRows) * kBlock);
  }

  // Before the first row of m neurons from n0. Where delays come again, as they do in a batch, so do weights.
  void start(int64_t n0, int64_t m) {
    if (m > m_ || (a_.d.data && (n0 - n0_) % (a_.d.count * a_.d.inner))) weigh(n0, m);
    width_ = (m + L - 1) / L * L;
    tiles_ = 0;
    for (int64_t i = 0; i < (taps_ - 1 + kRows) * kBlock; i++) shifted_[i] = C(0);
    for (int64_t i = 0; i < ((int64_t{1} << stages_) - 1) * kBlock; i++) kept_[i] = C(0);
  }

  // Steps before an output that it reads.
  int64_t reach() const { return longest_ + taps_ - 1; }

  // Of a step and those before it the sum that the delays make, or its derivative by them.
  class Sum {
   public:
    Sum(const Delays& delays, const C* factors) : taps_(delays.taps_), factors_(factors) {
      for (int j = 0; j < Taps; j++) own_[j] = vector_at(factors + j * kBlock);
    }
    Vector operator()(const Vector* step) const {
      Vector total = {};
      if constexpr (Taps) {
        total = own_[0] * step[0];
        for (int j = 1; j < Taps; j++) total += own_[j] * step[-j];
      } else {
        for (int64_t j = 0; j < taps_; j++) total += vector_at(factors_ + j * kBlock) * step[-j];
      }
      return total;
    }

   private:
    int64_t taps_;
    const C* factors_;
    Vector own_[Taps ? Taps : 1];
  };

  // The next rows, of which whole vectors can be read. Of each vector of neurons, from i on, use(i, steps, weighted, sloped) gets
  // them by whole delays, and the sums to make of them.
  template <class Use>
  void push(const C* const (&rows)[kRows], const Use& use) {
    for (int64_t i = 0; i < width_; i += L) {
      Vector v[1 + kRows];
      Vector* const now = v + 1;
#pragma GCC unroll 16
      for (int k = 0; k < kRows; k++) now[k] = vector_at(rows[k] + i);
      shift<1>(i, now);
      C* const last = shifted_ + i * (taps_ - 1 + kRows);
      if constexpr (Taps == 2) {
        v[0] = vector_at(last);
        vector_at(last) = now[kRows - 1];
        use(i, now, Sum(*this, weights_ + i), Sum(*this, slopes_ + i));
      } else {
        for (int64_t k = 0; k < taps_ - 1; k++) vector_at(last + k * L) = vector_at(last + (k + kRows) * L);
        for (int k = 0; k < kRows; k++) vector_at(last + (taps_ - 1 + k) * L) = now[k];
        use(i, reinterpret_cast<const Vector*>(last) + taps_ - 1, Sum(*this, weights_ + i), Sum(*this, slopes_ + i));
      }
    }
    tiles_++;
  }

 private:
  const DelayScan& a_;
  int64_t n0_ = 0, m_ = 0, width_ = 0, taps_, stages_ = 0, longest_ = 0, tiles_ = 0;
  C *weights_, *slopes_, *shifted_, *kept_ = nullptr;
  Int* bits_;

  void weigh(int64_t n0, int64_t m) {
    int64_t begin[kBlock];
    n0_ = n0, m_ = m, longest_ = stages_ = 0;
    for (int64_t i = 0; i < kBlock; i++) {
      const DelayTaps<C> taps(a_, n0 + (i < m ? i : 0));
      begin[i] = taps.begin;
      longest_ = longest_ < begin[i] ? begin[i] : longest_;
      for (int64_t k = 0; k < taps_; k++) {
        weights_[k * kBlock + i] = taps.weight(begin[i] + k);
        slopes_[k * kBlock + i] = taps.slope(begin[i] + k);
      }
    }
    while (longest_ >> stages_) stages_++;
    for (int64_t s = 0; s < stages_; s++)
      for (int64_t i = 0; i < kBlock; i++) bits_[s * kBlock + i] = static_cast<Int>(-(begin[i] >> s & 1));
    kept_ = reinterpret_cast<C*>(bits_ + stages_ * kBlock);
  }

  // The stage that keeps Q rows, and those after it.
  template <int Q>
  void shift(int64_t i, Vector* now) {
    constexpr int s = __builtin_ctz(Q);
    if constexpr (Q < kRows) {
      if (s >= stages_) return;
      const Bits later = vector_at(bits_ + s * kBlock + i);
      C* const kept = kept_ + (Q - 1) * kBlock + i * Q;
      Vector before[Q];
#pragma GCC unroll 16
      for (int k = 0; k < Q; k++) {
        before[k] = vector_at(kept + k * L);
        vector_at(kept + k * L) = now[kRows - Q + k];
      }
#pragma GCC unroll 16
      for (int k = kRows - 1; k >= 0; k--) now[k] = later ? (k < Q ? before[k] : now[k - Q]) : now[k];
      shift<2 * Q>(i, now);
    } else {
      for (int64_t t = s; t < stages_; t++) {
        const int64_t q = int64_t{1} << t;
        const Bits later = vector_at(bits_ + t * kBlock + i);
        C* const kept = kept_ + (q - 1) * kBlock + i * q + (tiles_ & (q / kRows - 1)) * kRows * L;
#pragma GCC unroll 16
        for (int k = 0; k < kRows; k++) {
          const Vector before = vector_at(kept + k * L);
          vector_at(kept + k * L) = now[k];
          now[k] = later ? before : now[k];
        }
      }
    }
  }
};

// Row t, at least -P, of m neurons from n0, of which whole vectors can be read.
template <class C>
inline const C* block_row(const DelayScan& a, int64_t t, int64_t n0, int64_t m, C* buffer) {
  const Rows& rows = t < 0 ? a.past : a.x;
  const C* row = read_row<C>(rows, t < 0 ? t + a.P : t, n0, m, buffer);
  if (m % Vectors<C>::kLanes == 0 || row == buffer) return row;
  copy(buffer, row, m);
  return buffer;
}

// Whether outputs go past the caches straight from registers: a vector must be a whole line of 64 bytes. Measured: a tenth less
// time for what no cache holds, a tenth more at 6 MiB, which the third-level cache holds.
template <class C>
inline bool streams_lines(const DelayForward& a, int64_t m) {
  constexpr int64_t L = Vectors<C>::kLanes;
  return kVectorBytes == 64 && a.x.dtype == native<C>() && beyond_caches<C>(a.T, a.N) && a.N % L == 0 && m % L == 0 &&
         reinterpret_cast<uintptr_t>(a.y) % 64 == 0;
}

template <class C, int Taps>
void block(const DelayForward& a, Delays<C, Taps>& delays, int64_t n0, int64_t m) {
  using Vector = typename Vectors<C>::Type;
  alignas(64) C x_buffer[kRows][kBlock] = {}, y_buffer[kRows][kBlock];
  delays.start(n0, m);
  const bool lines = streams_lines<C>(a, m), streaming = !lines && streams<C>(a.T, a.N), whole = m % Vectors<C>::kLanes == 0;
  for (int64_t t0 = -min(delays.reach(), a.P); t0 < a.T; t0 += kRows) {
    const C* x[kRows];
    C* y[kRows];
    for (int64_t k = 0; k < kRows; k++) {
      const int64_t t = t0 + k;
      if (t >= 0 && t + kRows < a.T) prefetch_row<2>(a.x, t + kRows, n0, m);
      x[k] = t < a.T ? block_row(a, t, n0, m, x_buffer[k]) : x_buffer[k];
      y[k] = t >= 0 && t < a.T && whole ? output_row<C>(a.y, a.x.dtype, t * a.N + n0, streaming, y_buffer[k]) : y_buffer[k];
    }
    delays.push(x, [&](int64_t i, const Vector* steps, const auto& weighted, const auto&) {
#pragma GCC unroll 16
      for (int k = 0; k < kRows; k++) save(y[k] + i, weighted(steps + k), lines);
    });
    for (int64_t k = t0 < 0 ? -t0 : 0; k < kRows && t0 + k < a.T; k++)
      if (y[k] == y_buffer[k]) flush_row(a.y, a.x.dtype, (t0 + k) * a.N + n0, m, streaming, y_buffer[k]);
  }
}

// The same backwards in time: the gradient of an input is what became of it in later steps.
template <class C, int Taps>
void block(const DelayBackward& a, Delays<C, Taps>& delays, int64_t n0, int64_t m) {
  using Vector = typename Vectors<C>::Type;
  alignas(64) C x_buffer[kRows][kBlock] = {}, grad_buffer[kRows][kBlock] = {}, out_buffer[kRows][kBlock], total[kBlock] = {};
  const C silence[kBlock] = {};
  delays.start(n0, m);
  const bool streaming = streams<C>(a.T, a.N), whole = m % Vectors<C>::kLanes == 0;
  DelayScan grads = a;
  grads.x = a.grad_y;
  const auto gradient = [&](int64_t t) { return t < 0 ? a.grad_past : a.grad_x; };
  const auto offset = [&](int64_t t) { return (t < 0 ? t + a.P : t) * a.N + n0; };
  for (int64_t end = a.T; end > -a.P; end -= kRows) {
    const int64_t count = min(end + a.P, kRows);
    const C *x[kRows], *grad_y[kRows];
    C* out[kRows];
    for (int64_t k = 0; k < kRows; k++) {
      const int64_t t = end - 1 - k;
      grad_y[k] = t < 0 ? silence : block_row(grads, t, n0, m, grad_buffer[k]);
      out[k] = out_buffer[k];
      if (k >= count) continue;
      if (t >= kRows) prefetch_row<2>(a.grad_y, t - kRows, n0, m);
      if (t >= kRows && a.grad_d) prefetch_row<2>(a.x, t - kRows, n0, m);
      if (a.grad_d) x[k] = block_row(a, t, n0, m, x_buffer[k]);
      if (gradient(t) && whole) out[k] = output_row<C>(gradient(t), a.x.dtype, offset(t), streaming, out_buffer[k]);
    }
    delays.push(grad_y, [&](int64_t i, const Vector* steps, const auto& weighted, const auto& sloped) {
      if (a.grad_x || a.grad_past) {
#pragma GCC unroll 16
        for (int k = 0; k < kRows; k++) vector_at(out[k] + i) = weighted(steps + k);
      }
      if (!a.grad_d) return;
      Vector sums = vector_at(total + i);
#pragma GCC unroll 16
      for (int k = 0; k < kRows; k++)
        if (k < count) sums += vector_at(x[k] + i) * sloped(steps + k);
      vector_at(total + i) = sums;
    });
    for (int64_t k = 0; k < count; k++) {
      const int64_t t = end - 1 - k;
      if (gradient(t) && out[k] == out_buffer[k]) flush_row(gradient(t), a.x.dtype, offset(t), m, streaming, out_buffer[k]);
    }
  }
  if (a.grad_d) copy(static_cast<C*>(a.grad_d) + n0, total, m);
}

template <class C, int Taps, class Scan>
void blocks(const Scan& a, int64_t begin, int64_t end, void* scratch) {
  Delays<C, Taps> delays(a, static_cast<C*>(scratch));
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) block(a, delays, n0, min(end - n0, kBlock));
  stream_done();
}

// Two taps are linear interpolation.
template <class C, class Scan>
void run(const Scan& a, int64_t begin, int64_t end, void* scratch) {
  delay_taps(a) == 2 ? blocks<C, 2>(a, begin, end, scratch) : blocks<C, 0>(a, begin, end, scratch);
}

}  // namespace

void delay_forward(const DelayForward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? run<double>(a, begin, end, scratch) : run<float>(a, begin, end, scratch);
}

void delay_backward(const DelayBackward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? run<double>(a, begin, end, scratch) : run<float>(a, begin, end, scratch);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
