// SPDX-License-Identifier: Apache-2.0
/// \file
/// Reads, writes, and two decisions: when a memtable is full, and which background work is due.

#include "db_impl.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace ember {
namespace {

/// Whether `key` lies between the ends of a table. Spares the search of its filter and index.
bool MayHold(const TableMeta& meta, std::string_view key) {
  return UserKey(meta.smallest) <= key && key <= UserKey(meta.largest);
}

/// Looks for `key` in the tables, newest first, up to the first that knows about it.
Status SearchTables(const Version& version, const ReadOptions& options, std::string_view key,
                    SequenceNumber sequence, std::string* value, Lookup* result) {
  *result = Lookup::kAbsent;
  for (const LiveTable& table : version.level0) {
    if (!MayHold(table.meta, key)) continue;
    EMBER_RETURN_IF_ERROR(table.table->Get(options, key, sequence, value, result));
    if (*result != Lookup::kAbsent) return Status::Ok();
  }
  // The tables of level 1 do not overlap: only the first that ends at or after the entry can hold it.
  const std::string target = MakeInternalKey(key, sequence, ValueType::kValue);
  const auto candidate = std::lower_bound(
      version.level1.begin(), version.level1.end(), target,
      [](const LiveTable& table, const std::string& wanted) {
        return InternalKeyLess()(table.meta.largest, wanted);
      });
  if (candidate == version.level1.end() || !MayHold(candidate->meta, key)) return Status::Ok();
  return candidate->table->Get(options, key, sequence, value, result);
}

}  // namespace

// ---- Opening and closing -----------------------------------------------------------------------

Status DB::Open(const Options& options, const std::string& directory,
                std::unique_ptr<DB>* database) {
  auto opened = std::make_unique<DBImpl>(options, directory);
  EMBER_RETURN_IF_ERROR(opened->Recover());
  *database = std::move(opened);
  return Status::Ok();
}

DBImpl::DBImpl(const Options& options, std::string directory)
    : options_(options),
      directory_(std::move(directory)),
      cache_(options.block_cache_capacity),
      memtable_(std::make_shared<MemTable>()),
      snapshots_(std::make_shared<SnapshotList>()) {}

DBImpl::~DBImpl() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  work_available_.notify_all();
  if (background_.joinable()) background_.join();
}

// ---- Writing -----------------------------------------------------------------------------------

Status DBImpl::Put(const WriteOptions& options, std::string_view key, std::string_view value) {
  WriteBatch batch;
  batch.Put(key, value);
  return Write(options, batch);
}

Status DBImpl::Delete(const WriteOptions& options, std::string_view key) {
  WriteBatch batch;
  batch.Delete(key);
  return Write(options, batch);
}

std::string EncodeBatch(const WriteBatch& batch, SequenceNumber first) {
  std::string record;
  PutFixed(&record, first);
  PutVarint(&record, batch.operations().size());
  for (const WriteBatch::Operation& operation : batch.operations()) {
    record.push_back(static_cast<char>(operation.type));
    PutLengthPrefixed(&record, operation.key);
    PutLengthPrefixed(&record, operation.value);
  }
  return record;
}

