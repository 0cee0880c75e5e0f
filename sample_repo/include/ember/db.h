// SPDX-License-Identifier: Apache-2.0
/// \file
/// The public face of emberkv: DB, WriteBatch, Snapshot and Statistics.

#ifndef EMBER_DB_H_
#define EMBER_DB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ember/iterator.h"
#include "ember/macros.h"
#include "ember/options.h"
#include "ember/status.h"

EMBER_NAMESPACE_BEGIN

/// Numbers every change of a database, in the order in which they took effect. The first is 1.
using SequenceNumber = std::uint64_t;

/// What one entry says about its key. The numbers are part of the file formats.
enum class ValueType : std::uint8_t {
  kDeletion = 0,
  kValue = 1,
};

/// Several changes that take effect together: after a crash either all of them are there or none.
class EMBER_EXPORT WriteBatch {
 public:
  /// One change. `value` is empty for a deletion.
  struct Operation {
    ValueType type;
    std::string key;
    std::string value;
  };

  /// Stores `value` under `key`, in place of what is there.
  void Put(std::string_view key, std::string_view value) {
    operations_.push_back({ValueType::kValue, std::string(key), std::string(value)});
  }

  /// Removes `key`. Removing a key that is not there is no error.
  void Delete(std::string_view key) {
    operations_.push_back({ValueType::kDeletion, std::string(key), std::string()});
  }

  void Clear() { operations_.clear(); }

  /// Appends the changes of `other`; where both name a key, the later change wins.
  WriteBatch& operator+=(const WriteBatch& other) {
    operations_.insert(operations_.end(), other.operations_.begin(), other.operations_.end());
    return *this;
  }

  const std::vector<Operation>& operations() const { return operations_; }

 private:
  std::vector<Operation> operations_;
};

/// A moment in the life of a database that reads can go back to. Compactions keep the entries that
/// it can see. Dropping the last reference releases it, also after the database is closed.
class EMBER_EXPORT Snapshot {
 public:
  explicit Snapshot(SequenceNumber sequence) : sequence_(sequence) {}
  EMBER_NON_COPYABLE(Snapshot);

  SequenceNumber sequence() const { return sequence_; }

 private:
  const SequenceNumber sequence_;
};

/// What a database has done since it was opened. See `EMBER_STATISTICS` for the meanings.
struct EMBER_EXPORT Statistics {
#define EMBER_STATISTICS_FIELD(name, meaning) std::uint64_t name = 0;
  EMBER_STATISTICS(EMBER_STATISTICS_FIELD)
#undef EMBER_STATISTICS_FIELD
};

/// A sorted, durable map from byte strings to byte strings, in one directory.
///
/// All methods may be called from several threads at once. Keys are ordered by their bytes.
class EMBER_EXPORT DB {
 public:
  /// Opens the database in `directory` and brings back what its log holds.
  ///
  /// \return InvalidArgument if there is none and `create_if_missing` is off, Busy if it is open
  ///   elsewhere, Corruption if a file is damaged in a way that no crash explains.
  static Status Open(const Options& options, const std::string& directory,
                     std::unique_ptr<DB>* database);

  DB() = default;
  /// Waits for the background thread. Nothing is flushed: the log has it all.
  virtual ~DB() = default;
  EMBER_NON_COPYABLE(DB);

  virtual Status Put(const WriteOptions& options, std::string_view key, std::string_view value) = 0;
  virtual Status Delete(const WriteOptions& options, std::string_view key) = 0;

  /// Applies all changes of `batch`, or none.
  virtual Status Write(const WriteOptions& options, const WriteBatch& batch) = 0;

  /// Finds the value of `key`. \return NotFound if there is none.
  virtual Status Get(const ReadOptions& options, std::string_view key, std::string* value) = 0;

  /// Walks the keys and values as they are now, or as `options.snapshot` saw them. Drop the iterator
  /// before the database.
  virtual std::unique_ptr<Iterator> NewIterator(const ReadOptions& options) = 0;

  /// Holds on to the present state for later reads.
  virtual std::shared_ptr<const Snapshot> GetSnapshot() = 0;

  /// Writes the memtable to a level-0 table, however small it is, and waits until that is done.
  virtual Status Flush() = 0;

  /// Flushes, merges all tables into level 1, and waits until that is done.
  virtual Status CompactAll() = 0;

  virtual Statistics GetStatistics() const = 0;

  /// The same with default options.
  Status Put(std::string_view key, std::string_view value) { return Put(WriteOptions(), key, value); }
  Status Delete(std::string_view key) { return Delete(WriteOptions(), key); }
  Status Write(const WriteBatch& batch) { return Write(WriteOptions(), batch); }
  Status Get(std::string_view key, std::string* value) { return Get(ReadOptions(), key, value); }
  std::unique_ptr<Iterator> NewIterator() { return NewIterator(ReadOptions()); }
};

EMBER_NAMESPACE_END

#endif  // EMBER_DB_H_
