#include "cpu/dispatch.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace snnfast::cpu {
namespace {

constexpr const char* kNames[] = {"base", "avx2", "avx512"};

int best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Instructions that -march=x86-64-v3 and v4 may emit.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const int has = v4 ? 2 : v3 ? 1 : 0;
  return has < SNNFAST_ISAS ? has : SNNFAST_ISAS - 1;  // below SNNFAST_FIRST_ISA no kernel may run
#else
  return 0;
#endif
}

struct Choice {
  int isa;
  const char* problem;
};

Choice choose() {
  const int have = best();
  const char* want = std::getenv("SNNFAST_CPU_ISA");
  if (!want || !*want) return {have, ""};
  for (int i = 0; i < 3; i++) {
    if (std::strcmp(want, kNames[i]) != 0) continue;
    if (i < SNNFAST_FIRST_ISA || i >= SNNFAST_ISAS)
      return {have, "this build has no kernels for the instruction set that SNNFAST_CPU_ISA asks for"};
    if (i > have) return {have, "this processor does not have the instruction set that SNNFAST_CPU_ISA asks for"};
    return {i, ""};
  }
  return {have, "SNNFAST_CPU_ISA must be base, avx2 or avx512"};
}

const Choice& choice() {
  static const Choice selected = choose();
  return selected;
}

}  // namespace

Isa isa() { return static_cast<Isa>(choice().isa); }
const char* isa_name() { return kNames[choice().isa]; }
const char* isa_problem() { return choice().problem; }

const char* isas() {
  static const std::string found = [] {
    std::string names;
    for (int i = SNNFAST_FIRST_ISA; i <= best(); i++) names += (names.empty() ? "" : " ") + std::string(kNames[i]);
    return names;
  }();
  return found.c_str();
}

}  // namespace snnfast::cpu
