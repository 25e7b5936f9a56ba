// Forward a block has a row and follows its inputs that are not 0; backward a warp has a gradient of x, a block those
// of the weights of a presynaptic neuron.
#include "core/sparse_linear.h"

#include "cuda/sparse_rows.cuh"

namespace snnfast {
namespace {

template <class C>
__global__ void __launch_bounds__(kSparseThreads, 1) sparse_linear_forward_kernel(const SparseLinear a) {
  __shared__ Chunk<C> chunk;
  const SparseRows<C> synapses(a.synapses, a.weight, a.outputs);
  const Rows x = {a.x, a.dtype, a.inputs, 1};
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    C* sums = static_cast<C*>(a.sums) + r * a.outputs;
    for (int64_t i = threadIdx.x; i < a.outputs; i += blockDim.x) sums[i] = C(0);
    chunk.each_event(
        a.inputs, [&](int64_t j) { return number_at<C>(x, r, j); },
        [&](int64_t j, C value) { synapses.deliver(j, 0, value, sums); });
    for (int64_t i = threadIdx.x; i < a.outputs && a.sums != a.y; i += blockDim.x)
      put(a.y, a.dtype, r * a.outputs + i, sums[i]);
  }
}

template <class C>
__global__ void __launch_bounds__(kSparseThreads, 1) sparse_linear_grad_x_kernel(const SparseLinear a) {
  const SparseRows<C> synapses(a.synapses, a.weight, a.outputs);
  const Rows grad_y = {a.grad_y, a.dtype, a.outputs, 1};
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kSparseThreads / 32);
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * (kSparseThreads / 32) + threadIdx.x / 32; n < a.rows * a.inputs;
       n += warps) {
    const int64_t r = divided(n, a.inputs), j = n - r * a.inputs;
    const C sum = warp_sum(synapses.gather(j, 0, [&](int64_t to) { return number_at<C>(grad_y, r, to); }));
    if (threadIdx.x % 32 == 0) put(a.grad_x, a.dtype, n, a.synapses.one_a_row ? sum * synapses.weight[j] : sum);
  }
}

template <class C>
__global__ void __launch_bounds__(kSparseThreads, 1) sparse_linear_grad_weight_kernel(const SparseLinear a) {
  const SparseRows<C> synapses(a.synapses, a.weight, a.outputs);
  const Rows x = {a.x, a.dtype, a.inputs, 1}, grad_y = {a.grad_y, a.dtype, a.outputs, 1};
  for (int64_t j = blockIdx.x; j < a.inputs; j += gridDim.x)
    synapses.learn(
        j, a.rows, [&](int64_t r) { return number_at<C>(x, r, j); },
        [&](int64_t r, int64_t, int64_t to) { return number_at<C>(grad_y, r, to); }, static_cast<C*>(a.grad_weight));
}

template <class C>
int forward(const SparseLinear& a, cudaStream_t stream) {
  if (a.rows > 0) SNNFAST_LAUNCH(sparse_linear_forward_kernel<C>, some_of(a.rows), kSparseThreads, 0, stream, a);
  return cudaGetLastError();
}

template <class C>
int backward(const SparseLinear& a, cudaStream_t stream) {
  if (a.grad_x && a.rows * a.inputs > 0)
    SNNFAST_LAUNCH(sparse_linear_grad_x_kernel<C>, some_of(a.rows * a.inputs / (kSparseThreads / 32) + 1),
                   kSparseThreads, 0, stream, a);
  if (a.grad_weight && a.inputs > 0)
    SNNFAST_LAUNCH(sparse_linear_grad_weight_kernel<C>, some_of(a.inputs), kSparseThreads, 0, stream, a);
  return cudaGetLastError();
}

}  // namespace

int launch_sparse_linear_forward(const SparseLinear& a, void* stream) {
  return a.dtype == Dtype::f64 ? forward<double>(a, static_cast<cudaStream_t>(stream))
                               : forward<float>(a, static_cast<cudaStream_t>(stream));
}
int launch_sparse_linear_backward(const SparseLinear& a, void* stream) {
  return a.dtype == Dtype::f64 ? backward<double>(a, static_cast<cudaStream_t>(stream))
                               : backward<float>(a, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
