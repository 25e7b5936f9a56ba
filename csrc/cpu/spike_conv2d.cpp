#include "core/spike_conv2d.h"

#include "cpu/lanes.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class T>
struct Lanes {
  typedef T Loose __attribute__((vector_size(kVectorBytes), aligned(sizeof(T))));  // unaligned
  static constexpr int64_t kCount = Vectors<T>::kLanes, kLine = kConvLine / kCount;
};

// Bits of an image, and its values unless they are all 0 or 1.
template <class T>
struct Image {
  const uint64_t* bits;
  const T* values;
};

template <class T>
Image<T> image(const SpikeConv2d& a, int64_t n) {
  return {a.bits + n * conv_words(a), a.binary ? nullptr : static_cast<const T*>(a.x) + n * a.H * a.W * a.C};
}

// Calls found(c, value) for the nonzero ones of channels [begin, end) of pixel p.
template <class T, class Found>
inline void each_event(const SpikeConv2d& a, const Image<T>& image, int64_t p, int64_t begin, int64_t end,
                       const Found& found) {
  for (int64_t c = begin; c < end; c += 64) {
    const int64_t first = p * a.C + c, at = first & 63, n = min(end - c, 64);
    uint64_t bits = image.bits[first >> 6] >> at;
    if (at + n > 64) bits |= image.bits[(first >> 6) + 1] << (64 - at);
    if (n < 64) bits &= (uint64_t{1} << n) - 1;
    for (; bits; bits &= bits - 1) {
      const int64_t l = __builtin_ctzll(bits);
      found(c + l, image.values ? image.values[first + l] : T(1));
    }
  }
}

// Events of an image, row by row. Key of an event: its index in its row, column times C plus channel.
template <class T>
struct Events {
  T* values;
  int32_t *keys, *starts;  // starts: first event of each pixel, and the end of the last
};

template <class T>
Events<T> events_at(const SpikeConv2d& a, char* scratch) {
  const int64_t pixels = a.H * a.W;
  Events<T> e{reinterpret_cast<T*>(scratch), nullptr, nullptr};
  e.keys = reinterpret_cast<int32_t*>(e.values + pixels * a.C);
  e.starts = e.keys + pixels * a.C;
  return e;
}

template <class T, class X>
void list_events(const SpikeConv2d& a, const Image<X>& image, char* scratch) {
  const Events<T> e = events_at<T>(a, scratch);
  const int64_t pixels = a.H * a.W;
  int32_t count = 0;
  for (int64_t p = 0; p < pixels; p++) {
    e.starts[p] = count;
    const int32_t column = static_cast<int32_t>(p % a.W * a.C);
    each_event(a, image, p, 0, a.C, [&](int64_t c, X value) {
      e.keys[count] = column + static_cast<int32_t>(c);
      e.values[count++] = value;
    });
  }
  e.starts[pixels] = count;
}

