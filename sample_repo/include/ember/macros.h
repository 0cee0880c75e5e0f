// SPDX-License-Identifier: Apache-2.0
/// \file
/// Every macro of emberkv, in one place.
///
/// The rest of the library uses these and defines none of its own, but for the short-lived arguments
/// of the X-macros. A macro is here for one of four reasons: the compiler has no portable spelling
/// (export, attributes), a list must be written once and expanded several times (X-macros), a
/// declaration repeats word for word, or control flow has to leave the calling function
/// (`EMBER_RETURN_IF_ERROR`).

#ifndef EMBER_MACROS_H_
#define EMBER_MACROS_H_

#include <cstdio>
#include <cstdlib>

#define EMBER_VERSION_MAJOR 1
#define EMBER_VERSION_MINOR 2
#define EMBER_STRINGIZE_(text) #text
#define EMBER_STRINGIZE(text) EMBER_STRINGIZE_(text)
#define EMBER_VERSION EMBER_STRINGIZE(EMBER_VERSION_MAJOR) "." EMBER_STRINGIZE(EMBER_VERSION_MINOR)

// ---- Linkage -------------------------------------------------------------------------------

/// Marks what a shared library lets its users see. Empty in a static build.
#if !defined(EMBER_SHARED)
#define EMBER_EXPORT
#elif defined(_WIN32)
#if defined(EMBER_BUILDING)
#define EMBER_EXPORT __declspec(dllexport)
#else
#define EMBER_EXPORT __declspec(dllimport)
#endif
#else
#define EMBER_EXPORT [[gnu::visibility("default")]]
#endif

/// Opens and closes the namespace in public headers. In a shared library that is built with hidden
/// visibility, the attribute also exports what no class marker reaches: inline functions and the
/// type information that casts between modules need.
#if defined(EMBER_SHARED) && !defined(_WIN32)
#define EMBER_NAMESPACE_BEGIN namespace ember __attribute__((visibility("default"))) {
#else
#define EMBER_NAMESPACE_BEGIN namespace ember {
#endif
#define EMBER_NAMESPACE_END }

// ---- Attributes ----------------------------------------------------------------------------

/// Clang's thread-safety analysis. Without it these expand to nothing and are comments that cannot
/// be misspelt.
#if defined(__clang__) && defined(EMBER_THREAD_ANALYSIS)
#define EMBER_THREAD_ATTRIBUTE_(attribute) __attribute__((attribute))
#else
#define EMBER_THREAD_ATTRIBUTE_(attribute)
#endif
/// The member may be read or written only while `mutex` is held.
#define EMBER_GUARDED_BY(mutex) EMBER_THREAD_ATTRIBUTE_(guarded_by(mutex))
/// The caller must hold `mutex`; the function may release it for a while but holds it on return.
#define EMBER_REQUIRES(mutex) EMBER_THREAD_ATTRIBUTE_(exclusive_locks_required(mutex))
/// The caller must not hold `mutex`, because the function takes it.
#define EMBER_EXCLUDES(mutex) EMBER_THREAD_ATTRIBUTE_(locks_excluded(mutex))

#define EMBER_NODISCARD [[nodiscard]]

#if defined(__GNUC__) || defined(__clang__)
#define EMBER_UNLIKELY(condition) __builtin_expect(static_cast<bool>(condition), 0)
#else
#define EMBER_UNLIKELY(condition) (condition)
#endif

// ---- Lists that are written once -----------------------------------------------------------

/// X(name, number, text) for each way an operation can fail. The numbers are stable, as callers log
/// them.
#define EMBER_STATUS_CODES(X)                       \
  X(NotFound, 1, "not found")                       \
  X(Corruption, 2, "corruption")                    \
  X(InvalidArgument, 3, "invalid argument")         \
  X(IoError, 4, "input/output error")               \
  X(Busy, 5, "database is in use")

/// X(name, meaning) for each counter of `ember::Statistics`.
#define EMBER_STATISTICS(X)                                        \
  X(flushes, "memtables written to level-0 tables")                \
  X(compactions, "merges of level 0 into level 1")                 \
  X(stalls, "writes that waited for a flush or a compaction")      \
  X(recovered_records, "log records replayed when opening")        \
  X(torn_bytes, "bytes of a torn log tail dropped when opening")

// ---- Declarations that repeat word for word ------------------------------------------------

#define EMBER_NON_COPYABLE(Type) \
  Type(const Type&) = delete;    \
  Type& operator=(const Type&) = delete

/// Declares the factory `Status::Name(message)` and the predicate `IsName()`.
#define EMBER_DECLARE_STATUS(name, number, text)                     \
  static Status name(std::string message) {                          \
    return Status(StatusCode::k##name, std::move(message));          \
  }                                                                  \
  bool Is##name() const { return code_ == StatusCode::k##name; }

/// Declares every override that a class derived from `ember::Iterator` owes.
#define EMBER_ITERATOR_OVERRIDES                    \
  bool Valid() const override;                      \
  void SeekToFirst() override;                      \
  void Seek(std::string_view target) override;      \
  void Next() override;                             \
  std::string_view key() const override;            \
  std::string_view value() const override;          \
  Status status() const override

// ---- Control flow --------------------------------------------------------------------------

/// Leaves the calling function with the status of `expression` unless that is Ok.
#define EMBER_RETURN_IF_ERROR(expression)                            \
  do {                                                               \
    if (::ember::Status ember_status_ = (expression);                \
        EMBER_UNLIKELY(!ember_status_.ok())) {                       \
      return ember_status_;                                          \
    }                                                                \
  } while (false)

/// Ends the process with a message when `condition` does not hold. Not compiled out in release
/// builds: it guards invariants whose breach would write wrong data.
#define EMBER_CHECK(condition)                                           \
  (EMBER_UNLIKELY(!(condition))                                          \
       ? ::ember::detail::CheckFailed(__FILE__, __LINE__, #condition)    \
       : static_cast<void>(0))

EMBER_NAMESPACE_BEGIN
namespace detail {

/// Prints where a check failed and aborts. Only `EMBER_CHECK` calls it.
#if defined(__GNUC__) || defined(__clang__)
[[noreturn]] __attribute__((cold, noinline)) inline void CheckFailed(const char* file, int line,
                                                                     const char* condition)
#else
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition)
#endif
{
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace detail
EMBER_NAMESPACE_END

#endif  // EMBER_MACROS_H_
