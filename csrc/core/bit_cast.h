// The bits of a value as a value of another type: C++20's std::bit_cast, for host and device.
#pragma once
#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace snnfast {
namespace {

template <class To, class From>
SNNFAST_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace
}  // namespace snnfast
