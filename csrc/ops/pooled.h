// Operators of neurons with pooled spikes, on the CPU: some neurons at a time go through all steps, and a cache still
// holds their spikes when they are pooled. The forward pass writes no spikes to memory, the backward pass no gradients
// of spikes.
#pragma once
#include "ops/pool2d.h"

namespace snnfast {

constexpr int64_t kPooledBytes = int64_t{1} << 18;  // spikes processed at a time, or those of one unit

template <class T>
T* advanced(T* data, int64_t bytes) {
  return data ? reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) : nullptr;
}

// Images x [T, B, H, W, C] in units, some of which are processed at a time. A unit is a row of windows; or an image, if
// rows after the last window belong to none, or if parameters differ within an image.
class PooledImages {
 public:
  PooledImages(const char* op, const Tensor& x, int64_t kernel_h, int64_t kernel_w, bool average,
               const NeuronScan<AnyNeuron>& scan, int64_t params) {
    SNNFAST_CHECK(x.dim() == 5, op, ": x must have shape [T, B, H, W, C], got ", shape_of(x));
    window_ = pool2d_of(op, x, {x.size(1), x.size(4), x.size(2), x.size(3)}, kernel_h, kernel_w, average);
    T_ = x.size(0), size_ = static_cast<int64_t>(x.element_size()), state_size_ = size_ == 8 ? 8 : 4;
    shape_ = {T_, window_.N, window_.out_h, window_.out_w, window_.C};
    const int64_t image = window_.H * window_.W * window_.C, row = kernel_h * window_.W * window_.C;
    bool by_rows = window_.H % kernel_h == 0;
    for (int64_t k = 0; k < params; k++) {
      const Param& p = scan.param[k];
      const int64_t span = p.data && p.count > 1 ? p.count * p.inner : 1;  // period of the values
      SNNFAST_CHECK(image % span == 0, op, ": parameters must be the same for all images, got one for each of ", span,
                    " neurons where an image has ", image);
      by_rows = by_rows && row % span == 0;
    }
    if (by_rows) window_.N *= window_.out_h, window_.H = kernel_h, window_.out_h = 1;
    neurons_ = window_.H * window_.W * window_.C, windows_ = window_.out_h * window_.out_w * window_.C;
    most_ = T_ * neurons_ > 0 ? std::max<int64_t>(kPooledBytes / (T_ * neurons_ * size_), 1) : 1;
  }

  Dtype dtype() const { return window_.dtype; }
  const std::vector<int64_t>& pooled_shape() const { return shape_; }
  // Shape of the argmax indices; an average has none.
  std::vector<int64_t> argmax_shape() const { return window_.average ? std::vector<int64_t>{0} : shape_; }
  // Bytes of the spikes processed at a time.
  size_t bytes() const { return static_cast<size_t>(T_ * most_ * neurons_ * size_); }

  // Calls run(first unit, number of units).
  template <class Run>
  void each_unit(const Run& run) const {
    parallel_for(window_.N, most_, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u += most_) run(u, std::min(end - u, most_));
    });
  }

  // Scan over the neurons of some units.
  template <class Scan>
  Scan part(Scan a, int64_t first, int64_t count) const {
    const int64_t n = first * neurons_, state = n * state_size_;
    a.N = count * neurons_;
    a.x.data = advanced(a.x.data, n * a.x.inner_stride * size_);
    a.checkpoints = advanced(a.checkpoints, state);
    for (auto& pointer : a.state_in) pointer = advanced(pointer, state);
    return a;
  }

  // Pools the spikes [T, count, ...] of some units to y and argmax [T, B, ...].
  void pool(const void* spikes, int64_t first, int64_t count, void* y, uint8_t* argmax) const {
    each_step(first, count, [&](Pool2d a, int64_t from, int64_t to) {
      a.x = advanced(spikes, from * size_), a.y = advanced(y, to * size_), a.argmax = advanced(argmax, to);
      cpu::pool2d_forward()(a, 0, count * window_.out_h);
    });
  }
  // Gradient of the spikes, from that of y.
  void spread(const void* grad, uint8_t* argmax, int64_t first, int64_t count, void* grad_spikes) const {
    each_step(first, count, [&](Pool2d a, int64_t to, int64_t from) {
      // The next rows are elsewhere in every step, where the hardware does not prefetch.
      const int64_t next = from + count * windows_, most = count * windows_;
      for (int64_t i = 0; i < most * size_; i += 64) __builtin_prefetch(advanced(grad, next * size_ + i));
      for (int64_t i = 0; i < (window_.average ? 0 : most); i += 64) __builtin_prefetch(advanced(argmax, next + i));
      a.grad = advanced(grad, from * size_), a.grad_x = advanced(grad_spikes, to * size_),
      a.argmax = advanced(argmax, from);
      cpu::pool2d_backward()(a, 0, count * window_.out_h);
    });
  }

  int64_t state_bytes(int64_t first) const { return first * neurons_ * state_size_; }
  int64_t bytes(int64_t first) const { return first * neurons_ * size_; }

 private:
  Pool2d window_;  // of the units of one step
  std::vector<int64_t> shape_;
  int64_t T_, size_, state_size_, neurons_, windows_, most_;

  // Calls step(units of this step, spikes before them, windows before them).
  template <class Step>
  void each_step(int64_t first, int64_t count, const Step& step) const {
    Pool2d a = window_;
    a.N = count;
    for (int64_t t = 0; t < T_; t++) step(a, t * count * neurons_, (t * window_.N + first) * windows_);
  }
};

