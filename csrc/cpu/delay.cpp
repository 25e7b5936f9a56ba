// Neurons have different delays, so a row of the output depends on many rows of the input. Rows go through stages:
// stage s stores the last 2^s rows and passes on, by a bit of each delay, the row itself or the one 2^s steps before.
// So every load is aligned and contiguous, and only as many rows as the longest delay has steps are stored. Many rows
// of a vector of neurons go through in registers: a stage then stores only what the next rows need.
#include "core/delay.h"

#include <type_traits>

#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = kDelayBlock;
constexpr int kRows = kVectorBytes == 64 ? 16 : 8;  // rows of a tile: half as many as there are registers

// Rows at a constant stride. If there are fewer than kRows, the others alias the last one, which must be written last.
template <class C>
struct Tile {
  C* first;
  int64_t stride, last;
  C* operator[](int64_t k) const { return first + min(k, last) * stride; }
};

// Stores the sums of kRows steps into their rows. Lines: bypassing the caches.
template <bool Lines, class C, class Vector, class Sum>
inline void store(const Tile<C>& rows, int64_t i, const Vector* steps, const Sum& sum) {
#pragma GCC unroll 16
  for (int j = 0; j < kRows; j++) {
    const int k = Lines ? j : kRows - 1 - j;
    const Vector v = sum(steps + k);
    if constexpr (Lines)
      stream_line(rows.first + k * rows.stride + i, &v);
    else
      vector_at(rows[k] + i) = v;
  }
}

// Delays of a block of neurons. Taps: number of taps, 2 for linear interpolation; 0: only known at run time.
template <class C, int Taps>
class Delays {
  using Vector = typename Vectors<C>::Type;
  using Int = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  using Bits = typename Vectors<Int>::Type;
  static constexpr int64_t L = Vectors<C>::kLanes;

 public:
  Delays(const DelayScan& a, C* scratch)
      : a_(a), taps_(Taps ? Taps : delay_taps(a)), span_(Taps ? Taps - 1 : taps_ - 1 + kRows), weights_(scratch) {
    slopes_ = weights_ + taps_ * kBlock;
    shifted_ = slopes_ + taps_ * kBlock;
    bits_ = reinterpret_cast<Int*>(shifted_ + span_ * kBlock);
  }

  // Starts before the first row of m neurons from n0. Where delays repeat, as they do in a batch, weights are reused.
  void start(int64_t n0, int64_t m) {
    if (m > m_ || (a_.d.data && (n0 - n0_) % (a_.d.count * a_.d.inner))) weigh(n0, m);
    width_ = (m + L - 1) / L * L;
    tiles_ = 0;
    for (int64_t i = 0; i < span_ * kBlock; i++) shifted_[i] = C(0);
    for (int64_t i = 0; i < ((int64_t{1} << stages_) - 1) * kBlock; i++) stored_[i] = C(0);
  }

  // Number of steps before an output that it depends on.
  int64_t reach() const { return longest_ + taps_ - 1; }

  // Sum of a step and those before it, weighted by the taps.
  class Sum {
   public:
    Sum(const C* factors, int64_t taps) : taps_(taps), factors_(factors) {
      for (int j = 0; j < Taps; j++) registers_[j] = vector_at(factors + j * kBlock);
    }
    Vector operator()(const Vector* step) const {
      Vector total = {};
      if constexpr (Taps) {
        total = registers_[0] * step[0];
        for (int j = 1; j < Taps; j++) total += registers_[j] * step[-j];
      } else {
        for (int64_t j = 0; j < taps_; j++) total += vector_at(factors_ + j * kBlock) * step[-j];
      }
      return total;
    }

   private:
    int64_t taps_;
    const C* factors_;
    Vector registers_[Taps ? Taps : 1];
  };

  // Derivative with respect to the delays. For linear interpolation it is a difference; `settle` applies the factor.
  class Slope {
   public:
    Slope(const C* factors, int64_t taps) : taps_(taps), factors_(factors) {}
    Vector operator()(const Vector* step) const {
      if constexpr (Taps == 2) return step[-1] - step[0];
      Vector total = {};
      for (int64_t j = 0; j < taps_; j++) total += vector_at(factors_ + j * kBlock) * step[-j];
      return total;
    }

