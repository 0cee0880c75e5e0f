// SPDX-License-Identifier: Apache-2.0
/// \file
/// DBImpl: the one implementation of DB, and the values that its parts hand to each other.
///
/// The class is defined over four files, by what they are about: db_impl.cc serves reads and writes
/// and decides when background work is due, flush.cc writes memtables to tables, compaction.cc
/// merges tables, recovery.cc opens a directory and keeps the manifest.

#ifndef EMBER_SRC_DB_IMPL_H_
#define EMBER_SRC_DB_IMPL_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cache.h"
#include "coding.h"
#include "ember/db.h"
#include "log.h"
#include "memtable.h"
#include "table.h"

namespace ember {

// ---- Values ----------------------------------------------------------------------------------

/// A table that is part of the database.
struct LiveTable {
  TableMeta meta;
  std::shared_ptr<const Table> table;
};

/// The tables of a database at one moment; never changed once readers can see it.
///
/// Level-0 tables are flushed memtables: their key ranges overlap, and the newest comes first.
/// Level 1 is one sorted run, cut into tables in the order of their keys.
struct Version {
  std::vector<LiveTable> level0;
  std::vector<LiveTable> level1;
};

/// What must be known to open the database again. Written in whole each time the tables change.
struct Manifest {
  std::uint64_t next_file_number = 1;
  SequenceNumber last_sequence = 0;
  std::uint64_t first_live_log = 0;  // logs before it are in tables already
  std::vector<TableMeta> level0;     // newest first
  std::vector<TableMeta> level1;
};

/// What the jobs that write tables need of a database. Refers to it, so it must not live longer.
struct JobContext {
  const std::string& directory;
  const Options& options;
  BlockCache* cache;
};

// ---- Jobs, which touch no state of the database ------------------------------------------------

/// Writes the entries of one memtable to a new level-0 table. Defined in flush.cc.
class FlushJob {
 public:
  FlushJob(const JobContext& context, std::uint64_t file_number,
           std::shared_ptr<const MemTable> memtable);

  /// Builds the table, syncs it and opens it. On an error no file is left behind.
  Status Run(LiveTable* output);

 private:
  const JobContext context_;
  const std::uint64_t file_number_;
  const std::shared_ptr<const MemTable> memtable_;
};

/// Merges all tables of a version into a new level 1. Defined in compaction.cc.
class CompactionJob {
 public:
  /// Entries that no reader at `oldest_snapshot` or later can see are dropped.
  CompactionJob(const JobContext& context, std::shared_ptr<const Version> input,
                SequenceNumber oldest_snapshot);

  /// Builds the new tables. Table numbers are taken from `next_number`, which may be called at any
  /// time while the job runs.
  Status Run(const std::function<std::uint64_t()>& next_number, std::vector<LiveTable>* output);

 private:
  class ShadowFilter;

  const JobContext context_;
  const std::shared_ptr<const Version> input_;
  const SequenceNumber oldest_snapshot_;
};

/// Syncs and opens the table that `builder` has been filled with.
Status FinishTable(const JobContext& context, std::uint64_t number, TableBuilder* builder,
                   LiveTable* output);

// ---- Iterators, defined in iterators.cc --------------------------------------------------------

/// Walks the entries of all children in the order of their internal keys.
std::unique_ptr<Iterator> NewMergingIterator(std::vector<std::unique_ptr<Iterator>> children);

/// Turns internal entries into what a reader at `sequence` sees: one entry for each live key.
std::unique_ptr<Iterator> NewSnapshotIterator(std::unique_ptr<Iterator> entries,
                                              SequenceNumber sequence);

// ---- Log records -------------------------------------------------------------------------------

/// The log record of `batch`, whose first change has number `first`. Defined in db_impl.cc.
std::string EncodeBatch(const WriteBatch& batch, SequenceNumber first);

/// The inverse of EncodeBatch. Defined in recovery.cc.
Status DecodeBatch(std::string_view record, WriteBatch* batch, SequenceNumber* first);

// ---- DBImpl ------------------------------------------------------------------------------------

/// Locks: `writer_mutex_` is held by the one write in progress, for all of its duration; `mutex_`
/// guards the state and, once the database is open, is not held during file operations. Where both
/// are taken, the writer's comes first. What is marked as written under both may be read under either.
class DBImpl final : public DB {
 public:
  DBImpl(const Options& options, std::string directory);
  ~DBImpl() override;

