// Result<T>: a value, or every error that was found. Control side only: the data path returns small
// enums.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/assert.h"

namespace limpet::base {

// One thing that is wrong. `path` is the JSON pointer (RFC 6901) of the field, or empty when the
// error has no place in a document.
struct Error {
  std::string path;
  std::string message;

  friend bool operator==(const Error&, const Error&) = default;
};

using Errors = std::vector<Error>;

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}              // NOLINT: implicit by design
  Result(Error error) : state_(Errors{std::move(error)}) {}  // NOLINT
  Result(Errors errors) : state_(std::move(errors)) {        // NOLINT
    LIMPET_ASSERT(!std::get<Errors>(state_).empty());
  }

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  T& value() {
    LIMPET_ASSERT(ok());
    return std::get<T>(state_);
  }
  const T& value() const {
    LIMPET_ASSERT(ok());
    return std::get<T>(state_);
  }
  const Errors& errors() const {
    LIMPET_ASSERT(!ok());
    return std::get<Errors>(state_);
  }

 private:
  std::variant<T, Errors> state_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace limpet::base
