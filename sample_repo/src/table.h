// SPDX-License-Identifier: Apache-2.0
/// \file
/// Sorted table files: how one is built and how one is read.
///
/// Layout of a file:
///
///     data block, data block, ...   entries sorted by internal key
///     filter block                  a Bloom filter over all user keys; may be empty
///     index block                   for each data block: its last key, offset and size
///     footer                        offsets and sizes of the filter and the index, magic number
///
/// A block is followed by the CRC-32 of its bytes. A table is written once and never changed.

#ifndef EMBER_SRC_TABLE_H_
#define EMBER_SRC_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache.h"
#include "coding.h"
#include "ember/iterator.h"
#include "ember/options.h"
#include "file.h"

namespace ember {

/// Where a block lies in its file. `size` leaves out the checksum.
struct BlockHandle {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

inline constexpr std::size_t kChecksumSize = 4;
inline constexpr std::size_t kFooterSize = 40;
inline constexpr std::uint64_t kTableMagic = 0x316C'6274'7265'626D;  // reads "mbertbl1" in a dump

/// What the manifest says about a table. The keys are internal ones, both ends included.
struct TableMeta {
  std::uint64_t number = 0;
  std::uint64_t file_size = 0;
  std::string smallest;
  std::string largest;
};

/// A set of keys in a few bits each, which may claim to hold a key that it does not, never the
/// reverse. A table consults it to spare the reading of a block for a key that is not there.
class BloomFilter {
 public:
  /// Builds the filter of the keys with these hashes. Empty when `bits_per_key` is 0 or there are no keys.
  static std::string Build(const std::vector<std::uint64_t>& key_hashes, std::size_t bits_per_key);

  /// False only when `key` was certainly not among those the filter was built from. An empty or
  /// malformed filter claims everything, which costs time and never an answer.
  static bool MayContain(std::string_view filter, std::string_view key);

  /// FNV-1a over 64 bits, with a final mix because its high bits alone are weak for short keys.
  static std::uint64_t Hash(std::string_view key);

 private:
  /// Calls `visit(bit)` for each bit of a key until it returns false; says whether none did.
  template <typename Visit>
  static bool ForEachBit(std::uint64_t hash, std::size_t probes, std::size_t bits, Visit visit);
};

/// Writes one table. Entries must come in increasing order of their internal keys.
class TableBuilder {
 public:
  /// Starts a table in `file`, which must be empty. `options` must outlive the builder.
  TableBuilder(const Options& options, std::unique_ptr<WritableFile> file);
  ~TableBuilder();
  EMBER_NON_COPYABLE(TableBuilder);

  /// Adds an entry; a data block that is full by then is written out.
  Status Add(std::string_view internal_key, std::string_view value);

  /// Writes what is left, the filter, the index and the footer, and waits for the device.
  Status Finish();

  std::uint64_t file_size() const { return offset_; }
  std::uint64_t entries() const { return key_hashes_.size(); }
  const std::string& smallest() const { return smallest_; }
  const std::string& largest() const { return last_key_; }

 private:
  Status FlushDataBlock();
  Status WriteBlock(std::string_view contents, BlockHandle* handle);

  const Options& options_;
  std::unique_ptr<WritableFile> file_;
  std::string block_;  // the data block that is being filled
  std::string index_;
  std::string smallest_;
  std::string last_key_;
  std::vector<std::uint64_t> key_hashes_;
  std::uint64_t offset_ = 0;
};

/// An open table. Safe to read from several threads at once.
class Table {
 public:
  /// Opens the table at `path` and keeps its index and filter in memory. `cache` may be null and
  /// must outlive the table otherwise. \return Corruption if a checksum or the footer is wrong.
  static Status Open(const std::string& path, std::uint64_t number, BlockCache* cache,
                     std::shared_ptr<const Table>* table);
  EMBER_NON_COPYABLE(Table);

  /// Looks for the newest entry of `key` that a reader at `sequence` may see, reading at most one
  /// block, and mostly none when the key is not there.
  Status Get(const ReadOptions& options, std::string_view key, SequenceNumber sequence,
             std::string* value, Lookup* result) const;

  /// Walks all entries by internal key. The iterator keeps `table` alive.
  static std::unique_ptr<Iterator> NewIterator(std::shared_ptr<const Table> table,
                                               const ReadOptions& options);

 private:
  class Cursor;

  struct IndexEntry {
    std::string last_key;
    BlockHandle handle;
  };

  Table(std::unique_ptr<ReadableFile> file, std::uint64_t number, BlockCache* cache);

  Status ReadFooterAndIndex();
  Status ReadBlock(const BlockHandle& handle, std::string* contents) const;
  Status LoadDataBlock(const BlockHandle& handle, bool fill_cache,
                       std::shared_ptr<const std::string>* block) const;

  /// The number of the first block that may hold `internal_key`; the number of blocks if none does.
  std::size_t FindBlock(std::string_view internal_key) const;

  const std::unique_ptr<ReadableFile> file_;
  const std::uint64_t number_;
  BlockCache* const cache_;
  std::vector<IndexEntry> index_;
  std::string filter_;
};

}  // namespace ember

#endif  // EMBER_SRC_TABLE_H_