struct Windows {
  int64_t height, width;
  bool average;
};

inline void check_pooled(const NeuronCall& call) {
  SNNFAST_CHECK(call.fires, call.op, ": fires must be true, got false");
  SNNFAST_CHECK(!call.return_v_seq, call.op, ": return_v_seq must be false, got true");
}

// Returns y, states, argmax indices in the windows, and checkpoints. kernel: that of the neurons, as in neuron_forward.
template <class Kernel>
Tensors pooled_forward(const NeuronCall& call, const Windows& w, int64_t checkpoint_every, const Kernel& kernel) {
  const Tensor& x = call.x;
  NeuronTensors tensors(call.op, x);
  check_pooled(call);
  const Cpu device(x);
  NeuronForward<AnyNeuron> a{};
  Tensors outputs = forward_tensors(call, false, checkpoint_every, tensors, device, a);
  const PooledImages images(call.op, x, w.height, w.width, w.average, a, call.sizes.params);
  const Tensor y = outputs[0] = device.allocate(x, images.pooled_shape(), x.scalar_type());
  const Tensor argmax = outputs[1 + call.states.size()] = device.allocate(x, images.argmax_shape(), ScalarType::Byte);
  if (a.N == 0) return outputs;
  images.each_unit([&](int64_t first, int64_t count) {
    NeuronForward<AnyNeuron> part = images.part(a, first, count);
    for (auto& pointer : part.state_out) pointer = advanced(pointer, images.state_bytes(first));
    part.checkpoints_out = advanced(a.checkpoints_out, images.state_bytes(first));
    part.spikes = thread_scratch(images.bytes());
    kernel(part, 0, part.N);
    images.pool(part.spikes, first, count, y.mutable_data_ptr(), static_cast<uint8_t*>(argmax.mutable_data_ptr()));
  });
  return outputs;
}

// Gradients as in backward_tensors; gradients.grads begins with that of y.
template <class Kernel>
Tensors pooled_backward(const NeuronCall& call, const Windows& w, const Tensor& argmax, NeuronGradients gradients,
                        const Kernel& kernel) {
  const Tensor& x = call.x;
  NeuronTensors tensors(call.op, x);
  check_pooled(call);
  SNNFAST_CHECK(!gradients.grads.back(), call.op, ": grad_v_seq must be none, got a tensor");
  const Cpu device(x);
  const Optional grad_y = std::exchange(gradients.grads.front(), std::nullopt);
  NeuronBackward<AnyNeuron> a{};
  Tensors outputs = backward_tensors(call, gradients, tensors, device, a);
  const PooledImages images(call.op, x, w.height, w.width, w.average, a, call.sizes.params);
  check_tensor(call.op, "places", argmax, ScalarType::Byte, images.argmax_shape(), "x", x);
  check_contiguous(call.op, "places", argmax);
  Optional grad;
  if (grad_y) {
    check_tensor(call.op, "grad_y", *grad_y, x.scalar_type(), images.pooled_shape(), "x", x);
    grad = contiguous_of(*grad_y);
  }
  if (a.N == 0) return outputs;
  const size_t tape = neuron_tape_bytes(call.sizes, a);
  images.each_unit([&](int64_t first, int64_t count) {
    NeuronBackward<AnyNeuron> part = images.part(a, first, count);
    const int64_t state = images.state_bytes(first);
    for (auto& pointer : part.grad_state_out) pointer = advanced(pointer, state);
    for (auto& pointer : part.grad_state_in) pointer = advanced(pointer, state);
    for (auto& pointer : part.grad_param) pointer = advanced(pointer, state);
    part.grad_x = advanced(a.grad_x, images.bytes(first));
    char* scratch = static_cast<char*>(thread_scratch(tape + images.bytes()));
    if (grad) {
      images.spread(grad->const_data_ptr(), static_cast<uint8_t*>(argmax.mutable_data_ptr()), first, count,
                    scratch + tape);
      part.grad_spikes = {scratch + tape, images.dtype(), part.N, 1};
    }
    kernel(part, 0, part.N, scratch);
  });
  return outputs;
}

}  // namespace snnfast
