#include "core/bp_stdp_network.h"

#include "cuda/launch.h"

namespace snnfast {
int64_t bp_stdp_network_workspace(const BpStdpNetwork&) { return 0; }
int launch_bp_stdp_network(const BpStdpNetwork&, void*, void*) { return 1; }
}  // namespace snnfast
