#include "core/batch_norm.h"

#include <cmath>
#include <numeric>

#include "core/half.h"
#include "cpu/dispatch.h"
#include "ops/neuron.h"

SNNFAST_CPU_KERNEL(batch_norm_sums, (const BatchNormSums&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(batch_norm_result, (const BatchNormResult&, int64_t begin, int64_t end))

#define SNNFAST_BATCH_NORM_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                          \
  FIELD(Optional, weight)                   \
  FIELD(Optional, bias)                     \
  FIELD(Optional, mean)                     \
  FIELD(Optional, var)                      \
  FIELD(double, eps)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_BATCH_NORM_ARGUMENTS)

constexpr const char* kOp = "batch_norm";
constexpr int64_t kWide = 16;    // maximum number of elements of a vector
constexpr int64_t kSample = 16;  // rows whose mean is the center of deviations

using Values = std::vector<double>;  // one per channel

// [B, C, ...] -> [B, ..., C] and back: views.
Tensor channels_to_the_end(Tensor t) {
  for (int64_t d = 1; d + 1 < t.dim(); d++) t = torch::stable::transpose(t, d, d + 1);
  return t;
}
Tensor channels_from_the_end(Tensor t) {
  for (int64_t d = t.dim() - 2; d >= 1; d--) t = torch::stable::transpose(t, d, d + 1);
  return t;
}

// x, and tensors like it, as rows of channels. If there are few channels, `together` rows are processed as one, so that
// vectors are full; the remaining rows are processed singly.
class Batch {
 public:
  explicit Batch(const Tensor& x) : dtype(dtype_of(kOp, "x", x)), x_(x) {
    SNNFAST_CHECK(x.is_cpu(), kOp, ": x must be on the CPU");
    SNNFAST_CHECK(dtype != Dtype::f16, kOp, ": x must be float32, float64 or bfloat16, got float16");
    SNNFAST_CHECK(x.dim() >= 2, kOp, ": x must have shape [B, C, ...], got ", shape_of(x));
    const int64_t count = elements(kOp, sizes_of(x));
    C = x.size(1), rows = C ? count / C : 0;
    const int64_t wanted = kWide / std::gcd(C, kWide);
    together = C < 4 * kWide && rows >= wanted ? wanted : 1;
  }

  int64_t C, rows, together;
  Dtype dtype;

  Tensor as_rows(const Tensor& t) const { return contiguous_of(channels_to_the_end(t)); }
  Tensor like_x() const {
    std::vector<int64_t> shape = sizes_of(x_);
    shape.erase(shape.begin() + 1);
    shape.push_back(C);
    return Cpu(x_).allocate(x_, shape, x_.scalar_type());
  }

  // One value per channel, as doubles.
  Values values(const char* name, const Optional& t, double otherwise) const {
    if (!t) return Values(static_cast<size_t>(C), otherwise);
    check_device(kOp, name, *t, "x", x_);
    check_shape(kOp, name, *t, {C});
    const Tensor contiguous = contiguous_of(*t);
    return read(contiguous.const_data_ptr(), dtype_of(kOp, name, contiguous));
  }
  Values read(const void* from, Dtype type) const {
    Values result(static_cast<size_t>(C));
    const auto copy = [&](const auto* typed) {
      for (size_t c = 0; c < result.size(); c++) result[c] = load_as<double>(typed[c]);
    };
    switch (type) {
      case Dtype::f32: copy(static_cast<const float*>(from)); break;
      case Dtype::f64: copy(static_cast<const double*>(from)); break;
      case Dtype::bf16: copy(static_cast<const BFloat16*>(from)); break;
      case Dtype::f16: copy(static_cast<const Half*>(from)); break;
    }
    return result;
  }
  Tensor tensor(const Values& values, ScalarType type) const {
    const Tensor result = Cpu(x_).allocate(x_, {C}, ScalarType::Double);
    std::copy(values.begin(), values.end(), static_cast<double*>(result.mutable_data_ptr()));
    return type == ScalarType::Double ? result : torch::stable::to(result, type);
  }

  // Calls run(rows, offset in bytes) for the rows that are processed as one, and for the remaining ones.
  template <class Run>
  void each_part(const void* x, const void* grad, const Run& run) const {
    const int64_t whole = rows / together * together;
    const auto part = [&](int64_t first, int64_t count, int64_t side_by_side) {
      BatchNormRows a{};
      a.rows = count / side_by_side, a.C = C * side_by_side;
      a.block = std::max((a.rows + kBatchNormBlocks - 1) / kBatchNormBlocks, (kBatchNormBlock + a.C - 1) / a.C);
      a.dtype = dtype;
      const int64_t offset = first * C * static_cast<int64_t>(x_.element_size());
      a.x = static_cast<const char*>(x) + offset, a.grad = grad ? static_cast<const char*>(grad) + offset : nullptr;
      run(a, offset);
    };
    if (whole) part(0, whole, together);
    if (whole < rows) part(whole, rows - whole, 1);
  }

  template <class Kernel>
  static void in_blocks(const BatchNormRows& a, const Kernel& kernel) {
    in_parallel((a.rows + a.block - 1) / a.block, a.block * a.C, kernel);
  }

  // Sums over all rows: without grad of x - center and of its square, else of grad and of grad (x - center).
  std::pair<Values, Values> sums(const Tensor& x, const Tensor* grad, const Values& center) const {
    std::pair<Values, Values> total{Values(static_cast<size_t>(C)), Values(static_cast<size_t>(C))};
    const Table table(*this, {&center});
    each_part(x.const_data_ptr(), grad ? grad->const_data_ptr() : nullptr, [&](const BatchNormRows& part, int64_t) {
      BatchNormSums a{part, table[0], nullptr};
      const int64_t blocks = (a.rows + a.block - 1) / a.block;
      Values sums(static_cast<size_t>(blocks * 2 * a.C));
      a.sums = sums.data();
      in_blocks(a, [&](int64_t begin, int64_t end) { cpu::batch_norm_sums()(a, begin, end); });
      const double* from = a.sums;
      for (int64_t u = 0; u < blocks; u++)
        for (Values* to : {&total.first, &total.second})
          for (int64_t k = 0; k < a.C; k += C)
            for (double& sum : *to) sum += *from++;
    });
    // In float, deviations are from the rounded center.
    for (size_t c = 0; c < center.size() && grad; c++) total.second[c] -= below_float(center[c]) * total.first[c];
    return total;
  }

  // Coefficients by channel of the kernel batch_norm_result. In float, a mean is the sum of two numbers, so that
  // deviations from it are exact.
  struct Coefficients {
    Values scale, grad_mean, slope, mean, shift;
  };
  Tensor result(const Tensor& x, const Tensor* grad, Coefficients coefficients) const {
    const Tensor to = like_x();
    if (rows == 0) return channels_from_the_end(to);
    for (size_t c = 0; c < coefficients.mean.size(); c++) {
      coefficients.shift[c] -= coefficients.slope[c] * below_float(coefficients.mean[c]);
      if (grad) coefficients.shift[c] -= below_float(coefficients.grad_mean[c]);
    }
    const Table table = grad ? Table(*this, {&coefficients.slope, &coefficients.mean, &coefficients.shift,
                                             &coefficients.scale, &coefficients.grad_mean})
                             : Table(*this, {&coefficients.slope, &coefficients.mean, &coefficients.shift});
    each_part(
        x.const_data_ptr(), grad ? grad->const_data_ptr() : nullptr, [&](const BatchNormRows& part, int64_t offset) {
          BatchNormResult a{
              part, table[0], table[1], table[2], nullptr, nullptr, static_cast<char*>(to.mutable_data_ptr()) + offset};
          if (grad) a.scale = table[3], a.grad_mean = table[4];
          in_blocks(a, [&](int64_t begin, int64_t end) { cpu::batch_norm_result()(a, begin, end); });
        });
    return channels_from_the_end(to);
  }

 private:
  Tensor x_;

  // Part of a value that the compute type cannot represent.
  double below_float(double value) const { return dtype == Dtype::f64 ? 0 : value - static_cast<float>(value); }

  // Values as the kernels read them: in the compute type, repeated for the rows that are processed as one.
  class Table {
   public:
    Table(const Batch& batch, std::initializer_list<const Values*> lists)
        : bytes_(static_cast<size_t>(batch.C * batch.together) *
                 (batch.dtype == Dtype::f64 ? sizeof(double) : sizeof(float))),
          memory_(bytes_ * lists.size()) {
      const auto fill = [&](auto* to) {
        for (const Values* values : lists)
          for (int64_t k = 0; k < batch.together; k++)
            for (const double value : *values) *to++ = static_cast<std::remove_reference_t<decltype(*to)>>(value);
      };
      batch.dtype == Dtype::f64 ? fill(reinterpret_cast<double*>(memory_.data()))
                                : fill(reinterpret_cast<float*>(memory_.data()));
    }
    const void* operator[](size_t k) const { return memory_.data() + k * bytes_; }

   private:
    size_t bytes_;
    std::vector<char> memory_;
  };
};

Values rstd_of(const Values& var, double eps) {
  Values result(var);
  for (double& value : result) value = 1 / std::sqrt(value + eps);
  return result;
}

// Mean and biased variance of every channel, from squared deviations from the mean of some rows, to avoid cancellation.
std::pair<Values, Values> statistics(const Batch& batch, const Tensor& x) {
  SNNFAST_CHECK(batch.rows > 0, kOp,
                ": x must have at least one value a channel where mean and var are None, got none");
  const size_t C = static_cast<size_t>(batch.C);
  const int64_t some = std::min(batch.rows, kSample), bytes = batch.C * static_cast<int64_t>(x.element_size());
  Values center(C);
  for (int64_t k = 0; k < some; k++) {
    const Values row =
        batch.read(static_cast<const char*>(x.const_data_ptr()) + batch.rows / some * k * bytes, batch.dtype);
    for (size_t c = 0; c < C; c++) center[c] += row[c] / static_cast<double>(some);
  }
  for (double& value : center) {
    if (batch.dtype != Dtype::f64) value = static_cast<float>(value);
    if (!std::isfinite(value)) value = 0;
  }
  auto [mean, var] = batch.sums(x, nullptr, center);
  const double n = static_cast<double>(batch.rows);
  for (size_t c = 0; c < C; c++) {
    mean[c] /= n;
    var[c] = std::max(var[c] / n - mean[c] * mean[c], 0.0);
    mean[c] += center[c];
  }
  return {mean, var};
}

// Returns y, and the mean and variance that normalised it.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> batch_norm_forward(const Arguments& arguments) {
  const Batch batch(arguments.x);
  SNNFAST_CHECK(arguments.mean.has_value() == arguments.var.has_value(), kOp,
                ": mean and var must both be given or both be None");
  const Tensor x = batch.as_rows(arguments.x);
  const Values weight = batch.values("weight", arguments.weight, 1);
  const auto [mean, var] =
      arguments.mean ? std::pair{batch.values("mean", arguments.mean, 0), batch.values("var", arguments.var, 0)}
                     : statistics(batch, x);
  Values slope = rstd_of(var, arguments.eps);
  for (size_t c = 0; c < slope.size(); c++) slope[c] *= weight[c];
  const Tensor y = batch.result(x, nullptr, {{}, {}, slope, mean, batch.values("bias", arguments.bias, 0)});
  return {y, batch.tensor(mean, ScalarType::Double), batch.tensor(var, ScalarType::Double)};
}

