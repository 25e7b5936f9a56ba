// One block of memory for many arrays.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace snnfast {
namespace {

// Hands out pieces of a block of memory; from address 0 it measures how much they need.
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

// The first address of a line of the cache in memory of 64 bytes more than are needed.
inline char* aligned(char* memory) { return memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64; }

}  // namespace
}  // namespace snnfast
