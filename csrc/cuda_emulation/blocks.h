// Runs the blocks of a launch: one after another, or together for a cooperative launch or a cluster.
#pragma once
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#include "occupancy.h"
#include "turns.h"
#include "warps.h"

namespace emulation {
constexpr int kMultiprocessors = 4,
              kResidentBlocks = 2;  // of the emulated device; blocks per multiprocessor, whatever their registers
constexpr size_t kLargestCluster = 8, kStaticShared = 1024;  // bytes of every kernel, as reported to the host
inline size_t most_shared() {
  const char* e = getenv("SNNFAST_EMULATION_SHARED");
  return e ? (size_t)atoll(e) : 232448;
}
// Blocks that fit on a multiprocessor, which has only as much shared memory as one of them may have.
inline int resident_blocks(size_t smem) {
  const size_t all = smem + kStaticShared, blocks = most_shared() / all;
  return smem == 0 ? kResidentBlocks : blocks < (size_t)kResidentBlocks ? (int)blocks : kResidentBlocks;
}
inline size_t max_dyn_smem = 48 * 1024;

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
  if (w.cluster) w.cluster->blocks[w.place] = &w;
  unsigned done = 0;
  bool moved_in_turn = false;
  while (done < n) {
    bool moved = false;
    w.moved = false;
    unsigned spinning = 0;
    for (unsigned k = 0; k < n; k++) {
      Thread& t = w.th[w.order[k]];
      if (t.st != NEW && t.st != READY && t.st != SPIN) continue;
      if (t.st == NEW) {
        if (w.idle.empty()) w.idle.push_back(new Fiber());
        t.fiber = w.idle.back();
        w.idle.pop_back();
        prepare(*t.fiber);
      }
      const bool waited = t.st == SPIN;
      t.st = READY;
      w.cur = &t;
      switch_to(w.main, *t.fiber);
      if (!w.error.empty()) return std::exchange(w.error, "");
      moved |= !(waited && t.st == SPIN);
      spinning += t.st == SPIN;
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
    moved |= w.moved;
    moved_in_turn |= moved;
    if (done == n) {
      if (w.cluster) w.cluster->blocks[w.place] = nullptr;
      threads_have_ended();
      break;
    }
    if (w.turns && (moved ? w.turns->interrupts() : spinning > 0)) {
      if (!w.turns->pass(w.place, std::exchange(moved_in_turn, false))) return "";
    } else if (!moved) {
      char b[250];
      snprintf(b, sizeof b,
               "emulation: deadlock in block (%u,%u,%u): %u threads at __syncthreads, %u in a warp collective, %u "
               "waiting for memory to change, %u exited",
               w.block.x, w.block.y, w.block.z, bar, warp, spinning, done);
      return b;
    }
  }
  return "";
}

inline bool refuses(dim3 g, dim3 b, size_t smem) {
  const size_t n = (size_t)b.x * b.y * b.z;
  const bool fits = device() || (smem <= max_dyn_smem && (smem == 0 || smem + kStaticShared <= most_shared()));
  if (n && n <= 1024 && b.z <= 64 && g.x && g.y && g.z && g.x <= 2147483647u && g.y <= 65535 && g.z <= 65535 && fits)
    return false;
  last_error = n > 1024 || n == 0 ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue;
  return true;
}
template <class F>
void prepare(Worker& w, dim3 g, dim3 b, size_t smem, F& f, int64_t block) {
  w.bdim = b;
  w.gdim = g;
  w.turns = nullptr;
  w.cluster = nullptr;
  w.smem.resize(smem);
  w.arg = (void*)&f;
  w.body = [](void* p) { (*(std::remove_reference_t<F>*)p)(); };
  w.block = {(unsigned)(block % g.x), (unsigned)(block / g.x % g.y), (unsigned)(block / ((int64_t)g.x * g.y))};
}

// Writes a line of the trace. Returns whether launches are only planned.
inline bool note(const char* way, size_t together, dim3 g, dim3 b, size_t smem) {
  const char* path = getenv("SNNFAST_EMULATION_TRACE");
  if (std::FILE* file = path ? std::fopen(path, "a") : nullptr) {
    std::fprintf(file, "%s %zu %u %u %u %u %zu\n", way, together, g.x, g.y, g.z, b.x * b.y * b.z, smem);
    std::fclose(file);
  }
  return device() != nullptr;
}

template <class F>
void launch(dim3 g, dim3 b, size_t smem, F&& f) {
  if (refuses(g, b, smem)) return;
  if (note("blocks", 1, g, b, smem)) return;
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

// Runs `nb` blocks, from number `first` on, that are alive at once; as a cluster, if there is one.
template <class F>
void launch_together(dim3 g, dim3 b, size_t smem, F& f, size_t first, size_t nb, Cluster* cluster) {
  const Sched sc = sched();
  Turns turns(nb, sc);
  std::vector<std::thread> blocks;
  for (size_t k = 0; k < nb; k++)
    blocks.emplace_back([&, k] {
      Worker& w = this_worker();
      prepare(w, g, b, smem, f, (int64_t)(first + k));
      w.turns = &turns;
      w.cluster = cluster;
      w.place = k;
      if (!turns.begin(k)) return;
      std::string e;
      try {
        e = run_block(w, sc);
      } catch (const std::exception& x) {
        e = x.what();
      }
      turns.end(k, e);
    });
  for (std::thread& block : blocks) block.join();
  threads_have_ended();
  if (!turns.problem().empty()) throw std::runtime_error(turns.problem());
}

template <class F>
void launch_cooperative(dim3 g, dim3 b, size_t smem, F&& f) {
  if (refuses(g, b, smem) || note("grid", g.x, g, b, smem)) return;
  const size_t nb = (size_t)g.x * g.y * g.z;
  if (nb > (size_t)kMultiprocessors * resident_blocks(smem)) {
    last_error = cudaErrorCooperativeLaunchTooLarge;
    return;
  }
  launch_together(g, b, smem, f, 0, nb, nullptr);
}

inline size_t resident_clusters(size_t blocks, size_t smem) {
  return (size_t)kMultiprocessors * resident_blocks(smem) / blocks;
}

// Clusters of `blocks` consecutive blocks in x.
template <class F>
void launch_clusters(dim3 g, dim3 b, size_t smem, size_t blocks, F&& f) {
  if (refuses(g, b, smem) || note("cluster", blocks, g, b, smem)) return;
  if (blocks < 1 || blocks > kLargestCluster || g.x % blocks || resident_clusters(blocks, smem) < 1) {
    last_error = cudaErrorInvalidClusterSize;
    return;
  }
  const size_t nb = (size_t)g.x * g.y * g.z;
  for (size_t first = 0; first < nb; first += blocks) {
    Cluster cluster;
    cluster.blocks.resize(blocks);
    cluster.threads = blocks * b.x * b.y * b.z;
    launch_together(g, b, smem, f, sched().kind == 1 ? nb - blocks - first : first, blocks, &cluster);
  }
}
// In a loop that waits for memory to change: lets other threads and blocks change it.
inline void spin() { block_self(SPIN); }

template <class T>
inline T* dyn_smem() {
  return reinterpret_cast<T*>(W().smem.data());
}
}  // namespace emulation
