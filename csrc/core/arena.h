// One allocation for many arrays.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace snnfast {
namespace {

// Hands out parts of an allocation. Constructed at address 0, it measures how many bytes they need.
class Arena {
 public:
  SNNFAST_HD explicit Arena(char* memory) : begin_(memory), next_(memory) {}
  template <class T>
  SNNFAST_HD T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }
  SNNFAST_HD int64_t used() const { return next_ - begin_; }

 private:
  char *begin_, *next_;
};

// First address aligned to a cache line; the memory must be 64 bytes larger than needed.
inline char* aligned(char* memory) { return memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64; }

}  // namespace
}  // namespace snnfast
