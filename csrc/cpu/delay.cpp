// Neighbours have other delays, so a row of the output comes from many rows of the input. Each row goes through stages: stage s
// keeps the last 2^s rows and hands on, of each neuron, the row or the one 2^s steps before, by a bit of its delay. So every
// load is aligned and whole, and what is kept are as many rows as the longest delay has steps, and not the sequence.
#include "core/delay.h"

#include <type_traits>

#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = kDelayBlock;

template <class V>
inline V load(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <class V>
inline void save(void* p, const V& v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// The delays of m neurons from n0; rows of kBlock neurons in scratch.
template <class C>
class Delays {
  using Vector = typename Vectors<C>::Type;
  using Int = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  using Bits = typename Vectors<Int>::Type;
  static constexpr int64_t L = Vectors<C>::kLanes;

 public:
  Delays(const DelayScan& a, int64_t n0, int64_t m, C* scratch) : width_((m + L - 1) / L * L), taps_(delay_taps(a)) {
    int64_t begin[kBlock] = {};
    weights_ = scratch;
    slopes_ = weights_ + taps_ * kBlock;
    shifted_ = slopes_ + taps_ * kBlock;
    for (int64_t i = 0; i < kBlock; i++) {
      const DelayTaps<C> taps(a, n0 + (i < m ? i : 0));
      begin[i] = taps.begin;
      longest_ = longest_ < begin[i] ? begin[i] : longest_;
      for (int64_t k = 0; k < taps_; k++) {
        weights_[k * kBlock + i] = taps.weight(begin[i] + k);
        slopes_[k * kBlock + i] = taps.slope(begin[i] + k);
      }
    }
    while (longest_ >> stages_) stages_++;
    bits_ = reinterpret_cast<Int*>(shifted_ + taps_ * kBlock);
    for (int64_t s = 0; s < stages_; s++)
      for (int64_t i = 0; i < kBlock; i++) bits_[s * kBlock + i] = static_cast<Int>(-(begin[i] >> s & 1));
    kept_ = reinterpret_cast<C*>(bits_ + stages_ * kBlock);
    for (int64_t i = 0; i < taps_ * kBlock; i++) shifted_[i] = C(0);
    for (int64_t i = 0; i < ((int64_t{1} << stages_) - 1) * kBlock; i++) kept_[i] = C(0);
  }

  // Steps before an output that it reads.
  int64_t reach() const { return longest_ + taps_ - 1; }

  // The next row: a whole block of it can be read.
  void push(const C* row) {
    constexpr int kVectors = kBlock / L;
    Bits v[kVectors];
    for (int i = 0; i < kVectors; i++) v[i] = load<Bits>(row + i * L);
    for (int64_t s = 0; s < stages_; s++) {
      const int64_t rows = int64_t{1} << s;
      C* const kept = kept_ + (rows - 1 + (now_ & (rows - 1))) * kBlock;
      const Int* const bits = bits_ + s * kBlock;
#pragma GCC unroll 16
      for (int i = 0; i < kVectors; i++) {
        const Bits before = load<Bits>(kept + i * L);
        save(kept + i * L, v[i]);
        v[i] ^= (v[i] ^ before) & load<Bits>(bits + i * L);
      }
    }
    now_++;
    last_ = last_ + 1 < taps_ ? last_ + 1 : 0;
    for (int i = 0; i < kVectors; i++) save(shifted_ + last_ * kBlock + i * L, v[i]);
  }

  // Of the rows up to the last: the sums that the delays make of them, and their derivatives by the delays.
  void weighted(C* out) const { sum(weights_, out); }
  void sloped(C* out) const { sum(slopes_, out); }

 private:
  int64_t width_, taps_, stages_ = 0, longest_ = 0, now_ = 0, last_ = 0;
  C *weights_, *slopes_, *shifted_, *kept_;
  Int* bits_;

  void sum(const C* factors, C* out) const {
    for (int64_t i = 0; i < width_; i += L) {
      Vector total = {};
      int64_t row = last_;
      for (int64_t k = 0; k < taps_; k++) {
        total += load<Vector>(factors + k * kBlock + i) * load<Vector>(shifted_ + row * kBlock + i);
        row = row > 0 ? row - 1 : taps_ - 1;
      }
      save(out + i, total);
    }
  }
};

// Row t, at least -P, of m neurons from n0, of which a whole block can be read.
template <class C>
inline const C* block_row(const DelayScan& a, int64_t t, int64_t n0, int64_t m, C* buffer) {
  const Rows& rows = t < 0 ? a.past : a.x;
  const int64_t at = t < 0 ? t + a.P : t;
  const C* row = read_row<C>(rows, at, n0, m, buffer);
  if (m == kBlock || row == buffer) return row;
  copy(buffer, row, m);
  return buffer;
}

template <class C>
void forward_block(const DelayForward& a, int64_t n0, int64_t m, C* scratch) {
  alignas(64) C x_buffer[kBlock] = {}, y_buffer[kBlock];
  Delays<C> delays(a, n0, m, scratch);
  const bool streaming = streams<C>(a.T, a.N);
  for (int64_t t = -(delays.reach() < a.P ? delays.reach() : a.P); t < a.T; t++) {
    if (t >= 0 && t + kAhead < a.T) prefetch_row(a.x, t + kAhead, n0, m);
    delays.push(block_row(a, t, n0, m, x_buffer));
    if (t < 0) continue;
    C* y = m == kBlock ? output_row<C>(a.y, a.x.dtype, t * a.N + n0, streaming, y_buffer) : y_buffer;
    delays.weighted(y);
    if (y == y_buffer) flush_row(a.y, a.x.dtype, t * a.N + n0, m, y_buffer);
  }
}

// The same backwards in time: the gradient of an input is what became of it in later steps.
template <class C>
void backward_block(const DelayBackward& a, int64_t n0, int64_t m, C* scratch) {
  alignas(64) C x_buffer[kBlock] = {}, grad_buffer[kBlock] = {}, out_buffer[kBlock], total[kBlock] = {};
  const C silence[kBlock] = {};
  Delays<C> delays(a, n0, m, scratch);
  const bool streaming = streams<C>(a.T, a.N);
  DelayScan grads = a;
  grads.x = a.grad_y;
  for (int64_t t = a.T - 1; t >= -a.P; t--) {
    if (t >= kAhead) prefetch_row(a.grad_y, t - kAhead, n0, m);
    delays.push(t < 0 ? silence : block_row(grads, t, n0, m, grad_buffer));
    if (void* out = t < 0 ? a.grad_past : a.grad_x) {
      const int64_t offset = (t < 0 ? t + a.P : t) * a.N + n0;
      C* row = m == kBlock ? output_row<C>(out, a.x.dtype, offset, streaming, out_buffer) : out_buffer;
      delays.weighted(row);
      if (row == out_buffer) flush_row(out, a.x.dtype, offset, m, out_buffer);
    }
    if (!a.grad_d) continue;
    if (t >= kAhead) prefetch_row(a.x, t - kAhead, n0, m);
    const C* x = block_row(a, t, n0, m, x_buffer);
    delays.sloped(out_buffer);
    for (int64_t i = 0; i < kBlock; i++) total[i] += x[i] * out_buffer[i];
  }
  if (a.grad_d) copy(static_cast<C*>(a.grad_d) + n0, total, m);
}

template <class C, class Scan>
void blocks(const Scan& a, int64_t begin, int64_t end, void* scratch, void (*block)(const Scan&, int64_t, int64_t, C*)) {
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) block(a, n0, end - n0 < kBlock ? end - n0 : kBlock, static_cast<C*>(scratch));
  stream_done();
}

}  // namespace

void delay_forward(const DelayForward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? blocks<double>(a, begin, end, scratch, forward_block) : blocks<float>(a, begin, end, scratch, forward_block);
}

void delay_backward(const DelayBackward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? blocks<double>(a, begin, end, scratch, backward_block) : blocks<float>(a, begin, end, scratch, backward_block);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