/// The order is what makes a write durable and atomic: first room, then the log, then the memtable,
/// and last the sequence number that shows the changes to readers. The whole batch is one log record,
/// so recovery finds all of it or nothing. docs/adr/0002-log-before-memtable.md tells why the log
/// comes first.
Status DBImpl::Write(const WriteOptions& options, const WriteBatch& batch) {
  if (batch.operations().empty()) return Status::Ok();
  const std::lock_guard<std::mutex> writer(writer_mutex_);
  SequenceNumber sequence = 0;
  {
    Lock lock(mutex_);
    EMBER_RETURN_IF_ERROR(MakeRoomForWrite(lock));
    sequence = last_sequence_;
  }

  Status status = log_->Append(EncodeBatch(batch, sequence + 1));
  if (status.ok() && options.sync) status = log_->Sync();
  if (!status.ok()) {
    // Half a record may be in the log now. A record behind it would be lost in recovery, so none
    // may follow. Too large a batch was refused before anything was written.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (background_error_.ok() && !status.IsInvalidArgument()) background_error_ = status;
    return status;
  }

  for (const WriteBatch::Operation& operation : batch.operations()) {
    memtable_->Add(++sequence, operation.type, operation.key, operation.value);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  last_sequence_ = sequence;
  return Status::Ok();
}

/// Decides whether the memtable is full, and makes room for one more write. This is the only place
/// where a memtable is switched because of its size: at `Options::write_buffer_size`, 4 MiB unless
/// set otherwise. The switch wakes the background thread, which flushes the full memtable to a
/// level-0 table (`FlushImmutable` in flush.cc).
///
/// A write waits here in two cases: when the memtable before is still being flushed, so that there
/// are never more than two in memory, and when level 0 has `Options::level0_stop_trigger` tables, so
/// that reads do not become slower without bound.
Status DBImpl::MakeRoomForWrite(Lock& lock) {
  bool stalled = false;
  while (true) {
    if (!background_error_.ok()) return background_error_;
    if (memtable_->ApproximateBytes() < options_.write_buffer_size) return Status::Ok();
    const bool must_wait =
        immutable_ != nullptr || version_->level0.size() >= options_.level0_stop_trigger;
    if (!must_wait) {
      EMBER_RETURN_IF_ERROR(SwitchMemTable(lock));
      continue;
    }
    if (!stalled) ++statistics_.stalls;
    stalled = true;
    work_done_.wait(lock);
  }
}

/// Makes the memtable immutable, and starts a fresh one with a fresh log. The old log is synced
/// first: from then on only the newest log can have a torn end, and recovery may take a torn end
/// anywhere else for the damage that it is.
Status DBImpl::SwitchMemTable(Lock& lock) {
  const std::uint64_t number = next_file_number_++;
  std::unique_ptr<wal::Writer> log;
  lock.unlock();
  Status status = log_->Sync();
  if (status.ok()) status = StartLog(number, &log);
  lock.lock();
  if (!status.ok()) {
    background_error_ = status;
    return status;
  }
  log_ = std::move(log);
  log_number_ = number;
  immutable_ = std::move(memtable_);
  memtable_ = std::make_shared<MemTable>();
  work_available_.notify_one();
  return Status::Ok();
}

// ---- Background work -----------------------------------------------------------------------------

/// Flushes come before compactions, because writers may be waiting for them.
void DBImpl::BackgroundLoop() {
  Lock lock(mutex_);
  while (true) {
    work_available_.wait(lock, [this] { return closing_ || HasBackgroundWork(); });
    if (closing_) return;
    const Status status = immutable_ != nullptr ? FlushImmutable(lock) : CompactTables(lock);
    if (background_error_.ok()) background_error_ = status;
    work_done_.notify_all();
  }
}

/// A compaction is due when level 0 has `Options::level0_compaction_trigger` tables, or when
/// `CompactAll` asks for one. After an error nothing is due any more.
bool DBImpl::HasBackgroundWork() const {
  if (!background_error_.ok()) return false;
  return immutable_ != nullptr || compaction_requested_ ||
         version_->level0.size() >= options_.level0_compaction_trigger;
}

Status DBImpl::Flush() {
  const std::lock_guard<std::mutex> writer(writer_mutex_);
  Lock lock(mutex_);
  return FlushLocked(lock);
}

/// Switches the memtable regardless of its size and waits for the background thread to flush it.
/// The caller holds `writer_mutex_` too.
Status DBImpl::FlushLocked(Lock& lock) {
  const auto is_flushed = [this] { return immutable_ == nullptr || !background_error_.ok(); };
  work_done_.wait(lock, is_flushed);
  if (background_error_.ok() && !memtable_->empty()) {
    EMBER_RETURN_IF_ERROR(SwitchMemTable(lock));
    work_done_.wait(lock, is_flushed);
  }
  return background_error_;
}

Status DBImpl::CompactAll() {
  const std::lock_guard<std::mutex> writer(writer_mutex_);
  Lock lock(mutex_);
  EMBER_RETURN_IF_ERROR(FlushLocked(lock));
  compaction_requested_ = true;
  work_available_.notify_one();
  work_done_.wait(lock, [this] { return !compaction_requested_ || !background_error_.ok(); });
  return background_error_;
}

// ---- Reading -------------------------------------------------------------------------------------

/// Everything that one read looks at, held together so that it stays as it was.
struct DBImpl::View {
  std::shared_ptr<const MemTable> memtable;
  std::shared_ptr<const MemTable> immutable;
  std::shared_ptr<const Version> version;
  SequenceNumber sequence = 0;
};

DBImpl::View DBImpl::TakeView(const ReadOptions& options) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const SequenceNumber sequence =
      options.snapshot != nullptr ? options.snapshot->sequence() : last_sequence_;
  return View{memtable_, immutable_, version_, sequence};
}

/// Searches from the newest data to the oldest and stops at the first entry of the key: the memtable,
/// the immutable memtable, the level-0 tables, level 1.
Status DBImpl::Get(const ReadOptions& options, std::string_view key, std::string* value) {
  const View view = TakeView(options);
  Lookup result = view.memtable->Get(key, view.sequence, value);
  if (result == Lookup::kAbsent && view.immutable != nullptr) {
    result = view.immutable->Get(key, view.sequence, value);
  }
  if (result == Lookup::kAbsent) {
    EMBER_RETURN_IF_ERROR(
        SearchTables(*view.version, options, key, view.sequence, value, &result));
  }
  if (result != Lookup::kFound) return Status::NotFound(std::string(key));
  return Status::Ok();
}

std::unique_ptr<Iterator> DBImpl::NewIterator(const ReadOptions& options) {
  const View view = TakeView(options);
  std::vector<std::unique_ptr<Iterator>> children;
  children.push_back(MemTable::NewIterator(view.memtable));
  if (view.immutable != nullptr) children.push_back(MemTable::NewIterator(view.immutable));
  for (const auto* level : {&view.version->level0, &view.version->level1}) {
    for (const LiveTable& table : *level) {
      children.push_back(Table::NewIterator(table.table, options));
    }
  }
  return NewSnapshotIterator(NewMergingIterator(std::move(children)), view.sequence);
}

std::shared_ptr<const Snapshot> DBImpl::GetSnapshot() {
  // Registered before the mutex is released: a compaction that starts later must see it.
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::lock_guard<std::mutex> list_lock(snapshots_->mutex);
  snapshots_->held.insert(last_sequence_);
  const auto release = [list = snapshots_](const Snapshot* snapshot) {
    {
      const std::lock_guard<std::mutex> release_lock(list->mutex);
      list->held.erase(list->held.find(snapshot->sequence()));
    }
    delete snapshot;
  };
  return std::shared_ptr<const Snapshot>(new Snapshot(last_sequence_), release);
}

Statistics DBImpl::GetStatistics() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

}  // namespace ember
