// Shared part of the recurrent layers on CUDA: packing of the weights, and their gradient.
#include "cuda/sparse_rows.cuh"

namespace snnfast {
namespace {

constexpr int kSide = 16;  // of a tile of weights: one thread per weight

template <class C>
__global__ void pack_kernel(const C* weight, int64_t H, C* to_post, C* to_pre) {
  const int64_t width = padded(H), size = H * width;
  for (int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < size;
       k += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = k / width, column = k % width;
    to_pre[k] = column < H ? weight[row * H + column] : C(0);
    to_post[k] = column < H ? weight[column * H + row] : C(0);
  }
}

// Tile of one part: sum of the arriving spikes of j times dL/d(input of i), over the part's groups, their steps from
// the last on, and their samples. This is the order of the CPU.
template <class C>
__global__ void weight_kernel(const RecurrentWeightGradient a) {
  __shared__ C grads[kSide][kSide], values[kSide][kSide];
  const Recurrence& r = a.recurrence;
  const int64_t H = r.H, width = padded(H), samples = a.N / H;
  const RecurrentParts parts(samples, H);
  const int column = static_cast<int>(threadIdx.x) % kSide, row = static_cast<int>(threadIdx.x) / kSide;
  const int64_t i0 = static_cast<int64_t>(blockIdx.x) * kSide, j0 = static_cast<int64_t>(blockIdx.y) * kSide,
                part = blockIdx.z;
  const int64_t first = part * parts.groups_a_part, remaining = parts.groups - first;
  const int64_t a_group = a.T * parts.group, all = min(remaining, parts.groups_a_part) * a_group;
  C sum = C(0);
  for (int64_t k0 = 0; k0 < all; k0 += kSide) {
    const int64_t k = k0 + row, in_group = k % a_group;
    const int64_t sample = (first + k / a_group) * parts.group + in_group % parts.group,
                  t = a.T - 1 - in_group / parts.group;
    const bool valid = k < all && sample < samples;
    const int64_t i = i0 + column, j = j0 + column;
    grads[row][column] = valid && i < H ? static_cast<const C*>(a.grad_current)[t * a.N + sample * H + i] : C(0);
    values[row][column] = valid && j < H ? arriving<C>(a.spikes, r, a.T, t, sample * H + j) : C(0);
    __syncthreads();
    for (int k1 = 0; k1 < kSide; k1++)
      if (values[k1][row] != C(0)) sum += values[k1][row] * grads[k1][column];
    __syncthreads();
  }
  const int64_t i = i0 + column, j = j0 + row;
  if (i < H && j < H) static_cast<C*>(a.parts)[(part * H + j) * width + i] = sum;
}

// The same with sparse connections: a block has a presynaptic neuron, and follows its spikes in order.
template <class C>
__global__ void __launch_bounds__(kSparseThreads, 1) sparse_weight_kernel(const RecurrentWeightGradient a) {
  const Recurrence& r = a.recurrence;
  const SparseRows<C> rows(r.synapses, r.weight, r.inputs * r.H);
  const int64_t samples = a.N / r.H, wide = r.inputs * r.H;
  const C* grads = static_cast<const C*>(a.grad_current);
  for (int64_t j = blockIdx.x; j < r.H; j += gridDim.x)
    rows.learn(
        j, (a.T + r.K) * samples,
        [&](int64_t slot) {
          const int64_t step = divided(slot, samples);
          return spike_at<C>(a.spikes, r, step - r.K, (slot - step * samples) * r.H + j);
        },
        [&](int64_t slot, int64_t k, int64_t to) {
          const int64_t step = divided(slot, samples), delay = r.synapses.steps[k], t = step - r.K + delay;
          const bool arrives = delay >= 1 && delay <= a.T + r.K && t >= 0 && t < a.T;
          return arrives ? grads[(t * samples + slot - step * samples) * wide + to] : C(0);
        },
        static_cast<C*>(a.parts));
}

template <class C>
__global__ void sum_kernel(const C* parts, int64_t count, int64_t H, C* grad_weight) {
  const int64_t width = padded(H);
  for (int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < H * H;
       k += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t i = k / H, j = k % H;
    C sum = count ? parts[j * width + i] : C(0);
    for (int64_t part = 1; part < count; part++) sum += parts[(part * H + j) * width + i];
    grad_weight[k] = sum;
  }
}

// Blocks for a grid-stride loop.
unsigned some_blocks(int64_t size) { return size < 256 * 1024 ? blocks_of(size, 256) : 1024; }

template <class C>
int launch_weight(const RecurrentWeightGradient& a, cudaStream_t stream) {
  if (a.recurrence.synapses.first) {
    SNNFAST_LAUNCH(sparse_weight_kernel<C>, some_of(a.recurrence.H), kSparseThreads, 0, stream, a);
    return cudaGetLastError();
  }
  const unsigned tiles = blocks_of(a.recurrence.H, kSide);
  const dim3 grid(tiles, tiles, static_cast<unsigned>(RecurrentParts(a.N / a.recurrence.H, a.recurrence.H).parts));
  SNNFAST_LAUNCH(weight_kernel<C>, grid, kSide * kSide, 0, stream, a);
  return cudaGetLastError();
}

}  // namespace

int launch_recurrent_pack(const Recurrence& r, bool is_double, void* to_post, void* to_pre, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  const unsigned blocks = some_blocks(r.H * padded(r.H));
  if (is_double)
    SNNFAST_LAUNCH(pack_kernel<double>, blocks, 256, 0, stream, static_cast<const double*>(r.weight), r.H,
                   static_cast<double*>(to_post), static_cast<double*>(to_pre));
  else
    SNNFAST_LAUNCH(pack_kernel<float>, blocks, 256, 0, stream, static_cast<const float*>(r.weight), r.H,
                   static_cast<float*>(to_post), static_cast<float*>(to_pre));
  return cudaGetLastError();
}

int launch_recurrent_sum(void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight,
                         void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  const unsigned blocks = some_blocks(H * H);
  if (is_double)
    SNNFAST_LAUNCH(sum_kernel<double>, blocks, 256, 0, stream, static_cast<const double*>(parts), count, H,
                   static_cast<double*>(grad_weight));
  else
    SNNFAST_LAUNCH(sum_kernel<float>, blocks, 256, 0, stream, static_cast<const float*>(parts), count, H,
                   static_cast<float*>(grad_weight));
  return cudaGetLastError();
}

int launch_recurrent_weight(const RecurrentWeightGradient& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return a.spikes.dtype == Dtype::f64 ? launch_weight<double>(a, stream) : launch_weight<float>(a, stream);
}

}  // namespace snnfast