// Outputs [o, o + 16 Lines) of an image, with their part of the table.
template <class T, int Lines, bool Binary>
void sum_image(const SpikeConv2d& a, const Events<T>& e, const T* table, int64_t o, T* y) {
  using Loose = typename Lanes<T>::Loose;
  constexpr int64_t lanes = Lanes<T>::kCount, V = Lines * Lanes<T>::kLine, width = Lines * kConvLine;
  T bias[width], out[width];
  const T* bias_data = static_cast<const T*>(a.bias);
  for (int64_t i = 0; i < width; i++) bias[i] = bias_data && o + i < a.O ? bias_data[o + i] : T(0);
  const int64_t outputs = min(width, a.O - o);
  for (int64_t oy = 0; oy < a.out_h; oy++) {
    const int64_t y0 = oy * a.stride_h - a.pad_h, r0 = max(0, -y0), r1 = min(a.kh, a.H - y0);
    for (int64_t ox = 0; ox < a.out_w; ox++) {
      const int64_t x0 = ox * a.stride_w - a.pad_w, first = max(0, x0), last = max(first, min(a.W, x0 + a.kw));
      Loose sums[V];
      for (int64_t v = 0; v < V; v++) sums[v] = *reinterpret_cast<const Loose*>(bias + v * lanes);
      for (int64_t r = r0; r < r1; r++) {
        // The columns under a row of the kernel are contiguous, as are the rows of the table.
        const int32_t* row = e.starts + (y0 + r) * a.W;
        const T* rows = table + (r * a.kw - x0) * a.C * width;
        for (int32_t k = row[first], end = row[last]; k < end; k++) {
          const T* weights = rows + e.keys[k] * width;
          for (int64_t v = 0; v < V; v++) {
            const Loose w = *reinterpret_cast<const Loose*>(weights + v * lanes);
            sums[v] += Binary ? w : w * e.values[k];
          }
        }
      }
      T* to = y + (oy * a.out_w + ox) * a.O + o;
      T* target = outputs == width ? to : out;
      for (int64_t v = 0; v < V; v++) *reinterpret_cast<Loose*>(target + v * lanes) = sums[v];
      if (target == out)
        for (int64_t i = 0; i < outputs; i++) to[i] = out[i];
    }
  }
}

// The same for up to 16 outputs and kernels of KW columns. With so few outputs, the latency of dependent additions
// dominates. Here the events of a pixel are added, row by row of the kernel, to the KW outputs that the row reaches,
// which are in registers: KW independent sums. Each adds the same numbers in the same order. Incomplete rows of outputs
// are in a ring of kh, including columns outside of y. The table stores the columns of the kernel contiguously, the
// last first.
template <class T, bool Binary, int KW>
void sum_pixels_by(const SpikeConv2d& a, const Events<T>& e, const T* table, T* y, T* ring) {
  using Loose = typename Lanes<T>::Loose;
  constexpr int64_t lanes = Lanes<T>::kCount, V = Lanes<T>::kLine, width = kConvLine;
  T bias[width];
  for (int64_t i = 0; i < width; i++) bias[i] = a.bias && i < a.O ? static_cast<const T*>(a.bias)[i] : T(0);
  const int64_t columns = a.W + KW - 1, above = a.kh - 1 - a.pad_h, left = KW - 1 - a.pad_w;
  const auto start = [&](T* row) {
    for (int64_t x = 0; x < columns; x++)
      for (int64_t i = 0; i < width; i++) row[x * width + i] = bias[i];
  };
  for (int64_t r = 0; r < a.kh; r++) start(ring + r * columns * width);
  for (int64_t f = 0; f < a.H + a.kh - 1; f++) {  // row f of x completes output row f; y begins at output row `above`
    for (int64_t x = 0; f < a.H && x < a.W; x++) {
      const int32_t first = e.starts[f * a.W + x], last = e.starts[f * a.W + x + 1];
      for (int64_t r = 0; r < a.kh && first < last; r++) {
        const int64_t row = f + a.kh - 1 - r;
        if (row < above || row >= above + a.out_h) continue;
        T* to = ring + (row % a.kh * columns + x) * width;
        const T* rows = table + (r - x) * a.C * KW * width;  // keys include the pixel's column
        Loose sums[KW][V];
        for (int j = 0; j < KW; j++)
          for (int64_t v = 0; v < V; v++) sums[j][v] = *reinterpret_cast<const Loose*>(to + j * width + v * lanes);
        for (int32_t k = first; k < last; k++) {
          const T* weights = rows + e.keys[k] * (KW * width);
          for (int j = 0; j < KW; j++)
            for (int64_t v = 0; v < V; v++) {
              const Loose w = *reinterpret_cast<const Loose*>(weights + j * width + v * lanes);
              sums[j][v] += Binary ? w : w * e.values[k];
            }
        }
        for (int j = 0; j < KW; j++)
          for (int64_t v = 0; v < V; v++) *reinterpret_cast<Loose*>(to + j * width + v * lanes) = sums[j][v];
      }
    }
    T* done = ring + f % a.kh * columns * width;
    if (f >= above && f < above + a.out_h)
      for (int64_t x = 0; x < a.out_w; x++)
        for (int64_t i = 0; i < a.O; i++) y[((f - above) * a.out_w + x) * a.O + i] = done[(left + x) * width + i];
    start(done);
  }
}

