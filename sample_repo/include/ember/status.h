// SPDX-License-Identifier: Apache-2.0
/// \file
/// Status: how every fallible operation of emberkv reports its outcome. The library throws nothing.

#ifndef EMBER_STATUS_H_
#define EMBER_STATUS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

#include "ember/macros.h"

EMBER_NAMESPACE_BEGIN

/// The kinds of outcome. Everything but `kOk` comes from the list `EMBER_STATUS_CODES`.
enum class StatusCode : std::uint8_t {
  kOk = 0,
#define EMBER_STATUS_ENUMERATOR(name, number, text) k##name = number,
  EMBER_STATUS_CODES(EMBER_STATUS_ENUMERATOR)
#undef EMBER_STATUS_ENUMERATOR
};

/// The outcome of an operation: Ok, or a code with a sentence that says what went wrong and where.
/// Cheap to move, and the compiler warns when one is ignored.
class EMBER_NODISCARD EMBER_EXPORT Status {
 public:
  Status() = default;

  static Status Ok() { return Status(); }

  /// Status::NotFound(message), IsNotFound(), and so on for each code.
  EMBER_STATUS_CODES(EMBER_DECLARE_STATUS)

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  /// "corruption: block 3 of 000007.tbl fails its checksum", or "ok".
  std::string ToString() const {
    if (ok()) return "ok";
    return std::string(Text(code_)) + ": " + message_;
  }

 private:
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static const char* Text(StatusCode code) {
    switch (code) {
      case StatusCode::kOk:
        return "ok";
#define EMBER_STATUS_TEXT(name, number, text) \
  case StatusCode::k##name:                   \
    return text;
        EMBER_STATUS_CODES(EMBER_STATUS_TEXT)
#undef EMBER_STATUS_TEXT
    }
    return "unknown";
  }

  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

/// Two statuses are equal when their codes are; messages are for people.
inline bool operator==(const Status& left, const Status& right) {
  return left.code() == right.code();
}

inline bool operator!=(const Status& left, const Status& right) { return !(left == right); }

inline std::ostream& operator<<(std::ostream& out, const Status& status) {
  return out << status.ToString();
}

EMBER_NAMESPACE_END

#endif  // EMBER_STATUS_H_
