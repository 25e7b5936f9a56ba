// Turns of blocks that are alive at once, and the order in which threads and blocks run.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace emulation {
struct Sched {
  int kind = 0;
  uint64_t seed = 1;
};
inline Sched sched() {
  Sched s;
  const char* e = getenv("SNNFAST_EMULATION_SCHEDULE");
  if (e && !strncmp(e, "rev", 3)) s.kind = 1;
  if (e && !strncmp(e, "rand", 4)) {
    s.kind = 2;
    if (e[4] == ':') s.seed = strtoull(e + 5, nullptr, 10) * 2 + 1;
  }
  return s;
}

// Turns of blocks that are alive at once: one of them runs at a time.
class Turns {
 public:
  Turns(size_t blocks, Sched sc) : alive_(blocks, true), wake_(blocks), running_(blocks), sc_(sc), random_(sc.seed) {
    turn_ = sc.kind == 1 ? blocks - 1 : 0;
  }
  // begin and pass return whether the launch goes on.
  bool begin(size_t block) {
    std::unique_lock<std::mutex> lock(mutex_);
    return wait(lock, block);
  }
  // Lets another block run. `moved`: whether this one did anything but wait since its turn began.
  bool pass(size_t block, bool moved) {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_ = moved ? 0 : idle_ + 1;
    if (idle_ > kPatience * alive_.size()) {
      stop("emulation: deadlock: every block waits for memory to change");
      return false;
    }
    next();
    return wait(lock, block);
  }
  void end(size_t block, const std::string& problem) {
    std::unique_lock<std::mutex> lock(mutex_);
    alive_[block] = false;
    idle_ = 0;
    running_--;
    if (!problem.empty()) stop(problem);
    if (running_) next();
  }
  // In random order: whether a block is interrupted although it could go on.
  bool interrupts() { return sc_.kind == 2 && draw() % 4 == 0; }
  const std::string& problem() const { return problem_; }

 private:
  static constexpr size_t kPatience = 64;  // turns per block; in random order many go to the same one
  std::vector<bool> alive_;
  std::vector<std::condition_variable> wake_;
  size_t running_, turn_, idle_ = 0;
  const Sched sc_;
  uint64_t random_;
  bool stopped_ = false;
  std::string problem_;
  std::mutex mutex_;

  uint64_t draw() {
    random_ = random_ * 6364136223846793005ull + 1442695040888963407ull;
    return random_ >> 33;
  }
  bool wait(std::unique_lock<std::mutex>& lock, size_t block) {
    wake_[block].wait(lock, [&] { return stopped_ || turn_ == block; });
    return !stopped_;
  }
  void next() {
    const size_t n = alive_.size();
    if (sc_.kind == 2)
      turn_ = draw() % n;
    else
      turn_ = (turn_ + (sc_.kind == 1 ? n - 1 : 1)) % n;
    while (!alive_[turn_]) turn_ = (turn_ + (sc_.kind == 1 ? n - 1 : 1)) % n;
    wake_[turn_].notify_one();
  }
  void stop(const std::string& problem) {
    stopped_ = true;
    if (problem_.empty()) problem_ = problem;
    for (std::condition_variable& w : wake_) w.notify_one();
  }
};

}  // namespace emulation