template <class T, bool Binary>
void sum_pixels(const SpikeConv2d& a, const Events<T>& e, const T* table, T* y, T* ring) {
  a.kw == 3 ? sum_pixels_by<T, Binary, 3>(a, e, table, y, ring) : sum_pixels_by<T, Binary, 5>(a, e, table, y, ring);
}

// Pixels that meet the same weights of the kernel: every stride_h-th row from r, every stride_w-th column from s.
struct Phase {
  int64_t r, s;
};

// Events of some images by channel, of `channels` channels from `first` on. Key of an event: the row of the padded
// gradients that the first kernel weight of its phase meets.
template <class T>
struct ChannelEvents {
  T *padded, *values;      // padded: [images, padded_h, padded_w, width], zeros around the gradients
  int32_t *keys, *counts;  // keys and values have `room` entries per channel
  int64_t room, first, channels;
};

template <class T>
void list_by_channel(const SpikeConv2d& a, int64_t begin, int64_t end, Phase phase, const ChannelEvents<T>& e) {
  const int64_t padded_w = conv_padded_w(a), above = a.kh - 1 - a.pad_h, left = a.kw - 1 - a.pad_w;
  for (int64_t c = 0; c < e.channels; c++) e.counts[c] = 0;
  for (int64_t n = begin; n < end; n++)
    for (int64_t y = 0; y < a.H; y++) {
      const int64_t below = y + a.pad_h - phase.r;
      if (below < 0 || below % a.stride_h) continue;
      for (int64_t x = 0; x < a.W; x++) {
        const int64_t right = x + a.pad_w - phase.s;
        if (right < 0 || right % a.stride_w) continue;
        const int32_t key = static_cast<int32_t>((n - begin) * conv_padded(a) +
                                                 (below / a.stride_h + above) * padded_w + right / a.stride_w + left);
        each_event(a, image<T>(a, n), y * a.W + x, e.first, e.first + e.channels, [&](int64_t c, T value) {
          const int64_t at = (c - e.first) * e.room + e.counts[c - e.first]++;
          e.keys[at] = key;
          if (!a.binary) e.values[at] = value;
        });
      }
    }
}

// Index in the kernel of the next weight of a phase, `taps` columns on.
inline int64_t next_tap(const SpikeConv2d& a, Phase phase, int64_t tap, int64_t taps) {
  const int64_t r = tap / a.kw, s = tap % a.kw + taps * a.stride_w;
  return s < a.kw ? r * a.kw + s : (r + a.stride_h) * a.kw + phase.s;
}

