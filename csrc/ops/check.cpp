#include "ops/check.h"

namespace snnfast {

std::string text_of(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (const int64_t s : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(s);
  return text + "]";
}

const char* text_of(ScalarType type) {
  switch (type) {
    case ScalarType::Bool: return "bool";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    default: return "another dtype";
  }
}

std::vector<int64_t> sizes_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return {sizes.begin(), sizes.end()};
}

void check_shape(const char* op, const char* name, const Tensor& t, const std::vector<int64_t>& shape) {
  SNNFAST_CHECK(sizes_of(t) == shape, op, ": ", name, " must have shape ", text_of(shape), ", got ", shape_of(t));
}

void check_dtype(const char* op, const char* name, const Tensor& t, ScalarType type) {
  SNNFAST_CHECK(t.scalar_type() == type, op, ": ", name, " must be ", text_of(type), ", got ",
                text_of(t.scalar_type()));
}

void check_float32_or_float64(const char* op, const char* name, const Tensor& t) {
  SNNFAST_CHECK(t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double, op, ": ", name,
                " must be float32 or float64, got ", text_of(t.scalar_type()));
}

namespace {

std::string device_of(const Tensor& t) {
  if (t.is_cpu()) return "cpu";
  return t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : "another device";
}

}  // namespace

void check_device(const char* op, const char* name, const Tensor& t, const char* other_name, const Tensor& other) {
  SNNFAST_CHECK(t.is_cpu() == other.is_cpu() && t.is_cuda() == other.is_cuda() &&
                    t.get_device_index() == other.get_device_index(),
                op, ": ", name, " must be on the device of ", other_name, ", ", device_of(other), ", got ",
                device_of(t));
}

void check_tensor(const char* op, const char* name, const Tensor& t, ScalarType type, const std::vector<int64_t>& shape,
                  const char* other_name, const Tensor& other) {
  check_shape(op, name, t, shape);
  check_dtype(op, name, t, type);
  check_device(op, name, t, other_name, other);
}

void check_contiguous(const char* op, const char* name, const Tensor& t) {
  if (t.is_contiguous()) return;
  const auto strides = t.strides();
  fail(op, ": ", name, " must be contiguous, got strides ", text_of({strides.begin(), strides.end()}), " for shape ",
       shape_of(t));
}

int64_t elements(const char* op, const std::vector<int64_t>& sizes) {
  int64_t n = 1;
  bool fits = true, empty = false;
  for (const int64_t s : sizes) {
    fits = fits && !__builtin_mul_overflow(n, s, &n);
    empty = empty || s == 0;
  }
  if (empty) return 0;
  SNNFAST_CHECK(fits && n <= kMostElements, op, ": a tensor of shape ", text_of(sizes),
                " is too large: 2^56 elements are the most");
  return n;
}

}  // namespace snnfast
