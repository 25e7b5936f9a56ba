#include "ops/interrupt.h"

#include <thread>

namespace snnfast {
namespace {

constexpr std::chrono::milliseconds kApart{100};

RunSignalHandlers run_signal_handlers = nullptr;
std::thread::id python_thread;  // handlers run in Python's main thread alone, which imports the package

}  // namespace

void set_signal_handlers(RunSignalHandlers run) {
  run_signal_handlers = run;
  python_thread = std::this_thread::get_id();
}

bool InterruptibleCall::interrupted() {
  if (stop_.load(std::memory_order_relaxed)) return true;
  if (!run_signal_handlers || std::this_thread::get_id() != python_thread) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now - asked_ < kApart) return false;
  asked_ = now;
  if (!run_signal_handlers()) return false;
  stop_.store(true, std::memory_order_relaxed);
  return true;
}

}  // namespace snnfast
