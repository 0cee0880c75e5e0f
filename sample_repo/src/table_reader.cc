// SPDX-License-Identifier: Apache-2.0
/// \file
/// Reading a sorted table file: footer, index, filter, and data blocks through the cache.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "table.h"

namespace ember {
namespace {

/// Walks the entries of one data block. Malformed bytes end the walk with a status.
class BlockCursor {
 public:
  BlockCursor() = default;
  explicit BlockCursor(std::shared_ptr<const std::string> block)
      : block_(std::move(block)), rest_(*block_) {
    Next();
  }

  bool Valid() const { return valid_; }
  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }
  const Status& status() const { return status_; }

  void Next() {
    valid_ = false;
    if (rest_.empty()) return;
    ParsedKey parsed;
    if (!GetLengthPrefixed(&rest_, &key_) || !GetLengthPrefixed(&rest_, &value_) ||
        !ParseInternalKey(key_, &parsed)) {
      status_ = Status::Corruption("a data block holds a malformed entry");
      return;
    }
    valid_ = true;
  }

  /// Moves forward to the first entry at or after `target`. Blocks are small, and this is called on
  /// fresh cursors only, so a scan is as good as a search.
  void Seek(std::string_view target) {
    while (valid_ && InternalKeyLess()(key_, target)) Next();
  }

 private:
  std::shared_ptr<const std::string> block_;
  std::string_view rest_;
  std::string_view key_;
  std::string_view value_;
  bool valid_ = false;
  Status status_;
};

bool GetHandle(std::string_view* in, BlockHandle* handle) {
  return GetFixed(in, &handle->offset) && GetFixed(in, &handle->size);
}

}  // namespace

/// Walks a table: a place in the index and a place in the block that it names.
class Table::Cursor final : public Iterator {
 public:
  Cursor(std::shared_ptr<const Table> table, bool fill_cache)
      : table_(std::move(table)), fill_cache_(fill_cache) {}

  EMBER_ITERATOR_OVERRIDES;

 private:
  void EnterBlock(std::size_t number);
  void SkipFinishedBlocks();

  const std::shared_ptr<const Table> table_;
  const bool fill_cache_;
  std::size_t block_number_ = 0;
  BlockCursor block_;
  Status status_;
};

bool Table::Cursor::Valid() const { return status_.ok() && block_.Valid(); }

void Table::Cursor::SeekToFirst() {
  EnterBlock(0);
  SkipFinishedBlocks();
}

void Table::Cursor::Seek(std::string_view target) {
  EnterBlock(table_->FindBlock(target));
  block_.Seek(target);
  SkipFinishedBlocks();
}

void Table::Cursor::Next() {
  block_.Next();
  SkipFinishedBlocks();
}

std::string_view Table::Cursor::key() const { return block_.key(); }

std::string_view Table::Cursor::value() const { return block_.value(); }

Status Table::Cursor::status() const { return status_; }

/// Loads a block and stands on its first entry; past the last block, stands nowhere.
void Table::Cursor::EnterBlock(std::size_t number) {
  block_number_ = number;
  block_ = BlockCursor();
  status_ = Status::Ok();
  if (number >= table_->index_.size()) return;
  std::shared_ptr<const std::string> contents;
  status_ = table_->LoadDataBlock(table_->index_[number].handle, fill_cache_, &contents);
  if (status_.ok()) block_ = BlockCursor(std::move(contents));
}

/// Goes on to the next block that has an entry, and stops for good at a damaged one.
void Table::Cursor::SkipFinishedBlocks() {
  while (status_.ok() && !block_.Valid() && block_number_ < table_->index_.size()) {
    if (!block_.status().ok()) {
      status_ = block_.status();
      return;
    }
    EnterBlock(block_number_ + 1);
  }
}

// ---- Table -----------------------------------------------------------------------------------

Table::Table(std::unique_ptr<ReadableFile> file, std::uint64_t number, BlockCache* cache)
    : file_(std::move(file)), number_(number), cache_(cache) {}

Status Table::Open(const std::string& path, std::uint64_t number, BlockCache* cache,
                   std::shared_ptr<const Table>* table) {
  std::unique_ptr<ReadableFile> file;
  EMBER_RETURN_IF_ERROR(ReadableFile::Open(path, &file));
  std::shared_ptr<Table> opened(new Table(std::move(file), number, cache));
  EMBER_RETURN_IF_ERROR(opened->ReadFooterAndIndex());
  *table = std::move(opened);
  return Status::Ok();
}

