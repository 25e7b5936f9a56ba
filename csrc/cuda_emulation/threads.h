// State of the emulator: threads and blocks.
#pragma once
#include <link.h>
#include <pthread.h>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>
#include "runtime_types.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define EMULATOR __attribute__((no_sanitize("thread")))  // a function of the emulator, invisible to kernels
#else
#define EMULATOR
#endif

namespace emulation {
enum State : uint8_t { NEW, READY, BARRIER, WARP, DONE };
enum Op : uint8_t { OP_SYNC, OP_SHFL, OP_BALLOT };

struct Fiber {
#if defined(__x86_64__)
  void* sp = nullptr;
#else
  ucontext_t uc;
#endif
  char* stack = nullptr;
  size_t size = 0;
  void* fake = nullptr;
  void* tsan = nullptr;
};

struct Copy {  // async_copy.h
  void* to;
  const void* from;
  unsigned bytes, group;
};

struct Thread {
  uint3 tid;
  unsigned linear;
  State st;
  Op op;
  uint32_t mask;
  int src;       // shuffle source lane
  uint64_t val;  // contributed value
  uint64_t res;  // result of the collective
  Fiber* fiber;
  std::vector<Copy> copies;  // in flight
  unsigned groups = 0;       // of copies, committed
#if defined(__SANITIZE_THREAD__)
  unsigned barriers = 0, warp_barriers = 0;  // number of those reached
#endif
};

struct Worker {
  Fiber main;
  std::vector<Fiber*> idle;
  std::vector<Thread> th;
  std::vector<unsigned> order;
  std::vector<char> smem;
  uint3 block{};
  dim3 bdim, gdim;
  Thread* cur = nullptr;
  void (*body)(void*) = nullptr;
  void* arg = nullptr;
  std::string error;
  void* statics = nullptr;  // this thread's copy of the module's thread_local variables, static shared memory above all
  size_t statics_size = 0;
  char barrier_places[2 * (1 + 1024 / 32)];  // addresses that stand for the barriers of the block and of its warps
  ~Worker();
};
// The only thread_local variables besides shared memory, which poison_statics() overwrites.
inline thread_local Worker* tls_worker = nullptr;
inline thread_local cudaError_t last_error = cudaSuccess;
EMULATOR inline Worker& W() { return *tls_worker; }
inline Worker& this_worker() {
  static const pthread_key_t key = [] {
    pthread_key_t k;
    pthread_key_create(&k, [](void* w) { delete static_cast<Worker*>(w); });
    return k;
  }();
  if (!tls_worker) pthread_setspecific(key, tls_worker = new Worker());
  return *tls_worker;
}

// Fills static shared memory, which is among the thread_local variables of this module, with NaN: exposes a read of
// memory that no thread wrote.
inline void poison_statics(Worker& w) {
  if (!w.statics) {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* worker) {
          for (int k = 0; k < info->dlpi_phnum; k++) {
            const auto& header = info->dlpi_phdr[k];
            const char* begin = static_cast<char*>(info->dlpi_tls_data);
            const char* mine = reinterpret_cast<char*>(&tls_worker);
            if (header.p_type != PT_TLS || !begin || mine < begin || mine >= begin + header.p_memsz) continue;
            static_cast<Worker*>(worker)->statics = info->dlpi_tls_data;
            static_cast<Worker*>(worker)->statics_size = header.p_memsz;
            return 1;
          }
          return 0;
        },
        &w);
  }
  if (!w.statics) return;
  const cudaError_t error = last_error;
  std::memset(w.statics, 0xff, w.statics_size);
  tls_worker = &w;
  last_error = error;
}
}  // namespace emulation
