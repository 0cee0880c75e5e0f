// SPDX-License-Identifier: Apache-2.0
/// \file
/// Compaction: all tables of both levels are merged into a new level 1.
///
/// Rewriting all of level 1 each time is simple, and cheap enough for databases of a few hundred
/// megabytes. Because the output is the oldest level and the input leaves nothing out, a deletion
/// that every reader sees can be dropped together with what it deletes.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "db_impl.h"

namespace ember {
namespace {

/// A merged iterator over all tables. Its blocks do not go to the cache: a compaction reads each
/// once, and would wash out what readers use.
std::unique_ptr<Iterator> NewInputIterator(const Version& version) {
  ReadOptions options;
  options.fill_cache = false;
  std::vector<std::unique_ptr<Iterator>> children;
  for (const auto* level : {&version.level0, &version.level1}) {
    for (const LiveTable& table : *level) {
      children.push_back(Table::NewIterator(table.table, options));
    }
  }
  return NewMergingIterator(std::move(children));
}

}  // namespace

/// Tells which entries nobody can see any more. Must be shown all entries in order: those of one key
/// come newest first.
class CompactionJob::ShadowFilter {
 public:
  explicit ShadowFilter(SequenceNumber oldest_snapshot) : oldest_snapshot_(oldest_snapshot) {}

  /// An entry is dropped when a newer one of its key is visible to the oldest snapshot, for then it
  /// is hidden from every reader. So is a deletion that the oldest snapshot sees itself: what it
  /// hides is dropped with it, and below level 1 there is nothing.
  bool ShouldDrop(const ParsedKey& entry) {
    if (!has_key_ || entry.user_key != key_) {
      key_ = entry.user_key;
      has_key_ = true;
      hidden_ = false;
    }
    const bool is_visible_to_all = entry.sequence <= oldest_snapshot_;
    const bool drop = hidden_ || (is_visible_to_all && entry.type == ValueType::kDeletion);
    hidden_ = hidden_ || is_visible_to_all;
    return drop;
  }

 private:
  const SequenceNumber oldest_snapshot_;
  std::string key_;
  bool has_key_ = false;
  bool hidden_ = false;  // a newer entry of key_ is visible to the oldest snapshot
};

CompactionJob::CompactionJob(const JobContext& context, std::shared_ptr<const Version> input,
                             SequenceNumber oldest_snapshot)
    : context_(context), input_(std::move(input)), oldest_snapshot_(oldest_snapshot) {}

Status CompactionJob::Run(const std::function<std::uint64_t()>& next_number,
                          std::vector<LiveTable>* output) {
  std::unique_ptr<TableBuilder> builder;
  std::uint64_t number = 0;
  const auto finish_table = [&]() -> Status {
    LiveTable table;
    EMBER_RETURN_IF_ERROR(FinishTable(context_, number, builder.get(), &table));
    output->push_back(std::move(table));
    builder.reset();
    return Status::Ok();
  };

  ShadowFilter filter(oldest_snapshot_);
  const std::unique_ptr<Iterator> entries = NewInputIterator(*input_);
  for (entries->SeekToFirst(); entries->Valid(); entries->Next()) {
    ParsedKey parsed;
    if (!ParseInternalKey(entries->key(), &parsed)) {
      return Status::Corruption("a table holds a malformed key");
    }
    if (filter.ShouldDrop(parsed)) continue;
    if (builder == nullptr) {
      number = next_number();
      std::unique_ptr<WritableFile> file;
      EMBER_RETURN_IF_ERROR(
          WritableFile::Create(TableFileName(context_.directory, number), &file));
      builder = std::make_unique<TableBuilder>(context_.options, std::move(file));
    }
    EMBER_RETURN_IF_ERROR(builder->Add(entries->key(), entries->value()));
    if (builder->file_size() >= context_.options.target_table_size) {
      EMBER_RETURN_IF_ERROR(finish_table());
    }
  }
  EMBER_RETURN_IF_ERROR(entries->status());
  return builder == nullptr ? Status::Ok() : finish_table();
}

/// Runs in the background thread, so no flush changes level 0 meanwhile and the result can replace
/// the whole version. Files that a failed compaction leaves behind are removed when the database is
/// opened again.
Status DBImpl::CompactTables(Lock& lock) {
  const SequenceNumber oldest = snapshots_->Oldest(last_sequence_);
  CompactionJob job(Context(), version_, oldest);
  auto version = std::make_shared<Version>();
  lock.unlock();
  const auto next_number = [this] {
    const std::lock_guard<std::mutex> number_lock(mutex_);
    return next_file_number_++;
  };
  const Status status = job.Run(next_number, &version->level1);
  lock.lock();
  EMBER_RETURN_IF_ERROR(status);

  EMBER_RETURN_IF_ERROR(InstallVersion(lock, std::move(version), first_live_log_));
  compaction_requested_ = false;
  ++statistics_.compactions;
  return Status::Ok();
}

}  // namespace ember
