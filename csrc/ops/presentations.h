// Presentations as arguments of operators, and their encoding ahead of the thread that presents them.
#pragma once
#include <utility>
#include <vector>

#include "core/presentations.h"
#include "ops/arguments.h"
#include "ops/interrupt.h"
#include "ops/weights.h"

#define SNNFAST_PRESENTATIONS_ARGUMENTS(FIELD) \
  FIELD(Optional, spikes)                      \
  FIELD(Optional, inputs)                      \
  FIELD(Optional, offsets)                     \
  FIELD(Optional, hz)                          \
  FIELD(Optional, seeds)                       \
  FIELD(int64_t, num_steps)                    \
  FIELD(double, per_hz)

namespace snnfast {

// Several numbers, or a tensor with as many for each of several networks.
struct Parameters {
  std::vector<double> values;
  Optional tensor;
};
template <>
struct Argument<Parameters> {
  using Flat = Types<std::vector<double>, Optional>;
  static void schema(std::string& out, const std::string& name) {
    add_argument(out, "float[]", name);
    add_argument(out, "Tensor?", name + "_tensor");
  }
};

SNNFAST_ARGUMENTS(PresentationsArguments, SNNFAST_PRESENTATIONS_ARGUMENTS)

int launch_bounded_events(const Presentations& x, int64_t networks, int64_t fired, int32_t* inputs, int64_t* offsets,
                          void* stream);

// Work memory, cached for the next call like that of outputs: fresh pages would cost more than a presentation.
class WorkMemory {
 public:
  WorkMemory(const Tensor& like, int64_t bytes) : memory_(Cpu(like).allocate(like, {bytes}, ScalarType::Byte)) {}
  char* get() const { return static_cast<char*>(memory_.mutable_data_ptr()); }

