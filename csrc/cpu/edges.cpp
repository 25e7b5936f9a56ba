#include "cpu/edges.h"

#include <memory>
#include <utility>

namespace snnfast::cpu {
namespace {

constexpr int kHalf = 32;          // a pair is a target in the upper half, and the index of its edge in the lower one
constexpr int64_t kInserted = 40;  // edges of a row up to which insertion is faster than counting

// Sorts the pairs of a row by their targets of `bits` bits; those of one target stay in their order. room: for as many.
void sort_row(uint64_t* pairs, int64_t n, int bits, uint64_t* room) {
  bool rises = true;
  for (int64_t i = 1; i < n; i++) rises = rises && pairs[i - 1] >> kHalf <= pairs[i] >> kHalf;
  if (rises) return;
  if (n <= kInserted) {
    for (int64_t i = 1; i < n; i++) {
      const uint64_t pair = pairs[i];
      int64_t k = i;
      for (; k > 0 && pairs[k - 1] >> kHalf > pair >> kHalf; k--) pairs[k] = pairs[k - 1];
      pairs[k] = pair;
    }
    return;
  }
  const int passes = (bits + 7) / 8, digit = (bits + passes - 1) / passes;
  const uint64_t mask = (uint64_t(1) << digit) - 1;
  uint64_t *from = pairs, *to = room;
  for (int pass = 0; pass < passes; pass++) {
    const int shift = kHalf + pass * digit;
    int64_t next[257] = {};
    for (int64_t i = 0; i < n; i++) next[(from[i] >> shift & mask) + 1]++;
    for (uint64_t k = 0; k < mask; k++) next[k + 1] += next[k];
    for (int64_t i = 0; i < n; i++) to[next[from[i] >> shift & mask]++] = from[i];
    std::swap(from, to);
  }
  for (int64_t i = 0; from != pairs && i < n; i++) pairs[i] = from[i];
}

bool in_order(const Edges& a) {
  for (int64_t e = 1; e < a.count; e++)
    if (a.row[e - 1] > a.row[e] || (a.row[e - 1] == a.row[e] && a.target[e - 1] > a.target[e])) return false;
  return true;
}

template <class Index, class Target>
void write(Index* targets, int64_t count, const Target& target) {
  for (int64_t e = 0; e < count; e++) targets[e] = static_cast<Index>(target(e));
}

}  // namespace

bool sort_edges(const Edges& a) {
  const auto write_targets = [&](int64_t begin, int64_t count, const auto& target) {
    a.wide ? write(static_cast<int32_t*>(a.targets) + begin, count, target)
           : write(static_cast<int16_t*>(a.targets) + begin, count, target);
  };
  int64_t longest = 0;
  for (int64_t r = 0; r <= a.rows; r++) a.first[r] = 0;
  for (int64_t e = 0; e < a.count; e++) a.first[a.row[e] + 1]++;
  for (int64_t r = 0; r < a.rows; r++) {
    if (a.first[r + 1] > longest) longest = a.first[r + 1];
    a.first[r + 1] += a.first[r];
  }
  if (in_order(a)) {
    write_targets(0, a.count, [&](int64_t e) { return a.target[e]; });
    return false;
  }
  const std::unique_ptr<uint64_t[]> pairs(new uint64_t[a.count]), room(new uint64_t[longest]);
  for (int64_t e = 0; e < a.count; e++)
    pairs[a.first[a.row[e]]++] = uint64_t(static_cast<uint32_t>(a.target[e])) << kHalf | static_cast<uint32_t>(e);
  for (int64_t r = a.rows; r > 0; r--) a.first[r] = a.first[r - 1];  // each was the end of its row
  a.first[0] = 0;
  int bits = 1;
  while (bits < 31 && a.n_post > int64_t(1) << bits) bits++;
  for (int64_t r = 0; r < a.rows; r++) {
    uint64_t* const row = pairs.get() + a.first[r];
    const int64_t n = a.first[r + 1] - a.first[r];
    sort_row(row, n, bits, room.get());
    write_targets(a.first[r], n, [&](int64_t i) { return row[i] >> kHalf; });
    if (a.order) write(a.order + a.first[r], n, [&](int64_t i) { return row[i]; });
  }
  return true;
}

}  // namespace snnfast::cpu
