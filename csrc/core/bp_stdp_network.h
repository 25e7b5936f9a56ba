// A network of integrate-and-fire neurons trained by BP-STDP (Tavanaei and Maida 2019).
#pragma once
#include <cstdint>

#include "core/interrupt.h"
#include "core/presentations.h"

namespace snnfast {

constexpr int64_t kBpStdpLayers = 16;  // maximum

struct BpStdpLayer {
  int64_t I, O;
  double threshold;
  void* w;               // [O, I]
  const void* v_before;  // [P, O] initial membrane potentials, if `carry`
  void* v_after;         // [P, O], if `return_state`
  bool* spikes;          // [T, P, O], zeroed; samples are spikes_stride apart; or null
  int64_t spikes_stride;
};

struct BpStdpNetwork {
  int64_t networks;  // independent networks; fields describe the first one, the others follow it in memory
  Presentations x;
  int64_t batch;  // samples between weight updates; may exceed P
  int64_t span;   // steps between weight updates: 1 or T
  int64_t epsilon;
  int64_t layers;
  double lr;
  const double* lrs;         // [K] learning rate of each network, in place of lr; or null
  const double* thresholds;  // [K, layers] in place of the thresholds of the layers; or null
  bool is_double, mean, learns, carry, return_state;
  const int64_t* labels;                  // [P], if `learns`
  const bool* desired;                    // [T, P]
  int64_t labels_stride, desired_stride;  // from one network to the next; 0: shared
  BpStdpLayer layer[kBpStdpLayers];
  Interrupt interrupt;

  // Call of network k alone.
  SNNFAST_HD BpStdpNetwork network(int64_t k) const {
    BpStdpNetwork a = *this;
    a.networks = 1;
    a.x = x.network(k);
    a.lr = rate(k), a.lrs = nullptr, a.thresholds = nullptr;
    if (learns) a.labels += k * labels_stride, a.desired += k * desired_stride;
    for (int64_t l = 0; l < layers; l++) {
      BpStdpLayer& y = a.layer[l];
      y.threshold = threshold(k, l);
      const int64_t size = is_double ? 8 : 4, membranes = k * x.P * y.O * size;
      y.w = static_cast<char*>(y.w) + k * y.O * y.I * size;
      if (carry) y.v_before = static_cast<const char*>(y.v_before) + membranes;
      if (return_state) y.v_after = static_cast<char*>(y.v_after) + membranes;
      if (y.spikes) y.spikes += k * x.T * x.P * y.spikes_stride;
    }
    return a;
  }
  // Learning rate and thresholds of network k.
  SNNFAST_HD double rate(int64_t k) const { return lrs ? lrs[k] : lr; }
  SNNFAST_HD double threshold(int64_t k, int64_t l) const {
    return thresholds ? thresholds[k * layers + l] : layer[l].threshold;
  }
  // Factor of the errors of a presentation of B samples to network k.
  SNNFAST_HD double scale(int64_t k, int64_t B) const { return mean ? rate(k) / static_cast<double>(B) : rate(k); }
  // Number of samples of a presentation.
  SNNFAST_HD int64_t samples() const { return min(batch, x.P); }
  // Whether packed copies of the weights, input by input, pay off: not for a few samples.
  SNNFAST_HD bool packs() const { return learns || x.T * x.P > 16; }
};

}  // namespace snnfast