   private:
    int64_t taps_;
    const C* factors_;
  };
  void settle(C* totals) const {
    // Adding 0 turns the -0 of an empty sum into 0, as elsewhere.
    for (int64_t i = 0; Taps == 2 && i < width_; i++) totals[i] = totals[i] * slopes_[kBlock + i] + C(0);
  }

  // Pushes the next rows, readable in whole vectors. For each vector of neurons at i, use(i, steps, weighted, sloped)
  // gets the rows shifted by whole delays and the sums to compute. fetch(k) is called once per row in between.
  template <class Fetch, class Use>
  void push(const Tile<const C>& rows, const Fetch& fetch, const Use& use) {
    // Copies: to the compiler, a store of a vector may change members.
    const Stages stages{stored_, bits_, stages_, tiles_};
    const int64_t width = width_, taps = taps_, span = span_;
    C *const shifted = shifted_, *const weights = weights_, *const slopes = slopes_;
    int64_t fetched = 0;
    for (int64_t i = 0; i < width; i += L) {
      Vector v[1 + kRows];
      Vector* const current = v + 1;
#pragma GCC unroll 16
      for (int k = 0; k < kRows; k++) current[k] = vector_at(rows[k] + i);
      for (; fetched * width < (i + L) * kRows; fetched++) fetch(fetched);
      stages.template shift<1>(i, current);
      C* const last = shifted + i * span;
      if constexpr (Taps == 2) {
        v[0] = vector_at(last);
        vector_at(last) = current[kRows - 1];
        use(i, current, Sum(weights + i, taps), Slope(slopes + i, taps));
      } else {
        for (int64_t k = 0; k < taps - 1; k++) vector_at(last + k * L) = vector_at(last + (k + kRows) * L);
        for (int k = 0; k < kRows; k++) vector_at(last + (taps - 1 + k) * L) = current[k];
        use(i, reinterpret_cast<const Vector*>(last) + taps - 1, Sum(weights + i, taps), Slope(slopes + i, taps));
      }
    }
    tiles_++;
  }

 private:
  const DelayScan& a_;
  int64_t n0_ = 0, m_ = 0, width_ = 0, taps_, span_, stages_ = 0, longest_ = 0, tiles_ = 0;
  C *weights_, *slopes_, *shifted_, *stored_ = nullptr;
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
    stored_ = reinterpret_cast<C*>(bits_ + stages_ * kBlock);
  }

  struct Stages {
    C* stored;
    const Int* bits;
    int64_t count, tiles;

    // Stage with Q stored rows, and those after it.
    template <int Q>
    void shift(int64_t i, Vector* current) const {
      constexpr int s = __builtin_ctz(Q);
      if constexpr (Q < kRows) {
        if (s >= count) return;
        const Bits later = vector_at(bits + s * kBlock + i);
        C* const rows = stored + (Q - 1) * kBlock + i * Q;
        Vector before[Q];
#pragma GCC unroll 16
        for (int k = 0; k < Q; k++) {
          before[k] = vector_at(rows + k * L);
          vector_at(rows + k * L) = current[kRows - Q + k];
        }
#pragma GCC unroll 16
        for (int k = kRows - 1; k >= 0; k--) current[k] = later ? (k < Q ? before[k] : current[k - Q]) : current[k];
        shift<2 * Q>(i, current);
      } else {
        for (int64_t t = s; t < count; t++) {
          const int64_t q = int64_t{1} << t;
          const Bits later = vector_at(bits + t * kBlock + i);
          C* const rows = stored + (q - 1) * kBlock + i * q + (tiles & (q / kRows - 1)) * kRows * L;
#pragma GCC unroll 16
          for (int k = 0; k < kRows; k++) {
            const Vector before = vector_at(rows + k * L);
            vector_at(rows + k * L) = current[k];
            current[k] = later ? before : current[k];
          }
        }
      }
    }
  };
};

// Prefetches the rows that are read next, as far as they exist.
struct Ahead {
  const char* first;
  int64_t stride, last, bytes;

