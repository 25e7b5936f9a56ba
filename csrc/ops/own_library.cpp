#include "ops/own_library.h"

#include <dlfcn.h>

#include <mutex>
#include <unordered_map>

#include "ops/check.h"
#include "ops/recurrent.h"

namespace snnfast {
namespace {

// They stay loaded, since a thread may be running one.
std::mutex libraries_mutex;
std::unordered_map<std::string, OwnLibrary>& libraries() {
  static auto* const all = new std::unordered_map<std::string, OwnLibrary>;
  return *all;
}

}  // namespace

OwnLibrary own_library(const char* op, const std::string& name) {
  const std::lock_guard lock(libraries_mutex);
  const auto found = libraries().find(name);
  SNNFAST_CHECK(found != libraries().end(), op, ": the kernel ", name,
                " is not loaded in this process; import the module that defines the ",
                op == std::string("neuron") ? "neuron" : "rule",
                " and call it once, or call it without a program that was exported elsewhere");
  return found->second;
}

// Loads a shared library under a name. Returns the number of steps between the checkpoints of a neuron; 0 for a rule.
int64_t load_own_kernel(const std::string& name, const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  SNNFAST_CHECK(library, "neuron: ", path, " cannot be loaded: ", dlerror());
  const OwnLibrary found{static_cast<const OwnKernel*>(dlsym(library, "snnfast_own_kernel")),
                         static_cast<const OwnRule*>(dlsym(library, "snnfast_own_rule"))};
  const bool is_neuron = found.neuron && found.neuron->forward_bytes == sizeof(RecurrentForward<AnyNeuron>) &&
                         found.neuron->backward_bytes == sizeof(RecurrentBackward<AnyNeuron>);
  const bool is_rule = found.rule && found.rule->argument_bytes == sizeof(OwnRuleArguments);
  SNNFAST_CHECK(is_neuron || is_rule, "neuron: ", path, " was compiled for another version of snnfast");
  const std::lock_guard lock(libraries_mutex);
  libraries()[name] = found;
  return is_neuron ? found.neuron->checkpoint_every : 0;
}

#ifdef SNNFAST_CUDA_EMULATION
// This library is not a Python module.
extern "C" __attribute__((visibility("default"))) int64_t snnfast_load_own_kernel(const char* name, const char* path) {
  return load_own_kernel(name, path);
}
#endif

}  // namespace snnfast
