#include "core/diehl_cook.h"
#include "cuda/launch.h"

namespace snnfast {

int64_t diehl_cook_workspace(const DiehlCook&) { return 0; }
int launch_diehl_cook(const DiehlCook&, void*, void*) { return 801; }

}  // namespace snnfast