  Ahead(const Rows& rows, int64_t t, int64_t by, int64_t T, int64_t n0, int64_t m) : last(by > 0 ? T - 1 - t : t) {
    const int64_t size = bytes_of(rows.dtype);
    const bool exists = rows.data && t >= 0 && last >= 0;
    first = static_cast<const char*>(rows.data) + (exists ? (t * rows.time_stride + n0 * rows.inner_stride) * size : 0);
    stride = by * rows.time_stride * size;
    bytes = exists ? rows.inner_stride ? m * size : 1 : 0;
  }
  void operator()(int64_t k) const {
    const char* row = first + min(k, last) * stride;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 0, 2);
  }
};

// A tile of rows of m neurons from n0: `count` of them, from step t on, in steps of `by`, 1 or -1.
struct Taken {
  int64_t n0, m, t, by, count;

  int64_t step(int64_t k) const { return t + by * k; }
  bool past() const { return min(t, step(count - 1)) < 0; }
};

template <class C>
inline bool whole_vectors(const Taken& r) {
  return r.m % Vectors<C>::kLanes == 0;
}

// Rows of x, in place if possible, else in buffer. Steps before the first are read from past; before those, rows are 0.
template <class C>
inline Tile<const C> inputs(const DelayScan& a, const Taken& r, C (*buffer)[kBlock]) {
  if (a.x.data && a.x.inner_stride && a.x.dtype == native<C>() && whole_vectors<C>(r) && !r.past())
    return {row_at<C>(a.x, r.t, r.n0), r.by * a.x.time_stride, r.count - 1};
  for (int64_t k = 0; k < kRows; k++) {
    const int64_t t = r.step(min(k, r.count - 1));
    const C* const row =
        t < -a.P ? nullptr : read_row<C>(t < 0 ? a.past : a.x, t < 0 ? t + a.P : t, r.n0, r.m, buffer[k]);
    for (int64_t i = row ? r.m : 0; i < kBlock; i++) buffer[k][i] = C(0);
    if (row && row != buffer[k]) copy(buffer[k], row, r.m);
  }
  return {buffer[0], kBlock, kRows - 1};
}

// Output rows of T steps, and of the steps before them (past): where they are computed.
template <class C>
class Outputs {
 public:
  Outputs(const DelayScan& a, void* data, void* past, int64_t m)
      : a_(a),
        data_(data),
        past_(past),
        streaming_(streams<C>(a.T, a.N)),
        lines_(kVectorBytes == 64 && streaming_ && a.N % kLine<C> == 0 && m % kLine<C> == 0 &&
               reinterpret_cast<uintptr_t>(data) % 64 == 0) {}

  Tile<C> rows(const Taken& r, C (*buffer)[kBlock]) const {
    if (data_ && a_.x.dtype == native<C>() && whole_vectors<C>(r) && (lines_ || !streaming_) && !r.past())
      return {static_cast<C*>(data_) + r.t * a_.N + r.n0, r.by * a_.N, r.count - 1};
    return {buffer[0], kBlock, kRows - 1};
  }

  // Whether rows bypass the caches straight from registers: a vector must be a whole line of 64 bytes, and written
  // once.
  bool lines(const Taken& r, const Tile<C>& rows, C (*buffer)[kBlock]) const {
    return lines_ && r.count == kRows && rows.first != buffer[0];
  }

  void flush(const Taken& r, const Tile<C>& rows, C (*buffer)[kBlock]) const {
    for (int64_t k = 0; k < r.count && rows.first == buffer[0]; k++) {
      const int64_t t = r.step(k);
      if (void* const to = t < 0 ? past_ : data_)
        flush_row(to, a_.x.dtype, (t < 0 ? t + a_.P : t) * a_.N + r.n0, r.m, streaming_, buffer[k]);
    }
  }

 private:
  const DelayScan& a_;
  void *data_, *past_;
  bool streaming_, lines_;
};