 private:
  Tensor memory_;
};

inline bool is_spike_type(ScalarType type) {
  return type == ScalarType::Bool || type == ScalarType::Byte || type == ScalarType::Float ||
         type == ScalarType::Double;
}

// Checks events: they are lists that tell a kernel where to read and write.
inline void check_events(const char* op, const Presentations& x, int64_t fired) {
  bool offsets_fit = true, inputs_fit = true;
  for (int64_t p = 0; p < x.P && offsets_fit; p++) {
    const int64_t* offsets = x.offsets + p * (x.T + 1);
    offsets_fit = offsets[0] >= 0 && offsets[x.T] <= fired;
    for (int64_t t = 0; t < x.T; t++) offsets_fit &= offsets[t] <= offsets[t + 1];
    if (!offsets_fit) break;
    // Inputs ascend within a step, so its first and its last one bound all. That they descend only between steps is
    // checked for the whole presentation at once, in SIMD.
    const int32_t *inputs = x.inputs + offsets[0], last = static_cast<int32_t>(x.I - 1);
    const int64_t count = offsets[x.T] - offsets[0];
    int32_t descents = 0, allowed = 0;
    bool inside = true;
    for (int64_t k = 1; k < count; k++) descents += inputs[k - 1] >= inputs[k];
    for (int64_t t = 0; t < x.T; t++) {
      const int64_t begin = offsets[t] - offsets[0], end = offsets[t + 1] - offsets[0];
      if (begin == end) continue;
      inside &= inputs[begin] >= 0 && inputs[end - 1] <= last;
      if (begin > 0) allowed += inputs[begin - 1] >= inputs[begin];
    }
    inputs_fit &= inside && descents == allowed;
  }
  SNNFAST_CHECK(offsets_fit, op, ": offsets must ascend within each presentation and lie in [0, ", fired, "]");
  SNNFAST_CHECK(inputs_fit, op, ": inputs must ascend within a step and lie in [0, ", x.I - 1, "]");
}

// Weights [K, N, I] are those of K networks, each with its part of every tensor; [N, I] are those of one network.
inline int64_t networks_of(const Tensor& w) { return w.dim() == 3 ? w.size(0) : 1; }

// Shape of a tensor, from the shape of the part of a network.
inline std::vector<int64_t> of_networks(const Tensor& w, std::vector<int64_t> part) {
  if (w.dim() == 3) part.insert(part.begin(), w.size(0));
  return part;
}

// Whether a tensor holds a part of `dim` dimensions for each network; else all networks share one part.
inline bool is_of_networks(const Tensor& w, const Tensor& t, int64_t dim) { return w.dim() == 3 && t.dim() == dim + 1; }

// Presentations for weights w [N, I] or [K, N, I]; `copies` owns contiguous copies.
template <class Device>
Presentations presentations_of(const char* op, const Device& device, const Tensor& w,
                               const PresentationsArguments& arguments, std::vector<Tensor>& copies) {
  Presentations x{};
  x.I = w.size(-1);
  const auto keep = [&](const Tensor& t) -> const Tensor& { return copies.emplace_back(contiguous_of(t)); };
  copies.reserve(4);  // references stay valid
  if (arguments.spikes) {
    const Tensor& spikes = *arguments.spikes;
    const bool batched = is_of_networks(w, spikes, 3);
    SNNFAST_CHECK(batched || spikes.dim() == 3, op,
                  ": spikes must have shape [P, T, I] or, for K networks, [K, P, T, I], got ", shape_of(spikes));
    const std::vector<int64_t> part{spikes.size(-3), spikes.size(-2), x.I};
    check_like(op, "spikes", spikes, w, spikes.scalar_type(), batched ? of_networks(w, part) : part);
    SNNFAST_CHECK(is_spike_type(spikes.scalar_type()), op, ": spikes must be bool, uint8, float32 or float64, got ",
                  text_of(spikes.scalar_type()));
    const Tensor& t = spikes.stride(-1) == 1 ? spikes : keep(spikes);
    x.form = PresentationForm::dense;
    x.P = t.size(-3), x.T = t.size(-2);
    x.spikes = t.const_data_ptr();
    x.network_stride = batched ? t.stride(0) : 0, x.presentation_stride = t.stride(-3), x.step_stride = t.stride(-2);
    x.width = static_cast<int32_t>(t.element_size());
  } else if (arguments.inputs && arguments.offsets) {
    const Tensor &inputs = *arguments.inputs, &offsets = *arguments.offsets;
    const bool batched = is_of_networks(w, offsets, 2);
    SNNFAST_CHECK((batched || offsets.dim() == 2) && offsets.size(-1) >= 1, op,
                  ": offsets must have shape [P, T + 1] or, for K networks, [K, P, T + 1], got ", shape_of(offsets));
    SNNFAST_CHECK(inputs.dim() == 1, op, ": inputs must have 1 dimension, got shape ", shape_of(inputs));
    const std::vector<int64_t> part{offsets.size(-2), offsets.size(-1)};
    check_like(op, "inputs", inputs, w, ScalarType::Int, {inputs.size(0)});
    check_like(op, "offsets", offsets, w, ScalarType::Long, batched ? of_networks(w, part) : part);
    x.form = PresentationForm::events;
    x.P = part[0], x.T = part[1] - 1;
    x.network_stride = batched ? part[0] * part[1] : 0;
    x.inputs = keep(inputs).template const_data_ptr<int32_t>();
    x.offsets = keep(offsets).template const_data_ptr<int64_t>();
  } else {
    SNNFAST_CHECK(
        arguments.hz && arguments.seeds && arguments.num_steps >= 0, op,
        ": x must be spikes, or inputs and offsets, or hz, seeds and num_steps of at least 0; one of them is missing");
    const bool batched = is_of_networks(w, *arguments.hz, 2), batched_seeds = is_of_networks(w, *arguments.seeds, 1);
    SNNFAST_CHECK(batched || arguments.hz->dim() == 2, op,
                  ": hz must have shape [P, I] or, for K networks, [K, P, I], got ", shape_of(*arguments.hz));
    x.P = arguments.hz->size(-2), x.T = arguments.num_steps;
    const std::vector<int64_t> part{x.P, x.I}, part_seeds{x.P};
    check_like(op, "hz", *arguments.hz, w, ScalarType::Float, batched ? of_networks(w, part) : part);
    check_like(op, "seeds", *arguments.seeds, w, ScalarType::Long,
               batched_seeds ? of_networks(w, part_seeds) : part_seeds);
    x.form = PresentationForm::rates;
    x.network_stride = batched ? x.P * x.I : 0, x.seeds_stride = batched_seeds ? x.P : 0;
    x.hz = keep(*arguments.hz).template const_data_ptr<float>();
    x.seeds = keep(*arguments.seeds).template const_data_ptr<int64_t>();
    x.per_hz = static_cast<float>(arguments.per_hz);
  }
  const int64_t most = int64_t{1} << 31;
  SNNFAST_CHECK(x.I < most && x.T < most && x.T * std::max<int64_t>(x.I, 1) < most, op,
                ": a presentation must have fewer than 2^31 elements, got ", x.T, " steps of ", x.I, " inputs");
  if (x.form == PresentationForm::events) {
    const int64_t fired = arguments.inputs->size(0), networks = x.network_stride ? networks_of(w) : 1;
    if constexpr (Device::kCuda) {
      // Checking the values would wait for the device, so the kernel reads bounded copies.
      const Tensor inputs = copies.emplace_back(torch::stable::empty_like(copies[0]));
      const Tensor offsets = copies.emplace_back(torch::stable::empty_like(copies[1]));
      int32_t* bounded_inputs = static_cast<int32_t*>(inputs.mutable_data_ptr());
      int64_t* bounded_offsets = static_cast<int64_t*>(offsets.mutable_data_ptr());
      device.launch(op, [&](void* stream) {
        return launch_bounded_events(x, networks, fired, bounded_inputs, bounded_offsets, stream);
      });
      x.inputs = bounded_inputs, x.offsets = bounded_offsets;
    } else {
      for (int64_t k = 0; k < networks; k++) check_events(op, x.network(k), fired);
    }
  }
  return x;
}

// Memory of some presentations as lists of spikes. encode(p, memory, train) makes one with `scratch` bytes of memory.
template <class Encode>
class Trains {
 public:
  Trains(const Tensor& like, const Presentations& x, int64_t count, int64_t scratch, const Encode& encode)
      : inputs_(x.T * x.I + kSlack),
        offsets_(x.T + 1),
        encode_(encode),
        memory_(like, count * (inputs_ + offsets_) * 4),
        scratch_(like, scratch) {}
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

// Calls present(memory, train, p) for one presentation after the other, since each depends on the one before; a second
// thread encodes ahead.
template <class Encode, class Present>
void present_in_order(const Tensor& like, const Presentations& x, int64_t local_bytes, int64_t scratch,
                      const Encode& encode, const Present& present) {
  const int64_t chunk = std::clamp<int64_t>((int64_t{1} << 24) / (4 * (x.T * x.I + 1)), 1, 16);
  const auto end = [&](int64_t p) { return std::min(p + chunk, x.P); };
  const WorkMemory local(like, local_bytes);
  const Trains<Encode> front(like, x, end(0), scratch, encode), next(like, x, end(end(0)) - end(0), scratch, encode);
  const Trains<Encode>*current = &front, *ahead = &next;
  current->encode(0, end(0));
  InterruptibleCall call;
  for (int64_t p = 0; p < x.P && !call.interrupted(); p = end(p)) {
    parallel_for(end(p) < x.P ? 2 : 1, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; task++) {
        if (task == 1)
          ahead->encode(end(p), end(end(p)));
        else
          for (int64_t q = p; q < end(p); q++) present(local.get(), current->train(q - p), q);
      }
    });
    std::swap(current, ahead);
  }
}

// The same in any order.
template <class Encode, class Present>
void present_in_parallel(const Tensor& like, const Presentations& x, int64_t local_bytes, int64_t scratch,
                         const Encode& encode, const Present& present) {
  InterruptibleCall call;
  parallel_for(x.P, 1, [&](int64_t first, int64_t last) {
    const WorkMemory local(like, local_bytes);
    const Trains<Encode> trains(like, x, 1, scratch, encode);
    for (int64_t p = first; p < last && !call.interrupted(); p++) {
      trains.encode(p, p + 1);
      present(local.get(), trains.train(0), p);
    }
  });
}

}  // namespace snnfast