// KW: columns of the kernel, or 1 for any number. If the sums fit in registers, the weights of a row of the kernel are
// summed together: their gradients are contiguous.
template <class T, int Lines, bool Binary, int KW>
void sum_gradient_by(const SpikeConv2d& a, const ChannelEvents<T>& e, Phase phase, T* table) {
  using Loose = typename Lanes<T>::Loose;
  constexpr int64_t lanes = Lanes<T>::kCount, V = Lines * Lanes<T>::kLine, width = Lines * kConvLine;
  constexpr int64_t registers = kVectorBytes == 64 ? 24 : 12, taps = KW * V <= registers ? KW : 1;
  const int64_t padded_w = conv_padded_w(a);
  for (int64_t i = 0; i < e.channels; i++) {
    const int64_t c = e.first + i;
    const int32_t *keys = e.keys + i * e.room, count = e.counts[i];
    const T* values = e.values + i * e.room;
    if (count == 0) continue;
    // With a stride, `taps` is 1.
    for (int64_t tap = phase.r * a.kw + phase.s; tap < a.kh * a.kw; tap = next_tap(a, phase, tap, taps)) {
      const T* seen =
          e.padded - ((tap / a.kw - phase.r) / a.stride_h * padded_w + (tap % a.kw - phase.s) / a.stride_w) * width;
      Loose sums[taps][V], others[V] = {};
      for (int64_t j = 0; j < taps; j++)
        for (int64_t v = 0; v < V; v++)
          sums[j][v] = *reinterpret_cast<const Loose*>(table + ((tap + j) * a.C + c) * width + v * lanes);
      const auto add = [&](Loose* some, int64_t j, int32_t k) {
        for (int64_t v = 0; v < V; v++) {
          const Loose g = *reinterpret_cast<const Loose*>(seen + (keys[k] - j) * width + v * lanes);
          some[v] += Binary ? g : g * values[k];
        }
      };
      int32_t k = 0;
      // With few outputs, events alternate between two sums: an addition waits for the one before, and few outputs do
      // not fill the wait.
      constexpr bool two = Lines <= 2 && taps == 1;
      for (; two && k + 2 <= count; k += 2) add(sums[0], 0, k), add(others, 0, k + 1);
      for (; k < count; k++)
        for (int64_t j = 0; j < taps; j++) add(sums[j], j, k);
      for (int64_t j = 0; j < taps; j++)
        for (int64_t v = 0; v < V; v++)
          *reinterpret_cast<Loose*>(table + ((tap + j) * a.C + c) * width + v * lanes) =
              two ? sums[j][v] + others[v] : sums[j][v];
    }
  }
}

template <class T, int Lines, bool Binary>
void sum_gradient(const SpikeConv2d& a, const ChannelEvents<T>& e, Phase phase, T* table) {
  switch (a.stride_w == 1 ? a.kw : 1) {
    case 3: return sum_gradient_by<T, Lines, Binary, 3>(a, e, phase, table);
    case 5: return sum_gradient_by<T, Lines, Binary, 5>(a, e, phase, table);
    default: return sum_gradient_by<T, Lines, Binary, 1>(a, e, phase, table);
  }
}

// Copies the gradients of some images; `zeros`: clears their padding first, which then persists.
template <class T>
void pad(const SpikeConv2d& a, int64_t begin, int64_t end, int64_t o, int64_t width, T* padded, bool zeros) {
  const int64_t padded_w = conv_padded_w(a), above = a.kh - 1 - a.pad_h, left = a.kw - 1 - a.pad_w,
                outputs = min(width, a.O - o);
  for (int64_t i = 0; i < (zeros ? conv_backward_images(a) * conv_padded(a) * width : 0); i++) padded[i] = T(0);
  for (int64_t n = begin; n < end; n++)
    for (int64_t y = 0; y < a.out_h; y++)
      for (int64_t x = 0; x < a.out_w; x++) {
        const T* from = static_cast<const T*>(a.grad) + ((n * a.out_h + y) * a.out_w + x) * a.O + o;
        T* to = padded + ((n - begin) * conv_padded(a) + (y + above) * padded_w + x + left) * width;
        if (outputs == width) {
          for (int64_t i = 0; i < width; i++) to[i] = from[i];
        } else {
          for (int64_t i = 0; i < width; i++) to[i] = i < outputs ? from[i] : T(0);
        }
      }
}

// Calls run(lines, o, offset of its part of the table) for each block of outputs.
template <class Run>
void each_block(const SpikeConv2d& a, const Run& run) {
  for (int64_t o = 0; o < a.O; o += kConvBlock)
    run((min(kConvBlock, a.O - o) + kConvLine - 1) / kConvLine, o, a.kh * a.kw * a.C * o);
}

// Instantiation of NAME for run-time values of its template arguments.
#define SNNFAST_CONV_CHOICE(NAME, LINES, BINARY)                    \
  (LINES == 1   ? (BINARY ? &NAME<T, 1, true> : &NAME<T, 1, false>) \
   : LINES == 2 ? (BINARY ? &NAME<T, 2, true> : &NAME<T, 2, false>) \
   : LINES == 3 ? (BINARY ? &NAME<T, 3, true> : &NAME<T, 3, false>) \
                : (BINARY ? &NAME<T, 4, true> : &NAME<T, 4, false>))

