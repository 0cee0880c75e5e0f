// SPDX-License-Identifier: Apache-2.0
/// \file
/// Opening a directory: the manifest, the replay of the logs, and the removal of what is left over.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "db_impl.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

struct NumberedFile {
  FileKind kind;
  std::uint64_t number;
};

/// Finds the logs and tables in a directory, in the order of their numbers. A listing that breaks off
/// is an error, for a log that is overlooked is data that is lost.
Status ListFiles(const std::string& directory, std::vector<NumberedFile>* files) {
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::uint64_t number = 0;
    const FileKind kind = ParseFileName(entry->path().filename().string(), &number);
    if (kind != FileKind::kOther) files->push_back({kind, number});
  }
  if (error) return Status::IoError(directory + ": " + error.message());
  std::sort(files->begin(), files->end(), [](const NumberedFile& left, const NumberedFile& right) {
    return left.number < right.number;
  });
  return Status::Ok();
}

/// Refuses settings with which the database would stand still.
Status CheckOptions(const Options& options) {
  if (options.write_buffer_size == 0 || options.block_size == 0 || options.target_table_size == 0) {
    return Status::InvalidArgument("sizes must be greater than zero");
  }
  if (options.level0_compaction_trigger == 0 ||
      options.level0_stop_trigger < options.level0_compaction_trigger) {
    return Status::InvalidArgument("level0_stop_trigger must not be below level0_compaction_trigger");
  }
  return Status::Ok();
}

// ---- The manifest ------------------------------------------------------------------------------

void AppendTables(std::string* out, const std::vector<TableMeta>& tables) {
  PutVarint(out, tables.size());
  for (const TableMeta& table : tables) {
    PutVarint(out, table.number);
    PutVarint(out, table.file_size);
    PutLengthPrefixed(out, table.smallest);
    PutLengthPrefixed(out, table.largest);
  }
}

bool GetTables(std::string_view* in, std::vector<TableMeta>* tables) {
  std::uint64_t count = 0;
  if (!GetVarint(in, &count)) return false;
  for (std::uint64_t i = 0; i < count; ++i) {
    TableMeta table;
    std::string_view smallest;
    std::string_view largest;
    if (!GetVarint(in, &table.number) || !GetVarint(in, &table.file_size) ||
        !GetLengthPrefixed(in, &smallest) || !GetLengthPrefixed(in, &largest) ||
        smallest.size() < kTagSize || largest.size() < kTagSize) {
      return false;
    }
    table.smallest = smallest;
    table.largest = largest;
    tables->push_back(std::move(table));
  }
  return true;
}

/// Replaces the manifest in one step: it is written under another name, synced, and renamed. So a
/// crash leaves the old one or the new one, never half of one. The directory is synced before the
/// rename as well, because a manifest must not name a table whose own name could still be lost.
Status SaveManifest(const std::string& directory, const Manifest& manifest) {
  std::string record;
  PutVarint(&record, manifest.next_file_number);
  PutVarint(&record, manifest.last_sequence);
  PutVarint(&record, manifest.first_live_log);
  AppendTables(&record, manifest.level0);
  AppendTables(&record, manifest.level1);

  const std::string path = ManifestFileName(directory);
  const std::string draft = path + ".draft";
  std::unique_ptr<WritableFile> file;
  EMBER_RETURN_IF_ERROR(WritableFile::Create(draft, &file));
  wal::Writer writer(std::move(file));
  EMBER_RETURN_IF_ERROR(writer.Append(record));
  EMBER_RETURN_IF_ERROR(writer.Sync());
  EMBER_RETURN_IF_ERROR(SyncDirectory(directory));
  EMBER_RETURN_IF_ERROR(RenameFile(draft, path));
  return SyncDirectory(directory);
}

Status LoadManifest(const std::string& directory, Manifest* manifest) {
  const std::string path = ManifestFileName(directory);
  std::string contents;
  EMBER_RETURN_IF_ERROR(ReadWholeFile(path, &contents));
  wal::Reader reader(std::move(contents));
  std::string_view record;
  if (reader.Read(&record) != wal::ReadResult::kRecord || reader.remaining() != 0 ||
      !GetVarint(&record, &manifest->next_file_number) ||
      !GetVarint(&record, &manifest->last_sequence) ||
      !GetVarint(&record, &manifest->first_live_log) || !GetTables(&record, &manifest->level0) ||
      !GetTables(&record, &manifest->level1)) {
    return Status::Corruption(path + " is damaged");
  }
  return Status::Ok();
}

