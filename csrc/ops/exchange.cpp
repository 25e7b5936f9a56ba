#include "ops/exchange.h"

#include "ops/check.h"

namespace snnfast {
namespace {

ExchangeSpikes spike_exchange_ = nullptr;

}  // namespace

void set_spike_exchange(ExchangeSpikes exchange) { spike_exchange_ = exchange; }

ExchangeSpikes spike_exchange(const char* op) {
  SNNFAST_CHECK(spike_exchange_, op, ": part needs snnfast.connect, which exchanges the spikes");
  return spike_exchange_;
}

}  // namespace snnfast