bool by_pixels(const SpikeConv2d& a) {
  return a.O <= kConvLine && (a.kw == 3 || a.kw == 5) && a.stride_h == 1 && a.stride_w == 1;
}

// Calls at(index in the weight, index in the table) for the weights of W outputs from o on, a line of outputs of some
// inputs at a time, so that strided accesses stay in L1: in the table the weights of one tap are often a multiple of
// 4 KiB from those of the next, and more taps than the cache has ways would evict each other. Outputs that do not exist
// have index -1 in the weight.
template <class At>
void each_weight(const SpikeConv2d& a, int64_t o, int64_t W, const At& at) {
  constexpr int64_t inputs = 16;
  const int64_t taps = a.kh * a.kw;
  for (int64_t c0 = 0; c0 < a.C; c0 += inputs)
    for (int64_t i0 = 0; i0 < W; i0 += kConvLine)
      for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t c = c0; c < min(c0 + inputs, a.C); c++)
          for (int64_t i = i0; i < i0 + kConvLine; i++) {
            const int64_t index =
                a.turned ? (c * a.O + o + i) * taps + taps - 1 - tap : ((o + i) * a.C + c) * taps + tap;
            at(o + i < a.O ? index : -1, (tap * a.C + c) * W + i);
          }
}

// X: type of x and weight; T: type of the sums.
template <class T, class X = T>
void pack(const SpikeConv2d& a) {
  const X* weight = static_cast<const X*>(a.weight);
  T* table = static_cast<T*>(a.table);
  if (by_pixels(a)) {
    each_weight(a, 0, kConvLine, [&](int64_t index, int64_t to) {
      const int64_t i = to % kConvLine, c = to / kConvLine % a.C, tap = to / kConvLine / a.C, r = tap / a.kw,
                    s = a.kw - 1 - tap % a.kw;
      table[((r * a.C + c) * a.kw + s) * kConvLine + i] = index < 0 ? T(0) : weight[index];
    });
    return;
  }
  each_block(a, [&](int64_t lines, int64_t o, int64_t offset) {
    each_weight(a, o, lines * kConvLine,
                [&](int64_t index, int64_t to) { table[offset + to] = index < 0 ? T(0) : weight[index]; });
  });
}

template <class T, class X = T>
void forward_images(const SpikeConv2d& a, int64_t begin, int64_t end, char* scratch) {
  const T* table = static_cast<const T*>(a.table);
  T* y = static_cast<T*>(a.y);
  const int64_t size = a.out_h * a.out_w * a.O, together = conv_forward_images(a);
  char* ring = scratch + together * conv_events(a);
  for (int64_t first = begin; first < end; first += together) {
    const int64_t last = min(first + together, end);
    const auto each_image = [&](const auto& run) {
      for (int64_t n = first; n < last; n++) run(n, scratch + (n - first) * conv_events(a));
    };
    each_image([&](int64_t n, char* events) { list_events<T>(a, image<X>(a, n), events); });
    if (by_pixels(a)) {
      const auto run = a.binary ? &sum_pixels<T, true> : &sum_pixels<T, false>;
      each_image([&](int64_t n, char* events) {
        run(a, events_at<T>(a, events), table, y + n * size, reinterpret_cast<T*>(ring));
      });
      continue;
    }
    each_block(a, [&](int64_t lines, int64_t o, int64_t offset) {
      const auto run = SNNFAST_CONV_CHOICE(sum_image, lines, a.binary);
      each_image([&](int64_t n, char* events) { run(a, events_at<T>(a, events), table + offset, o, y + n * size); });
    });
  }
}

