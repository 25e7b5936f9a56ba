// Errors, whose first line names the op, the argument, the expected value and the value given; and products of sizes,
// checked for overflow.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace snnfast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Words>
[[noreturn]] void fail(const Words&... words) {
  std::ostringstream text;
  (text << ... << words);
  throw std::runtime_error(text.str());
}

// STD_TORCH_CHECK would prefix the message with this file and line.
#define SNNFAST_CHECK(CONDITION, ...)                         \
  do {                                                        \
    if (__builtin_expect(!(CONDITION), 0)) fail(__VA_ARGS__); \
  } while (0)

std::string text_of(const std::vector<int64_t>& sizes);
const char* text_of(ScalarType type);

std::vector<int64_t> sizes_of(const Tensor& t);
// Shape as text, for errors.
inline std::string shape_of(const Tensor& t) { return text_of(sizes_of(t)); }

void check_shape(const char* op, const char* name, const Tensor& t, const std::vector<int64_t>& shape);
void check_dtype(const char* op, const char* name, const Tensor& t, ScalarType type);
void check_float32_or_float64(const char* op, const char* name, const Tensor& t);
void check_device(const char* op, const char* name, const Tensor& t, const char* other_name, const Tensor& other);
void check_tensor(const char* op, const char* name, const Tensor& t, ScalarType type, const std::vector<int64_t>& shape,
                  const char* other_name, const Tensor& other);
void check_contiguous(const char* op, const char* name, const Tensor& t);

// Maximum number of elements of a tensor, as in snnfast/check.py. Their bytes, and some more, can be counted in 64
// bits.
constexpr int64_t kMostElements = int64_t{1} << 56;

// Number of elements of a tensor of these sizes, checked for overflow.
int64_t elements(const char* op, const std::vector<int64_t>& sizes);

}  // namespace snnfast
