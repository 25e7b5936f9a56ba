// The end of a long call before its time, when its user presses Ctrl-C.
#pragma once

namespace snnfast {

// Kernels on the CPU ask between steps whether to return at once; what they have computed is then dropped
// (ops/interrupt.h).
struct Interrupt {
  bool (*pressed)(void* call);  // null: never
  void* call;
  bool operator()() const { return pressed && pressed(call); }
};

}  // namespace snnfast