// Gradients of x, weight and bias; empty where not requested. of_batch: mean and var are those of x itself. Then, with
// z = (x - mean) r, r = 1 / sqrt(var + eps), and means over the rows, dL/dx = weight r (g - mean(g) - z mean(g z));
// else it is weight r g.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> batch_norm_backward(const Arguments& arguments, bool of_batch, Tensor grad_y,
                                                       bool x_wanted, bool weight_wanted, bool bias_wanted) {
  const Batch batch(arguments.x);
  check_tensor(kOp, "grad_y", grad_y, arguments.x.scalar_type(), sizes_of(arguments.x), "x", arguments.x);
  SNNFAST_CHECK(arguments.mean && arguments.var, kOp, ": mean and var must be given for gradients");
  const Tensor grad = batch.as_rows(grad_y);
  const Values weight = batch.values("weight", arguments.weight, 1), mean = batch.values("mean", arguments.mean, 0),
               rstd = rstd_of(batch.values("var", arguments.var, 0), arguments.eps);
  const size_t C = weight.size();
  const ScalarType type = arguments.x.scalar_type();
  const auto nothing = [&] { return Device(grad).allocate(grad, {0}, type); };
  const bool sums_wanted = weight_wanted || bias_wanted || (of_batch && x_wanted);
  const Tensor x = sums_wanted ? batch.as_rows(arguments.x) : grad;
  std::pair<Values, Values> sums{Values(C), Values(C)};
  if (sums_wanted) sums = batch.sums(x, &grad, mean);
  auto& [sum, sum_z] = sums;
  for (size_t c = 0; c < C; c++) sum_z[c] *= rstd[c];
  const auto type_like = [&](const Optional& t) { return t ? t->scalar_type() : type; };
  const Tensor grad_weight = weight_wanted ? batch.tensor(sum_z, type_like(arguments.weight)) : nothing();
  const Tensor grad_bias = bias_wanted ? batch.tensor(sum, type_like(arguments.bias)) : nothing();
  if (!x_wanted) return {nothing(), grad_weight, grad_bias};
  Values scale(rstd), slope(C);
  const double n = static_cast<double>(batch.rows);
  for (size_t c = 0; c < C; c++) {
    scale[c] *= weight[c];
    slope[c] = -sum_z[c] / n * rstd[c];
    sum[c] /= n;
  }
  if (!of_batch) return {batch.result(grad, nullptr, {{}, {}, scale, Values(C), Values(C)}), grad_weight, grad_bias};
  return {batch.result(x, &grad, {scale, sum, slope, mean, Values(C)}), grad_weight, grad_bias};
}

SNNFAST_CPU_OPERATOR("batch_norm_forward", batch_norm_forward, "(Tensor y, Tensor batch_mean, Tensor batch_var)")
SNNFAST_CPU_OPERATOR("batch_norm_backward", batch_norm_backward,
                     "(Tensor grad_x, Tensor grad_weight, Tensor grad_bias)",
                     "bool of_batch, Tensor grad_y, bool x_wanted, bool weight_wanted, bool bias_wanted")

}  // namespace
}  // namespace snnfast