std::vector<TableMeta> MetaOf(const std::vector<LiveTable>& tables) {
  std::vector<TableMeta> meta;
  for (const LiveTable& table : tables) meta.push_back(table.meta);
  return meta;
}

}  // namespace

Status DecodeBatch(std::string_view record, WriteBatch* batch, SequenceNumber* first) {
  const Status malformed = Status::Corruption("a log record holds a malformed batch");
  std::uint64_t count = 0;
  if (!GetFixed(&record, first) || !GetVarint(&record, &count)) return malformed;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (record.empty()) return malformed;
    const char type = record.front();
    record.remove_prefix(1);
    std::string_view key;
    std::string_view value;
    if (!GetLengthPrefixed(&record, &key) || !GetLengthPrefixed(&record, &value)) return malformed;
    if (type == static_cast<char>(ValueType::kValue)) {
      batch->Put(key, value);
    } else if (type == static_cast<char>(ValueType::kDeletion)) {
      batch->Delete(key);
    } else {
      return malformed;
    }
  }
  return record.empty() ? Status::Ok() : malformed;
}

// ---- Recovery ----------------------------------------------------------------------------------

/// Brings back the state of the last run: the tables that the manifest names, then the logs that
/// were not flushed, oldest first. What the logs hold goes to level-0 tables at once, so that the
/// database starts with an empty memtable and one fresh log.
Status DBImpl::Recover() {
  EMBER_RETURN_IF_ERROR(CheckOptions(options_));
  std::error_code error;
  const bool exists = fs::exists(ManifestFileName(directory_), error);
  if (!exists) {
    if (!options_.create_if_missing) return Status::InvalidArgument(directory_ + " holds no database");
    fs::create_directories(directory_, error);
  }
  EMBER_RETURN_IF_ERROR(DirectoryLock::Acquire(directory_, &directory_lock_));

  std::vector<NumberedFile> files;
  EMBER_RETURN_IF_ERROR(ListFiles(directory_, &files));
  Manifest manifest;
  if (exists) {
    EMBER_RETURN_IF_ERROR(LoadManifest(directory_, &manifest));
  } else if (!files.empty()) {
    return Status::Corruption(directory_ + " holds logs or tables but no manifest");
  }
  next_file_number_ = manifest.next_file_number;
  if (!files.empty()) next_file_number_ = std::max(next_file_number_, files.back().number + 1);
  auto version = std::make_shared<Version>();
  EMBER_RETURN_IF_ERROR(LoadTables(manifest, version.get()));

  std::vector<std::uint64_t> logs;
  for (const NumberedFile& file : files) {
    if (file.kind == FileKind::kLog && file.number >= manifest.first_live_log) {
      logs.push_back(file.number);
    }
  }
  SequenceNumber replayed = 0;
  for (const std::uint64_t number : logs) {
    EMBER_RETURN_IF_ERROR(ReplayLog(number, number == logs.back(), &replayed, version.get()));
  }
  last_sequence_ = std::max(manifest.last_sequence, replayed);
  EMBER_RETURN_IF_ERROR(FlushRecovered(version.get()));

  // The manifest first, then the new log: in the other order, a crash between them would leave a
  // torn log that is no longer the newest, and the next recovery would refuse it.
  Lock lock(mutex_);
  log_number_ = next_file_number_++;
  EMBER_RETURN_IF_ERROR(InstallVersion(lock, std::move(version), log_number_));
  EMBER_RETURN_IF_ERROR(StartLog(log_number_, &log_));
  background_ = std::thread([this] { BackgroundLoop(); });
  return Status::Ok();
}

Status DBImpl::LoadTables(const Manifest& manifest, Version* version) {
  const auto load = [this](const std::vector<TableMeta>& metas, std::vector<LiveTable>* tables) {
    for (const TableMeta& meta : metas) {
      LiveTable table{meta, nullptr};
      EMBER_RETURN_IF_ERROR(
          Table::Open(TableFileName(directory_, meta.number), meta.number, &cache_, &table.table));
      tables->push_back(std::move(table));
    }
    return Status::Ok();
  };
  EMBER_RETURN_IF_ERROR(load(manifest.level0, &version->level0));
  return load(manifest.level1, &version->level1);
}

