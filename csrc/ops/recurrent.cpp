#include "ops/recurrent.h"

#include "cpu/dispatch.h"

SNNFAST_CPU_KERNEL(recurrent_pack, (const Recurrence&, bool is_double, void* to_post, void* to_pre))
SNNFAST_CPU_KERNEL(recurrent_sum, (void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight))

SNNFAST_CPU_KERNEL(recurrent_sum_sparse, (void* parts, int64_t count, int64_t size, bool is_double))
SNNFAST_CPU_KERNEL(sparse_fits, (const Synapses&, int64_t H, int64_t targets, int64_t count, bool* fits))

namespace snnfast {

int launch_recurrent_pack(const Recurrence&, bool is_double, void* to_post, void* to_pre, void* stream);
int launch_recurrent_weight(const RecurrentWeightGradient&, void* stream);
int launch_recurrent_sum(void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight, void* stream);

Synapses synapses_of(const char* op, const Tensor& x, const Tensor& first, const Tensor& targets, const int64_t* steps,
                     int64_t delays, int64_t H) {
  Synapses s{};
  check_dtype(op, "first", first, ScalarType::Long);
  s.wide = targets.scalar_type() != ScalarType::Short;
  if (s.wide) check_dtype(op, "targets", targets, ScalarType::Int);
  const int64_t count = targets.numel();
  check_shape(op, "first", first, {H * delays + 1});
  check_shape(op, "targets", targets, {count});
  for (const auto& [name, t] : {std::pair{"first", &first}, {"targets", &targets}}) {
    check_device(op, name, *t, "x", x);
    check_contiguous(op, name, *t);
  }
  s.first = first.const_data_ptr<int64_t>();
  s.steps = steps;
  s.delays = delays;
  s.size = count;
  s.targets = targets.const_data_ptr();
  return s;
}

#if !defined(SNNFAST_CUDA_EMULATION)
void recurrent_pack(const Cpu&, const Recurrence& r, bool is_double, void* to_post, void* to_pre) {
  cpu::recurrent_pack()(r, is_double, to_post, to_pre);
}
void recurrent_sum(const Cpu&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight) {
  cpu::recurrent_sum()(parts, count, H, is_double, grad_weight);
}
void check_synapses(const char* op, const Synapses& s, int64_t H, int64_t outputs) {
  bool fits = false;
  cpu::sparse_fits()(s, H, outputs, s.size, &fits);
  SNNFAST_CHECK(fits, op,
                ": first must rise from 0 to the number of synapses, targets must be neurons, and steps must rise "
                "from 1 or more");
}
void recurrent_sum_sparse(void* parts, int64_t count, int64_t size, bool is_double) {
  cpu::recurrent_sum_sparse()(parts, count, size, is_double);
}
#endif

#if defined(SNNFAST_WITH_CUDA) || defined(SNNFAST_CUDA_EMULATION)
void recurrent_pack(const Cuda& device, const Recurrence& r, bool is_double, void* to_post, void* to_pre) {
  device.launch("recurrent",
                [&](void* stream) { return launch_recurrent_pack(r, is_double, to_post, to_pre, stream); });
}
void recurrent_weight(const Cuda& device, const RecurrentWeightGradient& a) {
  device.launch("recurrent", [&](void* stream) { return launch_recurrent_weight(a, stream); });
}
void recurrent_sum(const Cuda& device, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight) {
  device.launch("recurrent",
                [&](void* stream) { return launch_recurrent_sum(parts, count, H, is_double, grad_weight, stream); });
}
#endif

}  // namespace snnfast
