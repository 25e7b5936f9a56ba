// Order of threads, for ThreadSanitizer: writes before release(p) are visible to threads that acquire(p) afterwards.
#pragma once
#include <utility>
#include "threads.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#include "tsan_atomic.h"
#endif

namespace emulation {
#if defined(__SANITIZE_THREAD__)
inline const char* dropped_file = "";  // of the barrier or fence that is ignored
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
EMULATOR inline void fence(const char* file, int line) {
  Thread* t = W().cur;
  if (!orders(file, line)) return;
  while (t->looks) acquire(t->looked[--t->looks]);
  t->fenced = true;
}
EMULATOR inline void before_atomic(void* p) {
  Thread* t = W().cur;
  if (std::exchange(t->fenced, false)) release(p);
}
EMULATOR inline void look(void* p) {
  if (!tls_worker || !W().cur) return;
  Thread* t = W().cur;
  if (t->looks < 4 && (!t->looks || t->looked[t->looks - 1] != p)) t->looked[t->looks++] = p;
}
#else
inline void thread_ends() {}
inline void threads_have_ended() {}
inline void fence(const char*, int) {}
inline void before_atomic(void*) {}
#endif
}  // namespace emulation

#if defined(__SANITIZE_THREAD__)
// Calls that --param=tsan-distinguish-volatile=1 emits for accesses to volatile memory.
extern "C" {
#define EMULATION_VOLATILE(BYTES, BITS)                                                                           \
  EMULATOR inline __attribute__((used)) void __tsan_volatile_read##BYTES(void* p) {                               \
    __tsan_atomic##BITS##_load(static_cast<const volatile __tsan_atomic##BITS*>(p), __tsan_memory_order_relaxed); \
    emulation::look(p);                                                                                           \
  }                                                                                                               \
  EMULATOR inline __attribute__((used)) void __tsan_volatile_write##BYTES(void*) {}                               \
  EMULATOR inline __attribute__((used)) void __tsan_unaligned_volatile_read##BYTES(void*) {}                      \
  EMULATOR inline __attribute__((used)) void __tsan_unaligned_volatile_write##BYTES(void*) {}
EMULATION_VOLATILE(4, 32);
EMULATION_VOLATILE(8, 64);
// The barrier or fence of this line is ignored from now on.
inline __attribute__((used, visibility("default"))) void emulation_drop(const char* file, int line) {
  emulation::dropped_file = file;
  emulation::dropped_line = line;
}
}
#endif
