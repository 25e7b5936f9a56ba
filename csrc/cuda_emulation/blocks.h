// Runs the blocks of a launch one after another, or spread over OpenMP threads.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include "warps.h"

namespace emulation {
constexpr int kMultiprocessors = 4;     // of the emulated device
constexpr size_t kStaticShared = 1024;  // bytes of every kernel, as reported to the host
inline size_t most_shared() {
  const char* e = getenv("SNNFAST_EMULATION_SHARED");
  return e ? (size_t)atoll(e) : 232448;
}
inline size_t max_dyn_smem = 48 * 1024;

// Order of the threads of a block, and of blocks.
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

// Runs one block to its end. Returns an empty string, or an error message.
EMULATOR inline std::string run_block(Worker& w, Sched sc) {
  const unsigned n = w.bdim.x * w.bdim.y * w.bdim.z;
  poison_statics(w);
  w.th.resize(n);
  w.order.resize(n);
  for (unsigned i = 0; i < n; i++) {
    Thread& t = w.th[i] = Thread{};
    t.linear = i;
    t.st = NEW;
    t.fiber = nullptr;
    t.tid = {i % w.bdim.x, i / w.bdim.x % w.bdim.y, i / (w.bdim.x * w.bdim.y)};
    w.order[i] = sc.kind == 1 ? n - 1 - i : i;
  }
  if (sc.kind == 2) {
    uint64_t s = sc.seed * 0x9e3779b97f4a7c15ull + w.block.x + 7919ull * w.block.y;
    for (unsigned i = n; i > 1; i--) {
      s = s * 6364136223846793005ull + 1442695040888963407ull;
      std::swap(w.order[i - 1], w.order[(s >> 33) % i]);
    }
  }
  if (!w.smem.empty())
    std::memset(w.smem.data(), 0xff, w.smem.size());  // NaN: exposes a read of shared memory that no thread wrote
  unsigned done = 0;
  while (done < n) {
    bool moved = false;
    for (unsigned k = 0; k < n; k++) {
      Thread& t = w.th[w.order[k]];
      if (t.st != NEW && t.st != READY) continue;
      if (t.st == NEW) {
        if (w.idle.empty()) w.idle.push_back(new Fiber());
        t.fiber = w.idle.back();
        w.idle.pop_back();
        prepare(*t.fiber);
      }
      t.st = READY;
      w.cur = &t;
      switch_to(w.main, *t.fiber);
      if (!w.error.empty()) return std::exchange(w.error, "");
      moved = true;
      if (t.st == DONE) {
        done++;
        w.idle.push_back(std::exchange(t.fiber, nullptr));
      }
    }
    unsigned bar = 0, warp = 0;
    uint64_t cnt = 0;
    for (Thread& t : w.th) {
      if (t.st == BARRIER) {
        bar++;
        cnt += t.val != 0;
      } else if (t.st == WARP)
        warp++;
    }
    if (bar && bar == n - done) {
      for (Thread& t : w.th)
        if (t.st == BARRIER) {
          t.st = READY;
          t.res = cnt | (uint64_t)bar << 32;
        }
      moved = true;
    }
    if (done == n) {
      threads_have_ended();
      break;
    }
    if (!moved) {
      char b[250];
      snprintf(b, sizeof b,
               "emulation: deadlock in block (%u,%u,%u): %u threads at __syncthreads, %u in a warp collective, %u "
               "exited",
               w.block.x, w.block.y, w.block.z, bar, warp, done);
      return b;
    }
  }
  return "";
}

inline bool refuses(dim3 g, dim3 b, size_t smem) {
  const size_t n = (size_t)b.x * b.y * b.z;
  const bool fits = smem <= max_dyn_smem && (smem == 0 || smem + kStaticShared <= most_shared());
  if (n && n <= 1024 && b.z <= 64 && g.x && g.y && g.z && g.x <= 2147483647u && g.y <= 65535 && g.z <= 65535 && fits)
    return false;
  last_error = n > 1024 || n == 0 ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue;
  return true;
}
template <class F>
void prepare(Worker& w, dim3 g, dim3 b, size_t smem, F& f, int64_t block) {
  w.bdim = b;
  w.gdim = g;
  w.smem.resize(smem);
  w.arg = (void*)&f;
  w.body = [](void* p) { (*(std::remove_reference_t<F>*)p)(); };
  w.block = {(unsigned)(block % g.x), (unsigned)(block / g.x % g.y), (unsigned)(block / ((int64_t)g.x * g.y))};
}

// Writes a line of the trace.
inline void note(dim3 g, dim3 b, size_t smem) {
  const char* path = getenv("SNNFAST_EMULATION_TRACE");
  if (std::FILE* file = path ? std::fopen(path, "a") : nullptr) {
    std::fprintf(file, "%u %u %u %u %zu\n", g.x, g.y, g.z, b.x * b.y * b.z, smem);
    std::fclose(file);
  }
}

template <class F>
void launch(dim3 g, dim3 b, size_t smem, F&& f) {
  if (refuses(g, b, smem)) return;
  note(g, b, smem);
  const Sched sc = sched();
  const int64_t nb = (int64_t)g.x * g.y * g.z;
  std::string err;
#ifdef _OPENMP
#pragma omp parallel if (nb > 1)
#endif
  {
    Worker& w = this_worker();
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
    for (int64_t i = 0; i < nb; i++) {
      prepare(w, g, b, smem, f, sc.kind == 1 ? nb - 1 - i : i);
      std::string e = run_block(w, sc);
      if (!e.empty()) {
#ifdef _OPENMP
#pragma omp critical
#endif
        err = e;
      }
    }
  }
  if (!err.empty()) throw std::runtime_error(err);
}

template <class T>
inline T* dyn_smem() {
  return reinterpret_cast<T*>(W().smem.data());
}
}  // namespace emulation
