// Errors, whose first line is for a person, and products of sizes that may be anything.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace snnfast {

template <class... Words>
[[noreturn]] void fail(const Words&... words) {
  std::ostringstream text;
  (text << ... << words);
  throw std::runtime_error(text.str());
}

// STD_TORCH_CHECK would put this file and its line before the message.
#define SNNFAST_CHECK(CONDITION, ...)                         \
  do {                                                        \
    if (__builtin_expect(!(CONDITION), 0)) fail(__VA_ARGS__); \
  } while (0)

inline std::string text_of(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (const int64_t s : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(s);
  return text + "]";
}

// Most elements of a tensor; snnfast/check.py has the same. Their bytes, and some more, can be counted in 64 bits.
constexpr int64_t kMostElements = int64_t{1} << 56;

// Elements of a tensor of these sizes.
inline int64_t elements(const char* op, const std::vector<int64_t>& sizes) {
  int64_t n = 1;
  bool fits = true, empty = false;
  for (const int64_t s : sizes) {
    fits = fits && !__builtin_mul_overflow(n, s, &n);
    empty = empty || s == 0;
  }
  if (empty) return 0;
  SNNFAST_CHECK(fits && n <= kMostElements, op, ": a tensor of shape ", text_of(sizes), " is too large: 2^56 elements are the most");
  return n;
}

}  // namespace snnfast
