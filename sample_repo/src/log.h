// SPDX-License-Identifier: Apache-2.0
/// \file
/// The write-ahead log: a file of records, each with checksums over its header and its payload.
///
/// Layout of a record, all integers fixed and lowest byte first:
///
///     payload checksum  4 bytes   CRC-32 of the payload
///     payload length    4 bytes
///     header checksum   4 bytes   CRC-32 of the eight bytes before
///     payload           length bytes
///
/// The header has a checksum of its own so that the length can be trusted. Without it, a damaged
/// length in the middle of the file would look like a record that the end of the file cut off, and
/// everything after it would be dropped in silence. See docs/adr/0002-log-before-memtable.md.
///
/// The log does not know what its payloads mean. The manifest is a log of one record.

#ifndef EMBER_SRC_LOG_H_
#define EMBER_SRC_LOG_H_

#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "coding.h"
#include "file.h"

namespace ember::wal {

inline constexpr std::size_t kHeaderSize = 12;

/// Appends records to a log file.
class Writer {
 public:
  explicit Writer(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  EMBER_NON_COPYABLE(Writer);

  /// Appends one record with a single write to the file, so that a crash of the process alone never
  /// tears it. After an error the end of the file is unknown and nothing more may be appended.
  Status Append(std::string_view payload) {
    if (payload.size() > std::numeric_limits<std::uint32_t>::max()) {
      return Status::InvalidArgument("a log record holds less than 4 GiB");
    }
    std::string record;
    record.reserve(kHeaderSize + payload.size());
    PutFixed(&record, Crc32(payload));
    PutFixed(&record, static_cast<std::uint32_t>(payload.size()));
    PutFixed(&record, Crc32(record));
    record.append(payload);
    return file_->Append(record);
  }

  /// Returns when all records are on the device.
  Status Sync() { return file_->Sync(); }

 private:
  std::unique_ptr<WritableFile> file_;
};

/// What `Reader::Read` found.
enum class ReadResult {
  kRecord,   ///< A whole record with good checksums.
  kEnd,      ///< The end of the log, cleanly after a record.
  kTorn,     ///< A last record that was not written to its end: what a crash leaves behind.
  kCorrupt,  ///< Damage that no crash explains.
};

/// Reads the records of a log from first to last.
class Reader {
 public:
  explicit Reader(std::string contents) : contents_(std::move(contents)) {}
  EMBER_NON_COPYABLE(Reader);

  /// Reads the next record into `payload`, which stays good as long as the reader does. After any
  /// result but `kRecord` the reader stands still.
  ReadResult Read(std::string_view* payload);

  /// Where the next record begins: the length of the part of the log that is good.
  std::size_t offset() const { return offset_; }

  /// Bytes after `offset`.
  std::size_t remaining() const { return contents_.size() - offset_; }

 private:
  const std::string contents_;
  std::size_t offset_ = 0;
};

}  // namespace ember::wal

#endif  // EMBER_SRC_LOG_H_
