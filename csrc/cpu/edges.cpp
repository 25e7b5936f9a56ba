#include "cpu/edges.h"

#include <memory>
#include <utility>

namespace snnfast::cpu {
namespace {

// An item of 64 bits is a target in the upper half, and the index of its edge in the lower one; an item of 32 bits is a
// target.
template <class Item>
constexpr int kTarget = 8 * (sizeof(Item) - sizeof(uint32_t));
template <class Item>
Item target_of(Item item) {
  return item >> kTarget<Item>;
}

constexpr int64_t kInserted = 40;  // edges of a row up to which insertion is faster than counting

// Sorts the items of a row by their targets of `bits` bits; those of one target stay in their order. room: for as many.
template <class Item>
void sort_row(Item* items, int64_t n, int bits, Item* room) {
  bool rises = true;
  for (int64_t i = 1; i < n; i++) rises = rises && target_of(items[i - 1]) <= target_of(items[i]);
  if (rises) return;
  if (n <= kInserted) {
    for (int64_t i = 1; i < n; i++) {
      const Item item = items[i];
      int64_t k = i;
      for (; k > 0 && target_of(items[k - 1]) > target_of(item); k--) items[k] = items[k - 1];
      items[k] = item;
    }
    return;
  }
  const int passes = (bits + 7) / 8, digit = (bits + passes - 1) / passes;
  const Item mask = (Item(1) << digit) - 1;
  Item *from = items, *to = room;
  for (int pass = 0; pass < passes; pass++) {
    const int shift = kTarget<Item> + pass * digit;
    int64_t next[257] = {};
    for (int64_t i = 0; i < n; i++) next[(from[i] >> shift & mask) + 1]++;
    for (Item k = 0; k < mask; k++) next[k + 1] += next[k];
    for (int64_t i = 0; i < n; i++) to[next[from[i] >> shift & mask]++] = from[i];
    std::swap(from, to);
  }
  for (int64_t i = 0; from != items && i < n; i++) items[i] = from[i];
}

bool in_order(const Edges& a) {
  for (int64_t e = 1; e < a.count; e++)
    if (a.row[e - 1] > a.row[e] || (a.row[e - 1] == a.row[e] && a.target[e - 1] > a.target[e])) return false;
  return true;
}

template <class Index, class Value>
void write(Index* out, int64_t count, const Value& value) {
  for (int64_t e = 0; e < count; e++) out[e] = static_cast<Index>(value(e));
}

template <class Target>
void write_targets(const Edges& a, const Target& target) {
  a.wide ? write(static_cast<int32_t*>(a.targets), a.count, target)
         : write(static_cast<int16_t*>(a.targets), a.count, target);
}

// Sorts the edges; the rows begin at a.first, and the longest has `longest` edges.
template <class Item>
void sort(const Edges& a, int64_t longest) {
  const std::unique_ptr<Item[]> items(new Item[a.count]), room(new Item[longest]);
  for (int64_t e = 0; e < a.count; e++) {
    Item item = static_cast<uint32_t>(a.target[e]);
    if constexpr (kTarget<Item> > 0) item = item << kTarget<Item> | static_cast<uint32_t>(e);
    items[a.first[a.row[e]]++] = item;
  }
  for (int64_t r = a.rows; r > 0; r--) a.first[r] = a.first[r - 1];  // each was the end of its row
  a.first[0] = 0;
  int bits = 1;
  while (bits < 31 && a.n_post > int64_t(1) << bits) bits++;
  for (int64_t r = 0; r < a.rows; r++)
    sort_row(items.get() + a.first[r], a.first[r + 1] - a.first[r], bits, room.get());
  write_targets(a, [&](int64_t e) { return target_of(items[e]); });
  if (a.order) write(a.order, a.count, [&](int64_t e) { return items[e]; });
}

}  // namespace

bool sort_edges(const Edges& a) {
  int64_t longest = 0;
  for (int64_t r = 0; r <= a.rows; r++) a.first[r] = 0;
  for (int64_t e = 0; e < a.count; e++) a.first[a.row[e] + 1]++;
  for (int64_t r = 0; r < a.rows; r++) {
    if (a.first[r + 1] > longest) longest = a.first[r + 1];
    a.first[r + 1] += a.first[r];
  }
  if (in_order(a)) {
    write_targets(a, [&](int64_t e) { return a.target[e]; });
    return false;
  }
  a.order ? sort<uint64_t>(a, longest) : sort<uint32_t>(a, longest);
  return true;
}

}  // namespace snnfast::cpu
