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

#if !defined(SNNFAST_CUDA_EMULATION)
void recurrent_pack(const Cpu&, const Recurrence& r, bool is_double, void* to_post, void* to_pre) {
  cpu::recurrent_pack()(r, is_double, to_post, to_pre);
}
void recurrent_sum(const Cpu&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight) {
  cpu::recurrent_sum()(parts, count, H, is_double, grad_weight);
}
bool sparse_fits(const Synapses& synapses, int64_t H, int64_t targets, int64_t count) {
  bool fits = false;
  cpu::sparse_fits()(synapses, H, targets, count, &fits);
  return fits;
}
void recurrent_sum_sparse(void* parts, int64_t count, int64_t size, bool is_double) {
  cpu::recurrent_sum_sparse()(parts, count, size, is_double);
}
#else  // no tensor reaches them: sparse connections are refused on CUDA
bool sparse_fits(const Synapses&, int64_t, int64_t, int64_t) { return false; }
void recurrent_sum_sparse(void*, int64_t, int64_t, bool) {}
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
