// SPDX-License-Identifier: Apache-2.0
/// \file
/// Flushing: an immutable memtable becomes a level-0 table.
///
/// Nothing here decides when to flush. `DBImpl::MakeRoomForWrite` in db_impl.cc does so when a
/// memtable is full, `DBImpl::Flush` when the user asks, and recovery for what it replays.

#include <cstdint>
#include <memory>
#include <utility>

#include "db_impl.h"

namespace ember {

FlushJob::FlushJob(const JobContext& context, std::uint64_t file_number,
                   std::shared_ptr<const MemTable> memtable)
    : context_(context), file_number_(file_number), memtable_(std::move(memtable)) {}

/// Copies every entry, deletions and hidden values included. Hidden values could be left out, but a
/// memtable holds few of them, and a snapshot may still see them; compaction deals with both.
Status FlushJob::Run(LiveTable* output) {
  const std::string path = TableFileName(context_.directory, file_number_);
  std::unique_ptr<WritableFile> file;
  EMBER_RETURN_IF_ERROR(WritableFile::Create(path, &file));
  TableBuilder builder(context_.options, std::move(file));

  Status status;
  const std::unique_ptr<Iterator> entries = MemTable::NewIterator(memtable_);
  for (entries->SeekToFirst(); entries->Valid() && status.ok(); entries->Next()) {
    status = builder.Add(entries->key(), entries->value());
  }
  if (status.ok()) status = FinishTable(context_, file_number_, &builder, output);
  if (!status.ok()) RemoveFile(path);
  return status;
}

/// Opening the table right away reads back its footer, index and filter with their checksums, while
/// the log that could replace them is still there.
Status FinishTable(const JobContext& context, std::uint64_t number, TableBuilder* builder,
                   LiveTable* output) {
  EMBER_RETURN_IF_ERROR(builder->Finish());
  output->meta = TableMeta{number, builder->file_size(), builder->smallest(), builder->largest()};
  return Table::Open(TableFileName(context.directory, number), number, context.cache,
                     &output->table);
}

/// Flushes the immutable memtable in the background thread and puts the new table in front of
/// level 0. Only when the manifest names the table are the memtable and its log given up, so a crash
/// at any point finds the entries in the one or the other.
Status DBImpl::FlushImmutable(Lock& lock) {
  FlushJob job(Context(), next_file_number_++, immutable_);
  LiveTable table;
  lock.unlock();
  const Status status = job.Run(&table);
  lock.lock();
  EMBER_RETURN_IF_ERROR(status);

  auto version = std::make_shared<Version>(*version_);
  version->level0.insert(version->level0.begin(), std::move(table));
  // No switch can have happened meanwhile, because writers wait for this memtable: the log of the
  // current memtable is the first that is still needed.
  EMBER_RETURN_IF_ERROR(InstallVersion(lock, std::move(version), log_number_));
  immutable_.reset();
  ++statistics_.flushes;
  return Status::Ok();
}

}  // namespace ember
