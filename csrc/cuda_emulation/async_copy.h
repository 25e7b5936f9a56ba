// cp.async in the emulator: a copy first makes its destination NaN and arrives no sooner than the thread that began it
// waits for its group. So a missing wait reads NaN, as does a thread that reads another's copy without a barrier after
// that wait.
#pragma once
#include <cuda_runtime.h>

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_write_range(void* p, unsigned long bytes);
#endif

namespace emulation {
// For ThreadSanitizer, which does not see the code that the compiler emits for memset and memcpy.
inline void writes([[maybe_unused]] void* to, [[maybe_unused]] unsigned bytes) {
#if defined(__SANITIZE_THREAD__)
  __tsan_write_range(to, bytes);
#endif
}

template <unsigned Bytes>
void copy_async(void* to, const void* from) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "a copy is of 4, 8 or 16 bytes");
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % Bytes)
    fail("emulation: misaligned cp.async");
  writes(to, Bytes);
  std::memset(to, 0xff, Bytes);
  Thread* t = W().cur;
  t->copies.push_back({to, from, Bytes, t->groups});
}
inline void copies_commit() { W().cur->groups++; }
template <unsigned Behind>
void copies_wait() {
  Thread* t = W().cur;
  auto copy = t->copies.begin();
  for (; copy != t->copies.end() && copy->group + Behind < t->groups; copy++) {
    writes(copy->to, copy->bytes);
    std::memcpy(copy->to, copy->from, copy->bytes);
  }
  t->copies.erase(t->copies.begin(), copy);
}
}  // namespace emulation
