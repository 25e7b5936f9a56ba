#include "core/diehl_cook.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/dispatch.h"
#include "ops/device.h"

SNNFAST_CPU_KERNEL(diehl_cook_memory, (const DiehlCook&, int64_t* shared, int64_t* own, int64_t* encoding))
SNNFAST_CPU_KERNEL(diehl_cook_prepare, (const DiehlCook&, char* shared))
SNNFAST_CPU_KERNEL(diehl_cook_encode, (const DiehlCook&, int64_t p, char* memory, const SpikeTrain&))
SNNFAST_CPU_KERNEL(diehl_cook_present, (const DiehlCook&, char* shared, char* own, const SpikeTrain&, int64_t p))

namespace snnfast {

int64_t diehl_cook_workspace(const DiehlCook&);
int launch_diehl_cook(const DiehlCook&, void* workspace, void* stream);

namespace {

using Optional = std::optional<Tensor>;

std::unique_ptr<char, decltype(&std::free)> aligned(int64_t bytes) {
  std::unique_ptr<char, decltype(&std::free)> memory(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 + 1) * 64)), &std::free);
  STD_TORCH_CHECK(memory, "diehl_cook: no memory left for ", bytes, " bytes");
  return memory;
}

// Room for some presentations as lists of spikes. What is never written to costs no memory.
class Trains {
 public:
  Trains(const DiehlCook& a, int64_t count, int64_t scratch)
      : a_(a), inputs_(a.x.T * a.x.I + 1), offsets_(a.x.T + 1), memory_(aligned(count * (inputs_ + offsets_) * 4)), scratch_(aligned(scratch)) {}
  SpikeTrain train(int64_t k) const {
    int32_t* inputs = reinterpret_cast<int32_t*>(memory_.get()) + k * (inputs_ + offsets_);
    return {inputs, inputs + inputs_};
  }
  void encode(int64_t first, int64_t last) {
    for (int64_t p = first; p < last; p++) cpu::diehl_cook_encode()(a_, p, scratch_.get(), train(p - first));
  }

 private:
  const DiehlCook& a_;
  int64_t inputs_, offsets_;
  std::unique_ptr<char, decltype(&std::free)> memory_, scratch_;
};

// One presentation after the other, since each finds what the last one learned; a second thread encodes ahead.
void present_in_order(const DiehlCook& a, char* shared, int64_t own_bytes, int64_t encoding) {
  const int64_t P = a.x.P, room = (int64_t{1} << 26) / (4 * (a.x.T * a.x.I + 1)), chunk = room < 1 ? 1 : room < 32 ? room : 32;
  const auto end = [&](int64_t p) { return p + chunk < P ? p + chunk : P; };
  const auto own = aligned(own_bytes);
  Trains now(a, chunk, encoding), next(a, P > chunk ? chunk : 0, encoding);
  Trains *current = &now, *ahead = &next;
  current->encode(0, end(0));
  for (int64_t p = 0; p < P; p = end(p)) {
    torch::stable::parallel_for(0, end(p) < P ? 2 : 1, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; task++) {
        if (task == 1)
          ahead->encode(end(p), end(end(p)));
        else
          for (int64_t q = p; q < end(p); q++) cpu::diehl_cook_present()(a, shared, own.get(), current->train(q - p), q);
      }
    });
    std::swap(current, ahead);
  }
}

void present_in_parallel(const DiehlCook& a, char* shared, int64_t own_bytes, int64_t encoding) {
  torch::stable::parallel_for(0, a.x.P, 1, [&](int64_t first, int64_t last) {
    const auto own = aligned(own_bytes);
    Trains trains(a, 1, encoding);
    for (int64_t p = first; p < last; p++) {
      trains.encode(p, p + 1);
      cpu::diehl_cook_present()(a, shared, own.get(), trains.train(0), p);
    }
  });
}

void run_on_cpu(const DiehlCook& a) {
  int64_t shared_bytes, own_bytes, encoding;
  cpu::diehl_cook_memory()(a, &shared_bytes, &own_bytes, &encoding);
  const auto shared = aligned(shared_bytes);
  cpu::diehl_cook_prepare()(a, shared.get());
  const bool changes = a.rule || a.theta_plus != 0 || a.theta_decay != 1 || a.carry;
  (changes || a.state.v ? present_in_order : present_in_parallel)(a, shared.get(), own_bytes, encoding);
}

