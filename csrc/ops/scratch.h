// Scratch memory of the calling thread, cached between calls.
#pragma once
#include <cstdlib>
#include <memory>

#include "ops/device.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace snnfast {

constexpr size_t kPage = size_t{1} << 12, kHugePage = size_t{1} << 21;

inline void* thread_scratch(size_t bytes) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  static thread_local std::unique_ptr<void, Free> memory;
  static thread_local size_t size = 0;
  if (bytes > size) {
    // Large buffers are read at many addresses at a time, which a few huge pages cover.
    const size_t page = bytes < kHugePage ? kPage : kHugePage, wanted = (bytes + page - 1) / page * page;
    size = 0;
    memory.reset(std::aligned_alloc(page, wanted));
    SNNFAST_CHECK(memory, "snnfast: no memory for ", wanted, " bytes that a kernel works in");
#if defined(__linux__)
    if (page == kHugePage) madvise(memory.get(), wanted, MADV_HUGEPAGE);
#endif
    size = wanted;
  }
  return memory.get();
}

}  // namespace snnfast
