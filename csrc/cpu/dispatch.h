// CPU kernels are compiled once per instruction set, each in its own namespace; the best supported one runs.
#pragma once

#include <initializer_list>

namespace snnfast::cpu {

enum class Isa : int { base, avx2, avx512 };

Isa isa();  // SNNFAST_CPU_ISA may select a weaker one; read once
const char* isa_name();
const char* isa_problem();  // why SNNFAST_CPU_ISA could not be followed; empty if it was
const char* isas();         // supported by the build and this processor, "base avx2"; empty: no kernel may run

template <class F>
F pick(std::initializer_list<F> kernels) {
  return kernels.begin()[static_cast<int>(isa())];
}

}  // namespace snnfast::cpu

// Declares kernel NAME (argument list ARGS) in the namespace of every instruction set, and NAME(), which picks one.
// Weak: a build may have only the best set (SNNFAST_ONE_ISA), and the operators are compiled alike for all builds.
#define SNNFAST_CPU_KERNEL(NAME, ARGS)                                                                                \
  SNNFAST_CPU_DECLARE(base, NAME, ARGS)                                                                               \
  SNNFAST_IN_AVX2(SNNFAST_CPU_DECLARE(avx2, NAME, ARGS))                                                              \
  SNNFAST_IN_AVX512(SNNFAST_CPU_DECLARE(avx512, NAME, ARGS))                                                          \
  namespace snnfast::cpu {                                                                                            \
  inline auto NAME() { return pick({&base::NAME, SNNFAST_IN_AVX2(&avx2::NAME, ) SNNFAST_IN_AVX512(&avx512::NAME)}); } \
  }
#define SNNFAST_CPU_DECLARE(ISA, NAME, ARGS) \
  namespace snnfast::cpu::ISA {              \
  SNNFAST_CPU_WEAK void NAME ARGS;           \
  }
#if SNNFAST_ISAS >= 2
#define SNNFAST_CPU_WEAK __attribute__((weak))
#define SNNFAST_IN_AVX2(...) __VA_ARGS__
#else
#define SNNFAST_CPU_WEAK
#define SNNFAST_IN_AVX2(...)
#endif
#if SNNFAST_ISAS >= 3
#define SNNFAST_IN_AVX512(...) __VA_ARGS__
#else
#define SNNFAST_IN_AVX512(...)
#endif
