// Each CUDA thread is a fiber: how one begins, gives way to its block, and ends.
#pragma once
#include <sys/mman.h>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include "ordering.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
#if defined(__x86_64__)
__attribute__((naked, noinline)) inline void swap_sp(void** /*save*/, void* /*load*/) {
  __asm__ volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif
EMULATOR [[gnu::noinline]] inline void switch_to(Fiber& from, Fiber& to, [[maybe_unused]] bool dying = false) {
#if defined(__SANITIZE_THREAD__)
  if (!from.tsan) from.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(dying ? nullptr : &from.fake, to.stack, to.size);
#endif
#if defined(__x86_64__)
  swap_sp(&from.sp, to.sp);
#else
  swapcontext(&from.uc, &to.uc);
#endif
#if defined(__SANITIZE_ADDRESS__)
  const void* b;
  size_t s;
  __sanitizer_finish_switch_fiber(from.fake, &b, &s);
#endif
}
EMULATOR inline void resolve_warp(Worker& w, unsigned warp);

EMULATOR [[gnu::noinline]] inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
  {
    Worker& w0 = W();
    const void* b;
    size_t s;
    __sanitizer_finish_switch_fiber(nullptr, &b, &s);
    w0.main.stack = (char*)b;
    w0.main.size = s;
  }
#endif
  Worker& w = W();
  w.body(w.arg);
  Thread* t = w.cur;
  t->st = DONE;
  resolve_warp(w, t->linear / 32);
  thread_ends();
  switch_to(*t->fiber, w.main, true);
  __builtin_trap();
}
inline size_t stack_size() {
  static const size_t s = [] {
    const char* e = getenv("SNNFAST_EMULATION_STACK");
    return e ? (size_t)atoll(e) : (size_t)65536;
  }();
  return s;
}
inline Worker::~Worker() {
  for (Thread& t : th)
    if (t.fiber) idle.push_back(t.fiber);  // of a block that failed
  for (Fiber* f : idle) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->stack, f->size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(f->tsan);
#endif
    munmap(f->stack - 4096, f->size + 4096);
    delete f;
  }
}
EMULATOR inline void prepare(Fiber& f) {
#if defined(__SANITIZE_THREAD__)
  if (f.tsan) __tsan_destroy_fiber(f.tsan);
  f.tsan = __tsan_create_fiber(0);
#endif
  if (!f.stack) {
    f.size = stack_size();
    char* p =
        (char*)mmap(nullptr, f.size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::runtime_error("emulation: no memory for a fiber stack");
    mprotect(p, 4096, PROT_NONE);  // overflow faults instead of corrupting a neighbour
    f.stack = p + 4096;
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(f.stack, f.size);
#endif
#if defined(__x86_64__)
  void** sp = (void**)(f.stack + f.size);
  *--sp = nullptr;        // keeps entry()'s frame 16-byte aligned
  *--sp = (void*)&entry;  // return address popped by swap_sp
  sp -= 6;                // six callee-saved registers
  std::memset(sp, 0, 48);
  f.sp = sp;
#else
  getcontext(&f.uc);
  f.uc.uc_stack.ss_sp = f.stack;
  f.uc.uc_stack.ss_size = f.size;
  f.uc.uc_link = nullptr;
  makecontext(&f.uc, (void (*)())entry, 0);
#endif
}
EMULATOR inline void block_self(State s) {
  Worker& w = W();
  Thread* t = w.cur;
  t->st = s;
  switch_to(*t->fiber, w.main);
}

[[noreturn]] EMULATOR inline void fail(const char* message) {  // ends the launch with an exception in the host code
  Worker& w = W();
  w.error = message;
  w.cur->st = BARRIER;
  switch_to(*w.cur->fiber, w.main);
  __builtin_trap();
}
}  // namespace emulation
