// The Python module snnfast._C. Importing it registers the operators (csrc/ops); the functions here only report.
#include <pybind11/pybind11.h>

#include "build_info.h"
#include "cpu/dispatch.h"

namespace snnfast {
bool torch_has_cuda();  // ops/device.cpp
}

PYBIND11_MODULE(_C, m) {
  m.def("cpu_isa", &snnfast::cpu::isa_name, "the instruction set whose CPU kernels run");
  m.def("cpu_isa_problem", &snnfast::cpu::isa_problem, "why SNNFAST_CPU_ISA was not followed, or an empty string");
  m.def("torch_has_cuda", &snnfast::torch_has_cuda, "whether the PyTorch that loaded this is a CUDA build");
#ifdef SNNFAST_WITH_CUDA
  m.attr("with_cuda") = true;
  m.attr("cuda_archs") = SNNFAST_CUDA_ARCHS;
  m.attr("cuda_compiler") = SNNFAST_CUDA_COMPILER;
#else
  m.attr("with_cuda") = false;
  m.attr("cuda_archs") = "";
  m.attr("cuda_compiler") = "";
#endif
  m.attr("compiler") = SNNFAST_COMPILER;
  m.attr("torch_headers") = SNNFAST_TORCH_VERSION;
}
