// Exchange of spikes between the parts of a network (Part of core/recurrent.h).
#pragma once
#include "core/recurrent.h"

namespace snnfast {

using ExchangeSpikes = bool (*)(int64_t key, int64_t first_sample, int64_t samples, int64_t t, EventList& spikes);

// The function that asks Python, snnfast.connect.Part. module.cpp sets it; other programs have none.
void set_spike_exchange(ExchangeSpikes exchange);
ExchangeSpikes spike_exchange(const char* op);

}  // namespace snnfast