Status Table::ReadFooterAndIndex() {
  const Status malformed = Status::Corruption(file_->path() + " is not a whole table");
  if (file_->size() < kFooterSize) return malformed;
  std::string footer;
  EMBER_RETURN_IF_ERROR(file_->Read(file_->size() - kFooterSize, kFooterSize, &footer));
  std::string_view rest = footer;
  BlockHandle filter;
  BlockHandle index;
  std::uint64_t magic = 0;
  if (!GetHandle(&rest, &filter) || !GetHandle(&rest, &index) || !GetFixed(&rest, &magic) ||
      magic != kTableMagic) {
    return malformed;
  }
  EMBER_RETURN_IF_ERROR(ReadBlock(filter, &filter_));

  std::string contents;
  EMBER_RETURN_IF_ERROR(ReadBlock(index, &contents));
  rest = contents;
  while (!rest.empty()) {
    std::string_view last_key;
    BlockHandle handle;
    if (!GetLengthPrefixed(&rest, &last_key) || last_key.size() < kTagSize ||
        !GetHandle(&rest, &handle)) {
      return malformed;
    }
    index_.push_back({std::string(last_key), handle});
  }
  return Status::Ok();
}

/// Reads a block from the file and compares its checksum: no block is believed without it.
Status Table::ReadBlock(const BlockHandle& handle, std::string* contents) const {
  if (handle.size > file_->size()) {
    return Status::Corruption(file_->path() + ": a block is longer than the file");
  }
  EMBER_RETURN_IF_ERROR(file_->Read(handle.offset, handle.size + kChecksumSize, contents));
  std::string_view stored = std::string_view(*contents).substr(handle.size);
  std::uint32_t checksum = 0;
  GetFixed(&stored, &checksum);
  contents->resize(handle.size);
  if (Crc32(*contents) != checksum) {
    return Status::Corruption(file_->path() + ": the block at " + std::to_string(handle.offset) +
                              " fails its checksum");
  }
  return Status::Ok();
}

/// Takes a data block from the cache, or reads it and, with `fill_cache`, leaves it there.
Status Table::LoadDataBlock(const BlockHandle& handle, bool fill_cache,
                            std::shared_ptr<const std::string>* block) const {
  const BlockId id{number_, handle.offset};
  if (cache_ != nullptr) {
    *block = cache_->Find(id);
    if (*block != nullptr) return Status::Ok();
  }
  auto contents = std::make_shared<std::string>();
  EMBER_RETURN_IF_ERROR(ReadBlock(handle, contents.get()));
  *block = contents;
  if (cache_ != nullptr && fill_cache) cache_->Insert(id, *block, contents->size());
  return Status::Ok();
}

std::size_t Table::FindBlock(std::string_view internal_key) const {
  const auto found = std::lower_bound(
      index_.begin(), index_.end(), internal_key,
      [](const IndexEntry& entry, std::string_view key) {
        return InternalKeyLess()(entry.last_key, key);
      });
  return static_cast<std::size_t>(found - index_.begin());
}

Status Table::Get(const ReadOptions& options, std::string_view key, SequenceNumber sequence,
                  std::string* value, Lookup* result) const {
  *result = Lookup::kAbsent;
  if (!BloomFilter::MayContain(filter_, key)) return Status::Ok();
  const std::string target = MakeInternalKey(key, sequence, ValueType::kValue);
  const std::size_t number = FindBlock(target);
  if (number == index_.size()) return Status::Ok();

  std::shared_ptr<const std::string> block;
  EMBER_RETURN_IF_ERROR(LoadDataBlock(index_[number].handle, options.fill_cache, &block));
  BlockCursor cursor(std::move(block));
  cursor.Seek(target);
  if (!cursor.Valid()) return cursor.status();
  ParsedKey found;
  ParseInternalKey(cursor.key(), &found);
  if (found.user_key != key) return Status::Ok();
  if (found.type == ValueType::kDeletion) {
    *result = Lookup::kDeleted;
    return Status::Ok();
  }
  *value = cursor.value();
  *result = Lookup::kFound;
  return Status::Ok();
}

std::unique_ptr<Iterator> Table::NewIterator(std::shared_ptr<const Table> table,
                                             const ReadOptions& options) {
  return std::make_unique<Cursor>(std::move(table), options.fill_cache);
}

}  // namespace ember