void check_like(const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape, const char* name) {
  const auto sizes = t.sizes();
  STD_TORCH_CHECK(std::vector<int64_t>(sizes.begin(), sizes.end()) == shape, "diehl_cook: ", name, " has a wrong shape");
  STD_TORCH_CHECK(t.scalar_type() == type, "diehl_cook: ", name, " has a wrong dtype");
  STD_TORCH_CHECK(t.is_cuda() == w.is_cuda() && t.get_device_index() == w.get_device_index(), "diehl_cook: ", name, " must be on the device of w");
}

// The presentations in one of their three forms; `kept` holds contiguous copies.
Presentations presentations(const Tensor& w, const Optional& spikes, const Optional& inputs, const Optional& offsets, const Optional& hz, const Optional& seeds,
                            int64_t time_steps, double per_hz, std::vector<Tensor>& kept) {
  Presentations x{};
  x.I = w.size(1);
  const auto keep = [&](const Tensor& t) -> const Tensor& { return kept.emplace_back(torch::stable::contiguous(t)); };
  kept.reserve(2);
  if (spikes) {
    STD_TORCH_CHECK(spikes->dim() == 3, "diehl_cook: spikes must have shape [P, T, I]");
    check_like(*spikes, w, spikes->scalar_type(), {spikes->size(0), spikes->size(1), x.I}, "spikes");
    const Tensor& t = keep(*spikes);
    x.P = t.size(0), x.T = t.size(1);
    x.spikes = t.const_data_ptr();
    x.width = static_cast<int32_t>(t.element_size());
    x.floating = t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(x.floating || x.width == 1, "diehl_cook: spikes must be bool, uint8, float32 or float64");
  } else if (inputs && offsets) {
    STD_TORCH_CHECK(offsets->dim() == 2 && offsets->size(1) >= 1 && inputs->dim() == 1, "diehl_cook: offsets must have shape [P, T + 1]");
    check_like(*inputs, w, ScalarType::Int, {inputs->size(0)}, "inputs");
    check_like(*offsets, w, ScalarType::Long, {offsets->size(0), offsets->size(1)}, "offsets");
    x.P = offsets->size(0), x.T = offsets->size(1) - 1;
    x.inputs = keep(*inputs).const_data_ptr<int32_t>();
    x.offsets = keep(*offsets).const_data_ptr<int64_t>();
  } else {
    STD_TORCH_CHECK(hz && seeds && hz->dim() == 2 && time_steps >= 0, "diehl_cook: give spikes, or inputs and offsets, or hz, seeds and time_steps");
    check_like(*hz, w, ScalarType::Float, {hz->size(0), x.I}, "hz");
    check_like(*seeds, w, ScalarType::Long, {hz->size(0)}, "seeds");
    x.P = hz->size(0), x.T = time_steps;
    x.hz = keep(*hz).const_data_ptr<float>();
    x.seeds = keep(*seeds).const_data_ptr<int64_t>();
    x.per_hz = static_cast<float>(per_hz);
  }
  STD_TORCH_CHECK(x.I < (int64_t{1} << 31) && x.T * x.I < (int64_t{1} << 31), "diehl_cook: a presentation must have less than 2^31 elements");
  return x;
}

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

DiehlCookState state_of(const std::vector<Tensor>& s, const Tensor& w, int64_t delay) {
  if (s.empty()) return {};
  STD_TORCH_CHECK(s.size() == 8, "diehl_cook: state must have 8 tensors, got ", s.size());
  const int64_t N = w.size(0), I = w.size(1);
  const ScalarType c = w.scalar_type();
  check_like(s[0], w, c, {N}, "v");
  check_like(s[1], w, ScalarType::Int, {N}, "refractory");
  check_like(s[2], w, c, {I}, "trace_pre");
  check_like(s[3], w, c, {I}, "trace_pre2");
  check_like(s[4], w, c, {N}, "trace_post");
  check_like(s[5], w, c, {N}, "trace_post2");
  check_like(s[6], w, ScalarType::Bool, {I}, "last_input");
  check_like(s[7], w, ScalarType::Bool, {delay, N}, "last_spikes");
  for (const Tensor& t : s) STD_TORCH_CHECK(t.is_contiguous(), "diehl_cook: state must be contiguous");
  return {pointer<void>(s[0]), pointer<void>(s[2]),    pointer<void>(s[3]), pointer<void>(s[4]),
          pointer<void>(s[5]), pointer<int32_t>(s[1]), pointer<bool>(s[6]), pointer<bool>(s[7])};
}

