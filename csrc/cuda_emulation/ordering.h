// Order of threads, for ThreadSanitizer: writes before release(p) are visible to threads that acquire(p) afterwards.
#pragma once
#include <utility>
#include "threads.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulation {
#if defined(__SANITIZE_THREAD__)
inline const char* dropped_file = "";  // of the barrier that is ignored
inline int dropped_line = 0;
EMULATOR inline bool orders(const char* file, int line) {
  if (line != dropped_line) return true;
  const size_t whole = strlen(file), end = strlen(dropped_file);
  return whole < end || strcmp(file + whole - end, dropped_file) != 0;
}
EMULATOR inline void release(void* p) { __tsan_release(p); }
EMULATOR inline void acquire(void* p) { __tsan_acquire(p); }
inline char ended;  // stands for the end of a thread
EMULATOR inline void thread_ends() { release(&ended); }
EMULATOR inline void threads_have_ended() { acquire(&ended); }
// Addresses at which the threads of a block, or of warp k - 1, meet: two in turn, or a thread that leaves one barrier
// would see those that come to the next.
EMULATOR inline void* meeting(unsigned k, unsigned count) { return W().barrier_places + 2 * k + count % 2; }
#else
inline void thread_ends() {}
inline void threads_have_ended() {}
#endif
}  // namespace emulation

#if defined(__SANITIZE_THREAD__)
extern "C" {
// The barrier of this line is ignored from now on.
inline __attribute__((used, visibility("default"))) void emulation_drop(const char* file, int line) {
  emulation::dropped_file = file;
  emulation::dropped_line = line;
}
}
#endif
