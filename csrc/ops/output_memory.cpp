#include "ops/output_memory.h"

#include <torch/csrc/stable/stableivalue_conversions.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <mutex>

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

// PyTorch 2.11 and later; a weak reference keeps 2.10 loading.
extern "C" __attribute__((weak)) AOTITorchError torch_from_blob(
    void* data, int64_t ndim, const int64_t* sizes, const int64_t* strides, int64_t storage_offset, int32_t dtype,
    int32_t device_type, int32_t device_index, AtenTensorHandle* result, int32_t layout, const uint8_t* opaque_metadata,
    int64_t opaque_metadata_size, void (*deleter)(void* data, void* context), void* deleter_context);
#endif

namespace snnfast::output_memory {

#if defined(__linux__)

namespace {

constexpr int64_t kSmallest = int64_t{1} << 20;
constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kUnit = int64_t{1} << 16;  // at least a page, on every system

struct Block {
  char* data;
  int64_t bytes;  // a multiple of kUnit
};

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

struct Cache {
  std::mutex mutex;
  std::vector<Block> free;  // oldest first; no two of them adjacent
  int64_t limit, cached = 0;
  std::atomic<int64_t> in_use{0};  // also changed without the lock

  Cache() {
    const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    limit = std::min<int64_t>(int64_t{1} << 30, memory / 16);
    if (const char* text = std::getenv("SNNFAST_CPU_CACHE_MB")) {
      int64_t megabytes = 0;
      const auto read =
          std::from_chars(text, text + std::strlen(text), megabytes);  // atoll, compiled here, would need glibc 2.38
      const int64_t most = memory >> 20;
      limit = (read.ec == std::errc::result_out_of_range ? most : std::clamp<int64_t>(megabytes, 0, most)) << 20;
    }
  }

  void shrink_to(int64_t bytes) {
    auto keep = free.begin();
    while (cached > bytes) {
      const int64_t cut = std::min(keep->bytes, round_up(cached - bytes, kUnit));
      keep->bytes -= cut;
      cached -= cut;
      munmap(keep->data + keep->bytes, static_cast<size_t>(cut));
      if (keep->bytes == 0) ++keep;
    }
    free.erase(free.begin(), keep);
  }

  // The smallest block that holds `bytes`, of several the one freed last, which is still in the CPU caches.
  char* take(int64_t bytes) {
    auto best = free.end();
    for (auto b = free.begin(); b != free.end(); ++b)
      if (b->bytes >= bytes && (best == free.end() || b->bytes <= best->bytes)) best = b;
    if (best == free.end()) return nullptr;
    char* data = best->data;
    *best = {data + bytes, best->bytes - bytes};
    cached -= bytes;
    if (best->bytes == 0) free.erase(best);
    return data;
  }

  // Merges the block with free neighbours, so that memory of several outputs can hold a larger one.
  void add(Block block) {
    cached += block.bytes;
    const auto merged = [&](const Block& b) {
      if (b.data + b.bytes != block.data && block.data + block.bytes != b.data) return false;
      block = {std::min(b.data, block.data), b.bytes + block.bytes};
      return true;
    };
    free.erase(std::remove_if(free.begin(), free.end(), merged), free.end());
    free.push_back(block);
  }
};

// Never destroyed: tensors may outlive every static object.
Cache& cache() {
  static Cache* const instance = new Cache;
  return *instance;
}

// A thread that does not get the lock at once bypasses the cache, so a fork while another thread holds the lock cannot
// hang the child.
using Try = std::unique_lock<std::mutex>;

char* map(int64_t bytes) {
  const size_t mapped = static_cast<size_t>(bytes + kHugePage);
  char* begin = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (begin == MAP_FAILED) return nullptr;
  char* data = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) &
                                       ~static_cast<uintptr_t>(kHugePage - 1));
  char *end = begin + mapped, *used_end = data + bytes;
  if (data > begin) munmap(begin, static_cast<size_t>(data - begin));
  if (end > used_end) munmap(used_end, static_cast<size_t>(end - used_end));
#if defined(MADV_HUGEPAGE)
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint: failure changes nothing
#endif
  return data;
}

Block take(int64_t bytes) {
  const int64_t rounded = round_up(bytes, bytes < kHugePage ? kUnit : kHugePage);
  Cache& c = cache();
  const Try lock(c.mutex, std::try_to_lock);
  if (!lock || c.limit == 0) return {nullptr, 0};
  char* data = c.take(rounded);
  if (!data) data = map(rounded);
  if (!data) {
    c.shrink_to(0);
    data = map(rounded);
  }
  if (data) c.in_use += rounded;
  return {data, rounded};
}

void give_back(void* data, void* context) {
  const int64_t bytes = reinterpret_cast<intptr_t>(context);
  Cache& c = cache();
  c.in_use -= bytes;
  if (const Try lock(c.mutex, std::try_to_lock); lock) {
    if (bytes <= c.limit) {
      c.shrink_to(c.limit - bytes);
      c.add({static_cast<char*>(data), bytes});
      return;
    }
  }
  munmap(data, static_cast<size_t>(bytes));
}

template <class T>
int32_t number(T value) {
  return torch::stable::detail::to<int32_t>(torch::stable::detail::from(value));
}

}  // namespace

std::optional<torch::stable::Tensor> allocate(const std::vector<int64_t>& shape, torch::headeronly::ScalarType type) {
  const int32_t dtype = number(type);
  int64_t bytes = static_cast<int64_t>(aoti_torch_dtype_element_size(dtype));
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(), stride = 1; d-- > 0; stride *= static_cast<size_t>(shape[d])) {
    strides[d] = static_cast<int64_t>(stride);
    bytes *= shape[d];
  }
  if (bytes < kSmallest || !torch_from_blob) return std::nullopt;
  const Block block = take(bytes);
  if (!block.data) return std::nullopt;
  AtenTensorHandle handle = nullptr;
  const AOTITorchError error =
      torch_from_blob(block.data, static_cast<int64_t>(shape.size()), shape.data(), strides.data(), 0, dtype,
                      aoti_torch_device_type_cpu(), -1, &handle, aoti_torch_layout_strided(), nullptr, 0, &give_back,
                      reinterpret_cast<void*>(static_cast<intptr_t>(block.bytes)));
  if (error != 0) {
    give_back(block.data, reinterpret_cast<void*>(static_cast<intptr_t>(block.bytes)));
    return std::nullopt;
  }
  return torch::stable::Tensor(handle);
}

Statistics statistics() {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  return {c.limit, c.cached, c.in_use};
}

void set_limit(int64_t bytes) {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  c.limit = std::max<int64_t>(0, bytes);
  c.shrink_to(c.limit);
}

void release() {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  c.shrink_to(0);
}

#else

std::optional<torch::stable::Tensor> allocate(const std::vector<int64_t>&, torch::headeronly::ScalarType) {
  return std::nullopt;
}
Statistics statistics() { return {0, 0, 0}; }
void set_limit(int64_t) {}
void release() {}

#endif

bool keep_freed_memory() {
#if defined(__GLIBC__)
  return mallopt(M_MMAP_MAX, 0) == 1 &&
         mallopt(M_TRIM_THRESHOLD, -1) == 1;  // everything from the heap, which never shrinks
#else
  return false;
#endif
}

}  // namespace snnfast::output_memory