template <class C, int Taps>
void block(const DelayForward& a, Delays<C, Taps>& delays, int64_t n0, int64_t m) {
  alignas(64) C x_buffer[kRows][kBlock], y_buffer[kRows][kBlock];
  delays.start(n0, m);
  const Outputs<C> outputs(a, a.y, nullptr, m);
  for (int64_t t = -min(delays.reach(), a.P); t < a.T; t += kRows) {
    const Taken taken{n0, m, t, 1, min(a.T - t, kRows)};
    const Tile<const C> x = inputs(a, taken, x_buffer);
    const Tile<C> y = outputs.rows(taken, y_buffer);
    const Ahead fetch(a.x, t + kRows, 1, a.T, n0, m);
    const auto run = [&](auto lines) {
      delays.push(x, fetch, [&](int64_t i, const auto* steps, const auto& weighted, const auto&) {
        store<decltype(lines)::value>(y, i, steps, weighted);
      });
    };
    outputs.lines(taken, y, y_buffer) ? run(std::true_type{}) : run(std::false_type{});
    outputs.flush(taken, y, y_buffer);
  }
}

// The same backwards in time: the gradient of an input is a sum over later outputs.
template <class C, int Taps>
void block(const DelayBackward& a, Delays<C, Taps>& delays, int64_t n0, int64_t m) {
  using Vector = typename Vectors<C>::Type;
  alignas(64) C x_buffer[kRows][kBlock], grad_buffer[kRows][kBlock], out_buffer[kRows][kBlock], total[kBlock] = {};
  delays.start(n0, m);
  const Outputs<C> outputs(a, a.grad_x, a.grad_past, m);
  const bool any = a.grad_x || a.grad_past;
  DelayScan grads = a;
  grads.x = a.grad_y;
  grads.P = 0;
  for (int64_t t = a.T - 1; t >= -a.P; t -= kRows) {
    const Taken taken{n0, m, t, -1, min(t + 1 + a.P, kRows)};
    const Tile<const C> grad_y = inputs(grads, taken, grad_buffer), x = a.grad_d ? inputs(a, taken, x_buffer) : grad_y;
    const Tile<C> out = outputs.rows(taken, out_buffer);
    const Ahead grad_ahead(a.grad_y, t - kRows, -1, a.T, n0, m), x_ahead(a.x, t - kRows, -1, a.T, n0, m);
    const int64_t count = taken.count;
    for (int64_t k = 0; k < kRows && a.grad_d; k++) x_ahead(k);
    const auto run = [&](auto lines, auto of_d) {
      delays.push(grad_y, grad_ahead, [&](int64_t i, const Vector* steps, const auto& weighted, const auto& sloped) {
        if (any) store<decltype(lines)::value>(out, i, steps, weighted);
        if (!of_d) return;
        Vector sums = vector_at(total + i);
#pragma GCC unroll 16
        for (int k = 0; k < kRows; k++)
          if (lines || k < count) sums += vector_at(x[k] + i) * sloped(steps + k);
        vector_at(total + i) = sums;
      });
    };
    const auto choose = [&](auto lines) { a.grad_d ? run(lines, std::true_type{}) : run(lines, std::false_type{}); };
    outputs.lines(taken, out, out_buffer) ? choose(std::true_type{}) : choose(std::false_type{});
    outputs.flush(taken, out, out_buffer);
  }
  if (!a.grad_d) return;
  delays.settle(total);
  copy(static_cast<C*>(a.grad_d) + n0, total, m);
}

template <class C, int Taps, class Scan>
void blocks(const Scan& a, int64_t begin, int64_t end, void* scratch) {
  Delays<C, Taps> delays(a, static_cast<C*>(scratch));
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) block(a, delays, n0, min(end - n0, kBlock));
  stream_done();
}

template <class C, class Scan>
void run(const Scan& a, int64_t begin, int64_t end, void* scratch) {
  a.radius == 1 && delay_taps(a) == 2 ? blocks<C, 2>(a, begin, end, scratch) : blocks<C, 0>(a, begin, end, scratch);
}

}  // namespace

void delay_forward(const DelayForward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? run<double>(a, begin, end, scratch) : run<float>(a, begin, end, scratch);
}

void delay_backward(const DelayBackward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? run<double>(a, begin, end, scratch) : run<float>(a, begin, end, scratch);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