  using DB::Delete;
  using DB::Get;
  using DB::NewIterator;
  using DB::Put;
  using DB::Write;

  Status Put(const WriteOptions& options, std::string_view key, std::string_view value) override;
  Status Delete(const WriteOptions& options, std::string_view key) override;
  Status Write(const WriteOptions& options, const WriteBatch& batch) override;
  Status Get(const ReadOptions& options, std::string_view key, std::string* value) override;
  std::unique_ptr<Iterator> NewIterator(const ReadOptions& options) override;
  std::shared_ptr<const Snapshot> GetSnapshot() override;
  Status Flush() override;
  Status CompactAll() override;
  Statistics GetStatistics() const override;

  /// Loads the directory and starts the background thread. Called once, before anything else.
  Status Recover();

 private:
  struct View;
  struct SnapshotList;
  using Lock = std::unique_lock<std::mutex>;

  JobContext Context() { return JobContext{directory_, options_, &cache_}; }
  View TakeView(const ReadOptions& options) const EMBER_EXCLUDES(mutex_);

  // Writing and deciding: db_impl.cc.
  Status MakeRoomForWrite(Lock& lock) EMBER_REQUIRES(mutex_);
  Status SwitchMemTable(Lock& lock) EMBER_REQUIRES(mutex_);
  Status FlushLocked(Lock& lock) EMBER_REQUIRES(mutex_);
  bool HasBackgroundWork() const EMBER_REQUIRES(mutex_);
  void BackgroundLoop();

  // Changing the tables: flush.cc, compaction.cc.
  Status FlushImmutable(Lock& lock) EMBER_REQUIRES(mutex_);
  Status CompactTables(Lock& lock) EMBER_REQUIRES(mutex_);

  // The directory: recovery.cc.
  Status LoadTables(const Manifest& manifest, Version* version);
  Status ReplayLog(std::uint64_t number, bool is_newest, SequenceNumber* replayed,
                   Version* version);
  Status FlushRecovered(Version* version);
  Status InstallVersion(Lock& lock, std::shared_ptr<const Version> version,
                        std::uint64_t first_live_log) EMBER_REQUIRES(mutex_);
  Status StartLog(std::uint64_t number, std::unique_ptr<wal::Writer>* log) const;
  void RemoveObsoleteFiles(const Version& version, std::uint64_t first_live_log) const;

  const Options options_;
  const std::string directory_;
  BlockCache cache_;
  std::unique_ptr<DirectoryLock> directory_lock_;

  std::mutex writer_mutex_;
  std::unique_ptr<wal::Writer> log_ EMBER_GUARDED_BY(writer_mutex_);

  mutable std::mutex mutex_;
  std::condition_variable work_available_;  // for the background thread
  std::condition_variable work_done_;       // for writers that wait for room

  std::shared_ptr<MemTable> memtable_;  // written under both mutexes
  std::uint64_t log_number_ = 0;        // written under both; the log of memtable_
  std::shared_ptr<const MemTable> immutable_ EMBER_GUARDED_BY(mutex_);  // full, being flushed
  std::shared_ptr<const Version> version_ EMBER_GUARDED_BY(mutex_);
  std::uint64_t first_live_log_ EMBER_GUARDED_BY(mutex_) = 0;
  std::uint64_t next_file_number_ EMBER_GUARDED_BY(mutex_) = 1;
  SequenceNumber last_sequence_ EMBER_GUARDED_BY(mutex_) = 0;  // the newest that readers may see
  Statistics statistics_ EMBER_GUARDED_BY(mutex_);
  Status background_error_ EMBER_GUARDED_BY(mutex_);  // the first failure; ends all writing
  bool compaction_requested_ EMBER_GUARDED_BY(mutex_) = false;
  bool closing_ EMBER_GUARDED_BY(mutex_) = false;
  const std::shared_ptr<SnapshotList> snapshots_;
  std::thread background_;
};

/// The snapshots that are held. Shared with them, so that one may be released after the database.
struct DBImpl::SnapshotList {
  std::mutex mutex;
  std::multiset<SequenceNumber> held EMBER_GUARDED_BY(mutex);

  /// The oldest snapshot held, or `otherwise` when there is none.
  SequenceNumber Oldest(SequenceNumber otherwise) EMBER_EXCLUDES(mutex) {
    const std::lock_guard<std::mutex> lock(mutex);
    return held.empty() ? otherwise : *held.begin();
  }
};

}  // namespace ember

#endif  // EMBER_SRC_DB_IMPL_H_
