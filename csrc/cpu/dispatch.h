// CPU kernels are compiled once per instruction set, each into its own namespace; the best one this processor has runs.
#pragma once

namespace snnfast::cpu {

enum class Isa : int { base, avx2, avx512 };

Isa isa();  // SNNFAST_CPU_ISA asks for a weaker one; read once
const char* isa_name();
const char* isa_problem();  // why SNNFAST_CPU_ISA could not be followed; empty if it was

template <class F, class... More>
F pick(F base, More... better) {
  const F kernels[] = {base, better...};
  return kernels[static_cast<int>(isa())];
}

}  // namespace snnfast::cpu

// Declares kernel NAME (argument list ARGS) in every instruction set's namespace, and NAME() which picks one.
#define SNNFAST_CPU_KERNEL(NAME, ARGS)                                      \
  SNNFAST_CPU_DECLARE(base, NAME, ARGS)                                     \
  SNNFAST_CPU_DECLARE_BETTER(NAME, ARGS)                                    \
  namespace snnfast::cpu {                                                  \
  inline auto NAME() { return pick(&base::NAME SNNFAST_CPU_BETTER(NAME)); } \
  }
#define SNNFAST_CPU_DECLARE(ISA, NAME, ARGS) \
  namespace snnfast::cpu::ISA {              \
  void NAME ARGS;                            \
  }
// SNNFAST_ISAS: for how many of them the build has kernels.
#if SNNFAST_ISAS == 3
#define SNNFAST_CPU_DECLARE_BETTER(NAME, ARGS) \
  SNNFAST_CPU_DECLARE(avx2, NAME, ARGS) SNNFAST_CPU_DECLARE(avx512, NAME, ARGS)
#define SNNFAST_CPU_BETTER(NAME) , &avx2::NAME, &avx512::NAME
#elif SNNFAST_ISAS == 2
#define SNNFAST_CPU_DECLARE_BETTER(NAME, ARGS) SNNFAST_CPU_DECLARE(avx2, NAME, ARGS)
#define SNNFAST_CPU_BETTER(NAME) , &avx2::NAME
#else
#define SNNFAST_CPU_DECLARE_BETTER(NAME, ARGS)
#define SNNFAST_CPU_BETTER(NAME)
#endif