/// Applies the records of one log to the memtable, flushing it whenever it is full. `replayed` is the
/// number of the last change applied so far. It may lag behind the manifest, which notes how far
/// the whole database had come, unflushed logs included.
///
/// What ends the log decides what happens (`wal::Reader::Read` in log_reader.cc tells the cases
/// apart):
///  - a clean end: nothing is missing;
///  - a torn record in the newest log: the crash came in the middle of a write. The records before
///    it are kept, the torn one is dropped and its bytes are counted in `Statistics::torn_bytes`. The
///    file is not repaired, because recovery replaces it with a fresh log;
///  - a torn record in an older log: corruption, for `SwitchMemTable` syncs a log before it starts
///    the next one, so no crash can tear it;
///  - a bad checksum in the middle: corruption. Opening fails rather than skip a write that later
///    ones may build on.
Status DBImpl::ReplayLog(std::uint64_t number, bool is_newest, SequenceNumber* replayed,
                         Version* version) {
  const std::string path = LogFileName(directory_, number);
  std::string contents;
  EMBER_RETURN_IF_ERROR(ReadWholeFile(path, &contents));
  wal::Reader reader(std::move(contents));
  std::string_view record;
  wal::ReadResult result = reader.Read(&record);
  for (; result == wal::ReadResult::kRecord; result = reader.Read(&record)) {
    WriteBatch batch;
    SequenceNumber sequence = 0;
    EMBER_RETURN_IF_ERROR(DecodeBatch(record, &batch, &sequence));
    if (sequence <= *replayed) {
      return Status::Corruption(path + ": a record repeats earlier changes");
    }
    for (const WriteBatch::Operation& operation : batch.operations()) {
      memtable_->Add(sequence, operation.type, operation.key, operation.value);
      *replayed = sequence++;
    }
    ++statistics_.recovered_records;
    if (memtable_->ApproximateBytes() >= options_.write_buffer_size) {
      EMBER_RETURN_IF_ERROR(FlushRecovered(version));
    }
  }

  if (result == wal::ReadResult::kEnd) return Status::Ok();
  if (result == wal::ReadResult::kTorn && is_newest) {
    statistics_.torn_bytes += reader.remaining();
    return Status::Ok();
  }
  return Status::Corruption(path + ": damaged record at byte " + std::to_string(reader.offset()));
}

/// Writes what has been replayed to a level-0 table and starts over with an empty memtable.
Status DBImpl::FlushRecovered(Version* version) {
  if (memtable_->empty()) return Status::Ok();
  LiveTable table;
  EMBER_RETURN_IF_ERROR(FlushJob(Context(), next_file_number_++, memtable_).Run(&table));
  version->level0.insert(version->level0.begin(), std::move(table));
  memtable_ = std::make_shared<MemTable>();
  return Status::Ok();
}

// ---- Keeping the directory -----------------------------------------------------------------------

/// Makes `version` the present one, on disk first and then in memory. Releases the lock meanwhile;
/// only one thread changes tables, so nothing that matters moves.
Status DBImpl::InstallVersion(Lock& lock, std::shared_ptr<const Version> version,
                              std::uint64_t first_live_log) {
  const Manifest manifest{next_file_number_, last_sequence_, first_live_log, MetaOf(version->level0),
                          MetaOf(version->level1)};
  lock.unlock();
  const Status status = SaveManifest(directory_, manifest);
  if (status.ok()) RemoveObsoleteFiles(*version, first_live_log);
  lock.lock();
  EMBER_RETURN_IF_ERROR(status);
  version_ = std::move(version);
  first_live_log_ = first_live_log;
  return Status::Ok();
}

/// Creates an empty log and makes its name durable, so that it can promise to keep what it is given.
Status DBImpl::StartLog(std::uint64_t number, std::unique_ptr<wal::Writer>* log) const {
  std::unique_ptr<WritableFile> file;
  EMBER_RETURN_IF_ERROR(WritableFile::Create(LogFileName(directory_, number), &file));
  EMBER_RETURN_IF_ERROR(SyncDirectory(directory_));
  *log = std::make_unique<wal::Writer>(std::move(file));
  return Status::Ok();
}

/// Removes the logs and tables that the manifest no longer needs. Best effort: what cannot be
/// removed now is found again after the next change. Readers of a removed table keep it open.
void DBImpl::RemoveObsoleteFiles(const Version& version, std::uint64_t first_live_log) const {
  std::set<std::uint64_t> live_tables;
  for (const auto* level : {&version.level0, &version.level1}) {
    for (const LiveTable& table : *level) live_tables.insert(table.meta.number);
  }
  std::vector<NumberedFile> files;
  if (!ListFiles(directory_, &files).ok()) return;
  for (const NumberedFile& file : files) {
    if (file.kind == FileKind::kLog && file.number < first_live_log) {
      RemoveFile(LogFileName(directory_, file.number));
    } else if (file.kind == FileKind::kTable && live_tables.count(file.number) == 0) {
      RemoveFile(TableFileName(directory_, file.number));
    }
  }
}

}  // namespace ember
