// Ctrl-C in the middle of a call.
#pragma once
#include <atomic>
#include <chrono>

#include "core/interrupt.h"

namespace snnfast {

// Runs Python's signal handlers; true: one of them raised, which Python shows as soon as the call returns, so that
// nobody sees its results. module.cpp sets it; other programs have none.
using RunSignalHandlers = bool (*)();
void set_signal_handlers(RunSignalHandlers run);

// One call. The thread that imported the package asks Python, ten times a second; all threads of the call hear of it.
class InterruptibleCall {
 public:
  InterruptibleCall() = default;
  InterruptibleCall(const InterruptibleCall&) = delete;
  bool interrupted();
  Interrupt interrupt() {
    return {[](void* call) { return static_cast<InterruptibleCall*>(call)->interrupted(); }, this};
  }

 private:
  std::atomic<bool> stop_{false};
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();  // of the one thread that asks
};

}  // namespace snnfast
