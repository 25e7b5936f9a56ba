// Spikes that the kernels of recurrent neurons write as events (EventList of core/recurrent.h).
#pragma once
#include <algorithm>
#include <vector>

#include "core/recurrent.h"
#include "ops/check.h"

namespace snnfast {

class SpikeEventLists {
 public:
  // units: groups of samples, or ranges of neurons of one sample.
  explicit SpikeEventLists(int64_t units) : memory_(static_cast<size_t>(units)) {
    for (std::vector<int32_t>& memory : memory_) lists_.push_back({nullptr, 0, 0, true, &memory, &grow});
  }

  EventList* data() { return lists_.data(); }

  // Step, sample and neuron of all events, int32 [3, events], in order of steps, then samples, then neurons.
  template <class Device>
  Tensor merged(const char* op, const Device& device, const Tensor& x) {
    int64_t total = 0;
    for (const EventList& list : lists_) {
      SNNFAST_CHECK(list.whole, op,
                    ": spikes must be whole numbers of at least 0 to be recorded as events, got others; "
                    "record='spikes' takes any");
      total += list.count;
    }
    Tensor events = device.allocate(x, {3, total}, ScalarType::Int);
    int32_t* const out = static_cast<int32_t*>(events.mutable_data_ptr());
    std::vector<int64_t> next(lists_.size());
    for (int64_t e = 0, t = 0; e < total; t++)
      for (size_t unit = 0; unit < lists_.size(); unit++)
        for (const EventList& list = lists_[unit]; next[unit] < list.count; next[unit]++, e++) {
          const int32_t* event = list.numbers + 3 * next[unit];
          if (event[0] != t) break;
          for (int64_t k = 0; k < 3; k++) out[k * total + e] = event[k];
        }
    return events;
  }

 private:
  static void grow(EventList& list) {
    auto& memory = *static_cast<std::vector<int32_t>*>(list.owner);
    memory.resize(std::max<size_t>(2 * memory.size(), 3 << 10));
    list.numbers = memory.data();
    list.room = static_cast<int64_t>(memory.size() / 3);
  }

  std::vector<std::vector<int32_t>> memory_;
  std::vector<EventList> lists_;
};

}  // namespace snnfast
