// What recurrent layers of all neurons share on the CPU: weights in the rows that the loops read, and the sum of their gradients.
#include "core/recurrent.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kTile = 16;  // transposed at a time: rows and columns of a cache line

template <class C>
void pack(const C* weight, int64_t H, C* to_post, C* to_pre) {
  const int64_t width = padded(H);
  for (int64_t i = 0; i < H; i++)
    for (int64_t j = 0; j < width; j++) to_pre[i * width + j] = j < H ? weight[i * H + j] : C(0);
  for (int64_t j0 = 0; j0 < H; j0 += kTile)
    for (int64_t i0 = 0; i0 < width; i0 += kTile)
      for (int64_t j = j0; j < (j0 + kTile < H ? j0 + kTile : H); j++)
        for (int64_t i = i0; i < i0 + kTile; i++) to_post[j * width + i] = i < H ? weight[i * H + j] : C(0);
}

template <class C>
void sum(C* parts, int64_t count, int64_t H, C* grad_weight) {
  const int64_t width = padded(H), size = H * width;
  for (int64_t part = 1; part < count; part++)
    for (int64_t k = 0; k < size; k++) parts[k] += parts[part * size + k];
  for (int64_t i0 = 0; i0 < H; i0 += kTile)
    for (int64_t j0 = 0; j0 < H; j0 += kTile)
      for (int64_t i = i0; i < (i0 + kTile < H ? i0 + kTile : H); i++)
        for (int64_t j = j0; j < (j0 + kTile < H ? j0 + kTile : H); j++) grad_weight[i * H + j] = count ? parts[j * width + i] : C(0);
}

}  // namespace

void recurrent_pack(const Recurrence& r, bool wide, void* to_post, void* to_pre) {
  if (wide)
    pack(static_cast<const double*>(r.weight), r.H, static_cast<double*>(to_post), static_cast<double*>(to_pre));
  else
    pack(static_cast<const float*>(r.weight), r.H, static_cast<float*>(to_post), static_cast<float*>(to_pre));
}

void recurrent_sum(void* parts, int64_t count, int64_t H, bool wide, void* grad_weight) {
  if (wide)
    sum(static_cast<double*>(parts), count, H, static_cast<double*>(grad_weight));
  else
    sum(static_cast<float*>(parts), count, H, static_cast<float*>(grad_weight));
}

}  // namespace snnfast::cpu::SNNFAST_ISA