// Images [begin, end) of a group, channels [e.first, e.first + e.channels) of its table.
template <class T>
void backward_images(const SpikeConv2d& a, int64_t begin, int64_t end, const ChannelEvents<T>& e, T* table) {
  each_block(a, [&](int64_t lines, int64_t, int64_t offset) {
    const int64_t width = lines * kConvLine;
    for (int64_t tap = 0; tap < a.kh * a.kw; tap++) {
      T* rows = table + offset + (tap * a.C + e.first) * width;
      for (int64_t i = 0; i < e.channels * width; i++) rows[i] = T(0);
    }
  });
  int64_t padded_for = 0;  // lines
  for (int64_t first = begin, last = 0; first < end; first = last) {
    last = min(first + conv_backward_images(a), end);
    for (Phase phase{0, 0}; phase.r < min(a.kh, a.stride_h); phase.r++)
      for (phase.s = 0; phase.s < min(a.kw, a.stride_w); phase.s++) {
        list_by_channel(a, first, last, phase, e);
        each_block(a, [&](int64_t lines, int64_t o, int64_t offset) {
          pad(a, first, last, o, lines * kConvLine, e.padded, lines != padded_for);
          padded_for = lines;
          const auto run = SNNFAST_CONV_CHOICE(sum_gradient, lines, a.binary);
          run(a, e, phase, table + offset);
        });
      }
  }
}

// A unit is a part of the inputs of a group. Parts that lie side by side are one.
template <class T>
void backward_units(const SpikeConv2d& a, int64_t begin, int64_t end, char* scratch) {
  const int64_t together = conv_backward_images(a);
  ChannelEvents<T> e{};
  e.room = together * a.H * a.W;
  e.padded = reinterpret_cast<T*>(scratch), e.values = e.padded + together * conv_padded(a) * kConvBlock;
  e.keys = reinterpret_cast<int32_t*>(e.values + e.room * a.C), e.counts = e.keys + e.room * a.C;
  for (int64_t unit = begin, next = 0; unit < end; unit = next) {
    const int64_t group = unit / a.parts, part = unit % a.parts;
    next = min((group + 1) * a.parts, end);
    e.first = part * kConvPart, e.channels = min((part + next - unit) * kConvPart, a.C) - e.first;
    backward_images(a, group * a.images, min((group + 1) * a.images, a.N), e,
                    static_cast<T*>(a.grad_tables) + group * conv_table_size(a));
  }
}

template <class T>
void unpack(const SpikeConv2d& a) {
  const int64_t size = conv_table_size(a);
  T *tables = static_cast<T*>(a.grad_tables), *weight = static_cast<T*>(a.grad_weight);
  for (int64_t group = 1; group < a.groups; group++)
    for (int64_t i = 0; i < size; i++) tables[i] += tables[group * size + i];
  each_block(a, [&](int64_t lines, int64_t o, int64_t offset) {
    each_weight(a, o, lines * kConvLine, [&](int64_t index, int64_t from) {
      if (index >= 0) weight[index] = tables[offset + from];
    });
  });
}

}  // namespace

void spike_conv2d_pack(const SpikeConv2d& a) {
  a.int8 ? pack<int32_t, int8_t>(a) : a.dtype == Dtype::f64 ? pack<double>(a) : pack<float>(a);
}
void spike_conv2d_forward(const SpikeConv2d& a, int64_t begin, int64_t end, char* scratch) {
  a.int8                  ? forward_images<int32_t, int8_t>(a, begin, end, scratch)
  : a.dtype == Dtype::f64 ? forward_images<double>(a, begin, end, scratch)
                          : forward_images<float>(a, begin, end, scratch);
}
void spike_conv2d_backward(const SpikeConv2d& a, int64_t begin, int64_t end, char* scratch) {
  a.dtype == Dtype::f64 ? backward_units<double>(a, begin, end, scratch)
                        : backward_units<float>(a, begin, end, scratch);
}
void spike_conv2d_unpack(const SpikeConv2d& a) { a.dtype == Dtype::f64 ? unpack<double>(a) : unpack<float>(a); }

}  // namespace snnfast::cpu::SNNFAST_ISA
