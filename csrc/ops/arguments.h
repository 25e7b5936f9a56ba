// Arguments of an operator, declared once. A list
//
//   #define SNNFAST_DELAY_ARGUMENTS(FIELD) FIELD(Tensor, x) FIELD(Optional, state) FIELD(Parameter, delay)
//   SNNFAST_ARGUMENTS(DelayArguments, SNNFAST_DELAY_ARGUMENTS)
//
// defines a struct with these fields; its schema and its boxed function follow from their types. A field may itself be
// such a struct; in the schema its fields are prefixed with its name. snnfast/reference/<stem>.py has the same fields
// in the same order; tests/ops/test_ops_calls.py compares the two.
#pragma once
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ops/device.h"

namespace snnfast {

using Optional = std::optional<Tensor>;

// Tensors that an operator changes in place.
struct Changed {
  Tensor tensor;
};
struct OptionalChanged {
  Optional tensor;
};
struct ChangedList {
  std::vector<Tensor> tensors;
};
// A parameter of a neuron: a tensor, or a number.
struct Parameter {
  double value;
  Optional tensor;
};

template <class... T>
struct Types {};
template <class... Lists>
struct Joined;
template <class... A>
struct Joined<Types<A...>> {
  using type = Types<A...>;
};
template <class... A, class... B, class... More>
struct Joined<Types<A...>, Types<B...>, More...> {
  using type = typename Joined<Types<A..., B...>, More...>::type;
};

// Schema of a field, and the plain types that PyTorch passes for it.
template <class T>
struct Argument {  // for a struct defined by SNNFAST_ARGUMENTS
  using Flat = typename T::Flat;
  static void schema(std::string& out, const std::string& name) { T::schema(out, name + "_"); }
};
inline void add_argument(std::string& out, const std::string& type, const std::string& name) {
  out += (out.empty() ? "" : ", ") + type + " " + name;
}
#define SNNFAST_PLAIN_ARGUMENT(TYPE, SCHEMA)                                                           \
  template <>                                                                                          \
  struct Argument<TYPE> {                                                                              \
    using Flat = Types<TYPE>;                                                                          \
    static void schema(std::string& out, const std::string& name) { add_argument(out, SCHEMA, name); } \
  };
SNNFAST_PLAIN_ARGUMENT(Tensor, "Tensor")
SNNFAST_PLAIN_ARGUMENT(Optional, "Tensor?")
SNNFAST_PLAIN_ARGUMENT(std::vector<Tensor>, "Tensor[]")
SNNFAST_PLAIN_ARGUMENT(ScalarType, "ScalarType")
SNNFAST_PLAIN_ARGUMENT(std::string, "str")
SNNFAST_PLAIN_ARGUMENT(bool, "bool")
SNNFAST_PLAIN_ARGUMENT(int64_t, "int")
SNNFAST_PLAIN_ARGUMENT(double, "float")
SNNFAST_PLAIN_ARGUMENT(std::optional<double>, "float?")
SNNFAST_PLAIN_ARGUMENT(std::vector<double>, "float[]")
#undef SNNFAST_PLAIN_ARGUMENT

// Every changed argument is a separate alias set, named by a letter.
inline std::string alias(const std::string& out) {
  int before = 0;
  for (const char c : out) before += c == '!';
  return "(" + std::string(1, static_cast<char>('a' + before)) + "!)";
}
template <>
struct Argument<Changed> {
  using Flat = Types<Tensor>;
  static void schema(std::string& out, const std::string& name) { add_argument(out, "Tensor" + alias(out), name); }
};
template <>
struct Argument<OptionalChanged> {
  using Flat = Types<Optional>;
  static void schema(std::string& out, const std::string& name) {
    add_argument(out, "Tensor" + alias(out) + "?", name);
  }
};
template <>
struct Argument<ChangedList> {
  using Flat = Types<std::vector<Tensor>>;
  static void schema(std::string& out, const std::string& name) {
    add_argument(out, "Tensor" + alias(out) + "[]", name);
  }
};
template <>
struct Argument<Parameter> {
  using Flat = Types<double, Optional>;
  static void schema(std::string& out, const std::string& name) {
    add_argument(out, "float", name);
    add_argument(out, "Tensor?", name + "_tensor");
  }
};

#define SNNFAST_DECLARE_FIELD(TYPE, NAME) TYPE NAME;
#define SNNFAST_FLAT_FIELD(TYPE, NAME) , typename Argument<TYPE>::Flat
#define SNNFAST_SCHEMA_FIELD(TYPE, NAME) Argument<TYPE>::schema(out, prefix + #NAME);
#define SNNFAST_ARGUMENTS(STRUCT, LIST)                                                     \
  struct STRUCT {                                                                           \
    LIST(SNNFAST_DECLARE_FIELD)                                                             \
    using Flat = typename Joined<Types<> LIST(SNNFAST_FLAT_FIELD)>::type;                   \
    static void schema(std::string& out, [[maybe_unused]] const std::string& prefix = "") { \
      LIST(SNNFAST_SCHEMA_FIELD)                                                            \
    }                                                                                       \
  };

// "name(arguments, more) -> result"
template <class Arguments>
std::string schema(const std::string& name, const std::string& result, const std::string& more = "") {
  std::string out;
  Arguments::schema(out);
  return name + "(" + out + (more.empty() ? "" : ", ") + more + ") -> " + result;
}

// Function of plain types that TORCH_BOX expects, for one of (const Arguments&, More...).
template <class Arguments, auto function, class Flat, class Signature>
struct Unpacked;
template <class Arguments, auto function, class... F, class Result, class... More>
struct Unpacked<Arguments, function, Types<F...>, Result (*)(const Arguments&, More...)> {
  static Result call(F... fields, More... more) {
    return function(Arguments{std::move(fields)...}, std::move(more)...);
  }
};
#define SNNFAST_BOX(ARGUMENTS, ...) \
  TORCH_BOX((&Unpacked<ARGUMENTS, &__VA_ARGS__, typename ARGUMENTS::Flat, decltype(&__VA_ARGS__)>::call))

}  // namespace snnfast

// Registers the operator NAME of the struct Arguments: FUNCTION<Device>, with the result and the further arguments of
// its schema. SNNFAST_CPU_OPERATOR: only for the CPU.
#define SNNFAST_OPERATOR_WITH(REGISTER, NAME, FUNCTION, ...) \
  REGISTER(m.def(schema<Arguments>(NAME, __VA_ARGS__).c_str()), m.impl(NAME, SNNFAST_BOX(Arguments, FUNCTION<Device>)))
#define SNNFAST_OPERATOR(...) SNNFAST_OPERATOR_WITH(SNNFAST_REGISTER, __VA_ARGS__)
#define SNNFAST_CPU_OPERATOR(...) SNNFAST_OPERATOR_WITH(SNNFAST_REGISTER_CPU, __VA_ARGS__)
