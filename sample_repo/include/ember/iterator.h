// SPDX-License-Identifier: Apache-2.0
/// \file
/// The one interface by which sorted things are walked: memtables, tables, merges and databases.

#ifndef EMBER_ITERATOR_H_
#define EMBER_ITERATOR_H_

#include <memory>
#include <string_view>

#include "ember/macros.h"
#include "ember/status.h"

EMBER_NAMESPACE_BEGIN

/// Walks a sorted sequence of entries forwards.
///
/// A fresh iterator stands nowhere: call `SeekToFirst` or `Seek` before anything else. An iterator
/// keeps what it reads alive, so it stays usable while the database is written to, and it never
/// shows writes that came after it was made. It must not be shared between threads.
class EMBER_EXPORT Iterator {
 public:
  Iterator() = default;
  virtual ~Iterator() = default;
  EMBER_NON_COPYABLE(Iterator);

  /// Whether the iterator stands on an entry. False at the end and after an error.
  virtual bool Valid() const = 0;

  virtual void SeekToFirst() = 0;

  /// Moves to the first entry whose key is at or after `target`.
  virtual void Seek(std::string_view target) = 0;

  /// Moves to the next entry. Requires `Valid()`.
  virtual void Next() = 0;

  /// The key of the entry, good until the iterator moves. Requires `Valid()`.
  virtual std::string_view key() const = 0;

  /// The value of the entry, good until the iterator moves. Requires `Valid()`.
  virtual std::string_view value() const = 0;

  /// Ok, or why the iterator stopped early. Ask once `Valid()` is false: the end of the data and a
  /// damaged block look the same otherwise.
  virtual Status status() const = 0;
};

/// An iterator over nothing, with the given status.
EMBER_EXPORT std::unique_ptr<Iterator> NewEmptyIterator(Status status = Status::Ok());

EMBER_NAMESPACE_END

#endif  // EMBER_ITERATOR_H_
