// Presentations as operators take them, and their encoding ahead of the thread that presents them.
#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "core/presentations.h"
#include "ops/device.h"

namespace snnfast {

using OptionalTensor = std::optional<Tensor>;

// Memory to work in, kept for the next call like that of outputs: fresh pages would cost more than a presentation.
class WorkMemory {
 public:
  WorkMemory(const Tensor& like, int64_t bytes) : memory_(Cpu(like).allocate(like, {bytes}, ScalarType::Byte)) {}
  char* get() const { return static_cast<char*>(memory_.mutable_data_ptr()); }

 private:
  Tensor memory_;
};

inline void check_like(const char* op, const char* name, const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape) {
  const auto sizes = t.sizes();
  STD_TORCH_CHECK(std::vector<int64_t>(sizes.begin(), sizes.end()) == shape, op, ": ", name, " has a wrong shape");
  STD_TORCH_CHECK(t.scalar_type() == type, op, ": ", name, " has a wrong dtype");
  STD_TORCH_CHECK(t.is_cuda() == w.is_cuda() && t.get_device_index() == w.get_device_index(), op, ": ", name, " must be on the device of w");
}

inline bool is_spike_type(ScalarType type) {
  return type == ScalarType::Bool || type == ScalarType::Byte || type == ScalarType::Float || type == ScalarType::Double;
}

// The presentations in one of their three forms for weights w [N, I]; `kept` holds contiguous copies.
inline Presentations presentations_of(const char* op, const Tensor& w, const OptionalTensor& spikes, const OptionalTensor& inputs,
                                      const OptionalTensor& offsets, const OptionalTensor& hz, const OptionalTensor& seeds, int64_t time_steps, double per_hz,
                                      std::vector<Tensor>& kept) {
  Presentations x{};
  x.I = w.size(1);
  const auto keep = [&](const Tensor& t) -> const Tensor& { return kept.emplace_back(torch::stable::contiguous(t)); };
  kept.reserve(2);
  if (spikes) {
    STD_TORCH_CHECK(spikes->dim() == 3, op, ": spikes must have shape [P, T, I]");
    check_like(op, "spikes", *spikes, w, spikes->scalar_type(), {spikes->size(0), spikes->size(1), x.I});
    const Tensor& t = keep(*spikes);
    x.P = t.size(0), x.T = t.size(1);
    x.spikes = t.const_data_ptr();
    x.width = static_cast<int32_t>(t.element_size());
    x.floating = t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(is_spike_type(t.scalar_type()), op, ": spikes must be bool, uint8, float32 or float64");
  } else if (inputs && offsets) {
    STD_TORCH_CHECK(offsets->dim() == 2 && offsets->size(1) >= 1 && inputs->dim() == 1, op, ": offsets must have shape [P, T + 1]");
    check_like(op, "inputs", *inputs, w, ScalarType::Int, {inputs->size(0)});
    check_like(op, "offsets", *offsets, w, ScalarType::Long, {offsets->size(0), offsets->size(1)});
    x.P = offsets->size(0), x.T = offsets->size(1) - 1;
    x.inputs = keep(*inputs).const_data_ptr<int32_t>();
    x.offsets = keep(*offsets).const_data_ptr<int64_t>();
  } else {
    STD_TORCH_CHECK(hz && seeds && hz->dim() == 2 && time_steps >= 0, op, ": give spikes, or inputs and offsets, or hz, seeds and time_steps");
    check_like(op, "hz", *hz, w, ScalarType::Float, {hz->size(0), x.I});
    check_like(op, "seeds", *seeds, w, ScalarType::Long, {hz->size(0)});
    x.P = hz->size(0), x.T = time_steps;
    x.hz = keep(*hz).const_data_ptr<float>();
    x.seeds = keep(*seeds).const_data_ptr<int64_t>();
    x.per_hz = static_cast<float>(per_hz);
  }
  STD_TORCH_CHECK(x.I < (int64_t{1} << 31) && x.T * x.I < (int64_t{1} << 31), op, ": a presentation must have less than 2^31 elements");
  return x;
}

// Room for some presentations as lists of spikes. encode(p, memory, train) makes one with `scratch` bytes of memory.
template <class Encode>
class Trains {
 public:
  Trains(const Tensor& like, const Presentations& x, int64_t count, int64_t scratch, const Encode& encode)
      : inputs_(x.T * x.I + kSlack), offsets_(x.T + 1), encode_(encode), memory_(like, count * (inputs_ + offsets_) * 4), scratch_(like, scratch) {}
  SpikeTrain train(int64_t k) const {
    int32_t* inputs = reinterpret_cast<int32_t*>(memory_.get()) + k * (inputs_ + offsets_);
    return {inputs, inputs + inputs_};
  }
  void encode(int64_t first, int64_t last) const {
    for (int64_t p = first; p < last; p++) encode_(p, scratch_.get(), train(p - first));
  }

 private:
  static constexpr int64_t kSlack = 16;  // inputs are stored a SIMD register at a time
  int64_t inputs_, offsets_;
  const Encode& encode_;
  WorkMemory memory_, scratch_;
};

// present(memory, train, p) for one presentation after the other, since each finds what the last one left; a second thread
// encodes ahead.
template <class Encode, class Present>
void present_in_order(const Tensor& like, const Presentations& x, int64_t own_bytes, int64_t scratch, const Encode& encode, const Present& present) {
  const int64_t room = (int64_t{1} << 24) / (4 * (x.T * x.I + 1)), chunk = room < 1 ? 1 : room < 16 ? room : 16;
  const auto end = [&](int64_t p) { return p + chunk < x.P ? p + chunk : x.P; };
  const WorkMemory own(like, own_bytes);
  const Trains<Encode> now(like, x, end(0), scratch, encode), next(like, x, end(end(0)) - end(0), scratch, encode);
  const Trains<Encode>*current = &now, *ahead = &next;
  current->encode(0, end(0));
  for (int64_t p = 0; p < x.P; p = end(p)) {
    torch::stable::parallel_for(0, end(p) < x.P ? 2 : 1, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; task++) {
        if (task == 1)
          ahead->encode(end(p), end(end(p)));
        else
          for (int64_t q = p; q < end(p); q++) present(own.get(), current->train(q - p), q);
      }
    });
    std::swap(current, ahead);
  }
}

// The same in any order.
template <class Encode, class Present>
void present_in_parallel(const Tensor& like, const Presentations& x, int64_t own_bytes, int64_t scratch, const Encode& encode, const Present& present) {
  torch::stable::parallel_for(0, x.P, 1, [&](int64_t first, int64_t last) {
    const WorkMemory own(like, own_bytes);
    const Trains<Encode> trains(like, x, 1, scratch, encode);
    for (int64_t p = first; p < last; p++) {
      trains.encode(p, p + 1);
      present(own.get(), trains.train(0), p);
    }
  });
}

}  // namespace snnfast
