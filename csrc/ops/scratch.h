// Scratch of the calling thread, kept between calls.
#pragma once
#include <cstdlib>
#include <memory>

#include "ops/device.h"

namespace snnfast {

inline void* thread_scratch(size_t bytes) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  static thread_local std::unique_ptr<void, Free> memory;
  static thread_local size_t size = 0;
  if (bytes > size) {
    const size_t wanted = (bytes + 4095) / 4096 * 4096;
    size = 0;
    memory.reset(std::aligned_alloc(4096, wanted));
    SNNFAST_CHECK(memory, "snnfast: no memory for ", wanted, " bytes that a kernel works in");
    size = wanted;
  }
  return memory.get();
}

}  // namespace snnfast
