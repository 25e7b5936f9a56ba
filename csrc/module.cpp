// The Python module snnfast._C. Importing it registers the operators (csrc/ops); the functions here report, or work on
// arrays of numpy.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <string>

#include "build_info.h"
#include "core/recurrent.h"
#include "core/spike_conv2d.h"
#include "cpu/dispatch.h"
#include "cpu/edges.h"

// PyTorch's headers conflict with pybind11's, so the functions of csrc/ops are declared here again.
namespace snnfast {
bool torch_has_cuda();
void set_signal_handlers(bool (*run)());
void set_spike_exchange(bool (*exchange)(int64_t, int64_t, int64_t, int64_t, EventList&));
int64_t load_own_kernel(const std::string& name, const std::string& path);
namespace output_memory {
struct Statistics {
  int64_t limit, cached, in_use;
};
Statistics statistics();
void set_limit(int64_t bytes);
void release();
bool keep_freed_memory();
}  // namespace output_memory
#ifdef SNNFAST_WITH_CUDA
void cuda_versions(int* driver, int* build);
std::string cuda_driver_problem();
#endif
}  // namespace snnfast

namespace {

// Ctrl-C in the middle of a call (ops/interrupt.h). An exception that a handler raises waits until the call is back in
// Python: on its way, PyTorch would replace it.
PyObject *exception_type, *exception, *traceback;

int raise_in_python(void*) {
  PyErr_Restore(exception_type, exception, traceback);
  return -1;
}
void raise_later() {
  PyErr_Fetch(&exception_type, &exception, &traceback);
  Py_AddPendingCall(&raise_in_python, nullptr);
}
bool run_signal_handlers() {
  const pybind11::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() == 0) return false;
  raise_later();
  return true;
}

// Exchange of spikes between processes (ops/exchange.h), by a function of snnfast.connect.part. It returns int32
// [spikes, 3], or None to end the call; errors of its own it raises when the call is back.
pybind11::handle exchange_in_python;

bool exchange_spikes(int64_t key, int64_t first_sample, int64_t samples, int64_t t, snnfast::EventList& spikes) {
  const pybind11::gil_scoped_acquire gil;
  const auto size = static_cast<pybind11::ssize_t>(3 * sizeof(int32_t));
  const pybind11::bytes sent(reinterpret_cast<const char*>(spikes.numbers), static_cast<size_t>(spikes.count * size));
  try {
    const pybind11::object received = exchange_in_python(key, first_sample, samples, t, sent);
    if (received.is_none()) return false;
    const pybind11::buffer_info info = pybind11::buffer(received).request();
    spikes.count = info.size * info.itemsize / size;
    while (spikes.room < spikes.count) spikes.grow(spikes);
    if (spikes.count > 0) std::memcpy(spikes.numbers, info.ptr, static_cast<size_t>(spikes.count * size));
    return true;
  } catch (pybind11::error_already_set& error) {  // Ctrl-C
    error.restore();
    raise_later();
    return false;
  }
}

// Memory of a contiguous array of `count` numbers.
template <class T>
T* numbers(const pybind11::buffer& array, pybind11::ssize_t count, bool writable = true) {
  const pybind11::buffer_info info = array.request(writable);
  if (info.ndim != 1 || info.shape[0] != count || info.itemsize != sizeof(T) ||
      (count > 1 && info.strides[0] != info.itemsize))
    throw pybind11::value_error("sort_edges: expected a contiguous array of " + std::to_string(count) + " numbers of " +
                                std::to_string(sizeof(T)) + " bytes");
  return static_cast<T*>(info.ptr);
}

bool sort_edges(const pybind11::buffer& row, const pybind11::buffer& target, int64_t rows, int64_t n_post,
                const pybind11::buffer& first, const pybind11::buffer& targets,
                const std::optional<pybind11::buffer>& order) {
  const pybind11::ssize_t count = row.request().size;
  snnfast::cpu::Edges a{};
  a.row = numbers<int32_t>(row, count, false);
  a.target = numbers<int32_t>(target, count, false);
  a.count = count, a.rows = rows, a.n_post = n_post;
  a.first = numbers<int64_t>(first, rows + 1);
  a.wide = targets.request().itemsize == sizeof(int32_t);
  a.targets = a.wide ? static_cast<void*>(numbers<int32_t>(targets, count)) : numbers<int16_t>(targets, count);
  a.order = order ? numbers<int32_t>(*order, count) : nullptr;
  const pybind11::gil_scoped_release others_run;
  return snnfast::cpu::sort_edges(a);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  snnfast::set_signal_handlers(&run_signal_handlers);
  m.def("cpu_isa", &snnfast::cpu::isa_name, "the instruction set whose CPU kernels run");
  m.def("cpu_isa_problem", &snnfast::cpu::isa_problem, "why SNNFAST_CPU_ISA was not followed, or an empty string");
  m.def("cpu_isas", &snnfast::cpu::isas, "instruction sets that the build has kernels for and this processor runs");
  m.def("torch_has_cuda", &snnfast::torch_has_cuda, "whether the PyTorch that loaded this is a CUDA build");
  m.def(
      "output_memory",
      [] {
        const auto s = snnfast::output_memory::statistics();
        return pybind11::make_tuple(s.limit, s.cached, s.in_use);
      },
      "bytes of large CPU outputs: (limit, cached, in use)");
  m.def("load_own_kernel", &snnfast::load_own_kernel,
        "loads the kernel of a neuron that was compiled from a step function; returns the steps between checkpoints");
  m.def(
      "set_spike_exchange",
      [](const pybind11::object& exchange) {
        exchange_in_python = exchange.inc_ref();
        snnfast::set_spike_exchange(&exchange_spikes);
      },
      "sets the function that exchanges spikes between processes");
  m.def("sort_edges", &sort_edges, "sorts the edges of sparse connections (csrc/cpu/edges.h)");
  m.def(
      "set_conv_costs",
      [](double small, double large, double row, double most, double weight_line, double weight_pixel,
         double weight_most) {
        snnfast::conv_costs = {small, large, row, most, weight_line, weight_pixel, weight_most};
      },
      "sets the costs of spike_conv2d by events (csrc/core/spike_conv2d.h)");
  m.def("set_output_memory_limit", &snnfast::output_memory::set_limit);
  m.def("release_output_memory", &snnfast::output_memory::release);
  m.def("keep_freed_memory", &snnfast::output_memory::keep_freed_memory);
#ifdef SNNFAST_WITH_CUDA
  m.attr("with_cuda") = true;
  m.def(
      "cuda_versions",
      [] {
        int driver, build;
        snnfast::cuda_versions(&driver, &build);
        return pybind11::make_tuple(driver, build);
      },
      "CUDA's of the driver and of the build, as 13000 for 13.0; 0: no driver");
  m.def("cuda_driver_problem", &snnfast::cuda_driver_problem,
        "why the driver cannot run the kernels and what to do, or an empty string");
  m.attr("cuda_archs") = SNNFAST_CUDA_ARCHS;
  m.attr("cuda_compiler") = SNNFAST_CUDA_COMPILER;
#else
  m.attr("with_cuda") = false;
  m.def("cuda_versions", [] { return pybind11::make_tuple(0, 0); });
  m.def("cuda_driver_problem", [] { return ""; });
  m.attr("cuda_archs") = "";
  m.attr("cuda_compiler") = "";
#endif
  m.attr("compiler") = SNNFAST_COMPILER;
  m.attr("torch_headers") = SNNFAST_TORCH_VERSION;
}
