// From sanitizer/tsan_interface_atomic.h, which GCC does not install: atomic loads, as reported to ThreadSanitizer.
#pragma once

extern "C" {
typedef char __tsan_atomic8;
typedef short __tsan_atomic16;
typedef int __tsan_atomic32;
typedef long __tsan_atomic64;
typedef enum { __tsan_memory_order_relaxed } __tsan_memory_order;
__tsan_atomic8 __tsan_atomic8_load(const volatile __tsan_atomic8*, __tsan_memory_order);
__tsan_atomic16 __tsan_atomic16_load(const volatile __tsan_atomic16*, __tsan_memory_order);
__tsan_atomic32 __tsan_atomic32_load(const volatile __tsan_atomic32*, __tsan_memory_order);
__tsan_atomic64 __tsan_atomic64_load(const volatile __tsan_atomic64*, __tsan_memory_order);
}