// numbers: decay, v_threshold, v_reset, inhibition, theta_plus, theta_decay, norm (0: none), probability of a spike at 1 Hz.
template <class Device>
std::tuple<Tensor, Tensor> diehl_cook(const Tensor& w, const Tensor& theta, const Optional& spikes, const Optional& inputs, const Optional& offsets,
                                      const Optional& hz, const Optional& seeds, int64_t time_steps, const std::vector<double>& rule,
                                      const std::vector<double>& numbers, int64_t refractory, int64_t inhibition_delay, bool one_winner,
                                      const std::vector<Tensor>& state, bool carry, bool return_spikes) {
  STD_TORCH_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, "diehl_cook: w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 2, "diehl_cook: w must have shape [N, I]");
  const int64_t N = w.size(0);
  check_like(theta, w, w.scalar_type(), {N}, "theta");
  STD_TORCH_CHECK(theta.is_contiguous(), "diehl_cook: theta must be contiguous");
  STD_TORCH_CHECK(rule.empty() || rule.size() == PlasticityConstants::kCount, "diehl_cook: rule has a wrong length");
  STD_TORCH_CHECK(numbers.size() == 8, "diehl_cook: numbers must be 8");
  STD_TORCH_CHECK(refractory >= 0 && refractory < (int64_t{1} << 31) && inhibition_delay >= 0, "diehl_cook: times must be at least 0 steps");
  const Device device(w);
  std::vector<Tensor> kept;
  DiehlCook a{};
  a.x = presentations(w, spikes, inputs, offsets, hz, seeds, time_steps, numbers[7], kept);
  a.N = N;
  a.f64 = w.scalar_type() == ScalarType::Double;
  a.w = w.mutable_data_ptr();
  a.w_stride_neuron = w.stride(0);
  a.w_stride_input = w.stride(1);
  a.theta = theta.mutable_data_ptr();
  a.rule = rule.empty() ? nullptr : rule.data();
  a.decay = numbers[0], a.v_threshold = numbers[1], a.v_reset = numbers[2], a.inhibition = numbers[3];
  a.theta_plus = numbers[4], a.theta_decay = numbers[5], a.norm = numbers[6];
  a.refractory = static_cast<int32_t>(refractory);
  a.inhibition_delay = inhibition_delay;
  a.one_winner = one_winner;
  a.state = state_of(state, w, inhibition_delay);
  a.carry = carry && a.state.v;
  Tensor counts = torch::stable::new_zeros(w, {a.x.P, N}, ScalarType::Int);
  Tensor raster = torch::stable::new_zeros(w, {return_spikes ? a.x.P : 0, a.x.T, N}, ScalarType::Bool);
  if (a.x.P == 0 || N == 0) return {counts, raster};
  a.counts = pointer<int32_t>(counts);
  a.spikes = return_spikes ? pointer<bool>(raster) : nullptr;
  if constexpr (Device::kCuda) {
    Tensor workspace = torch::stable::new_empty(w, {diehl_cook_workspace(a)}, ScalarType::Byte);
    device.launch("diehl_cook", [&](void* stream) { return launch_diehl_cook(a, workspace.mutable_data_ptr(), stream); });
  } else {
    run_on_cpu(a);
  }
  return {counts, raster};
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "diehl_cook_(Tensor(a!) w, Tensor(b!) theta, Tensor? spikes, Tensor? inputs, Tensor? offsets, Tensor? hz, Tensor? seeds, "
      "int time_steps, float[] rule, float[] numbers, int refractory, int inhibition_delay, bool one_winner, Tensor(c!)[] state, "
      "bool carry, bool return_spikes) -> (Tensor, Tensor)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("diehl_cook_", TORCH_BOX(&diehl_cook<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
