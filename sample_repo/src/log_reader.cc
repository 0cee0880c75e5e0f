// SPDX-License-Identifier: Apache-2.0
/// \file
/// Reading the write-ahead log, and telling a torn end from damage.

#include <cstdint>
#include <string_view>

#include "coding.h"
#include "log.h"

namespace ember::wal {
namespace {

/// Whether a file system has extended the file but lost the data: the rest is zeros.
bool IsZeroFilled(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

/// A torn record is the last of its file, and the end of the file cut it off. It was never
/// acknowledged to a writer that asked for sync, so dropping it loses no promise. There are four
/// ways to see one:
///
///  1. fewer bytes are left than a header has,
///  2. the header is good, and its length reaches past the end of the file,
///  3. the record reaches exactly to the end, but its payload fails the checksum: the size of the
///     file reached the device before its data,
///  4. nothing but zeros is left.
///
/// Everything else that fails a checksum is corruption. What the database does about either is
/// decided in recovery.cc, by `DBImpl::ReplayLog`.
ReadResult Reader::Read(std::string_view* payload) {
  std::string_view rest = std::string_view(contents_).substr(offset_);
  if (rest.empty()) return ReadResult::kEnd;
  if (rest.size() < kHeaderSize || IsZeroFilled(rest)) return ReadResult::kTorn;

  const std::string_view checked_part = rest.substr(0, kHeaderSize - sizeof(std::uint32_t));
  std::uint32_t payload_crc = 0;
  std::uint32_t length = 0;
  std::uint32_t header_crc = 0;
  GetFixed(&rest, &payload_crc);
  GetFixed(&rest, &length);
  GetFixed(&rest, &header_crc);
  if (Crc32(checked_part) != header_crc) return ReadResult::kCorrupt;
  if (length > rest.size()) return ReadResult::kTorn;

  const std::string_view found = rest.substr(0, length);
  if (Crc32(found) != payload_crc) {
    return length == rest.size() ? ReadResult::kTorn : ReadResult::kCorrupt;
  }
  *payload = found;
  offset_ += kHeaderSize + length;
  return ReadResult::kRecord;
}

}  // namespace ember::wal
