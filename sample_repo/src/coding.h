// SPDX-License-Identifier: Apache-2.0
/// \file
/// How values become bytes: fixed and variable integers, CRC-32 checksums and internal keys.
///
/// Every file format is made of these. All `Get` functions take bytes off the front of their input,
/// and return false, leaving the input as it was, when it is too short or malformed.

#ifndef EMBER_SRC_CODING_H_
#define EMBER_SRC_CODING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ember/db.h"

namespace ember {

// ---- Integers --------------------------------------------------------------------------------

namespace detail {

template <typename Unsigned>
void PutLittleEndian(std::string* out, Unsigned value) {
  for (std::size_t i = 0; i < sizeof(Unsigned); ++i) {
    out->push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

template <typename Unsigned>
bool GetLittleEndian(std::string_view* in, Unsigned* value) {
  if (in->size() < sizeof(Unsigned)) return false;
  Unsigned result = 0;
  for (std::size_t i = 0; i < sizeof(Unsigned); ++i) {
    result |= static_cast<Unsigned>(static_cast<unsigned char>((*in)[i])) << (8 * i);
  }
  in->remove_prefix(sizeof(Unsigned));
  *value = result;
  return true;
}

}  // namespace detail

/// Appends 4 or 8 bytes, lowest first, on every machine.
inline void PutFixed(std::string* out, std::uint32_t value) { detail::PutLittleEndian(out, value); }
inline void PutFixed(std::string* out, std::uint64_t value) { detail::PutLittleEndian(out, value); }

inline bool GetFixed(std::string_view* in, std::uint32_t* value) {
  return detail::GetLittleEndian(in, value);
}
inline bool GetFixed(std::string_view* in, std::uint64_t* value) {
  return detail::GetLittleEndian(in, value);
}

/// Appends 1 to 10 bytes: seven bits in each, and the top bit set in all but the last.
inline void PutVarint(std::string* out, std::uint64_t value) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80)));
    value >>= 7;
  }
  out->push_back(static_cast<char>(static_cast<unsigned char>(value)));
}

inline bool GetVarint(std::string_view* in, std::uint64_t* value) {
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < in->size() && i < 10; ++i) {
    const std::uint64_t byte = static_cast<unsigned char>((*in)[i]);
    result |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      in->remove_prefix(i + 1);
      *value = result;
      return true;
    }
  }
  return false;
}

/// Appends the length as a varint and then the bytes.
inline void PutLengthPrefixed(std::string* out, std::string_view bytes) {
  PutVarint(out, bytes.size());
  out->append(bytes);
}

inline bool GetLengthPrefixed(std::string_view* in, std::string_view* bytes) {
  std::string_view rest = *in;
  std::uint64_t length = 0;
  if (!GetVarint(&rest, &length) || length > rest.size()) return false;
  *bytes = rest.substr(0, length);
  rest.remove_prefix(length);
  *in = rest;
  return true;
}

// ---- Checksums -------------------------------------------------------------------------------

namespace detail {

constexpr std::array<std::uint32_t, 256> MakeCrcTable() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder & 1) != 0 ? (remainder >> 1) ^ 0xEDB88320u : remainder >> 1;
    }
    table[byte] = remainder;
  }
  return table;
}

inline constexpr std::array<std::uint32_t, 256> kCrcTable = MakeCrcTable();

}  // namespace detail

/// The CRC-32 of IEEE 802.3, as in zip and PNG: it catches every burst of up to 32 flipped bits.
inline std::uint32_t Crc32(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ detail::kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  return crc ^ 0xFFFFFFFFu;
}

// ---- Internal keys ---------------------------------------------------------------------------

/// Where the search for a key ended in one memtable or table. `kDeleted` ends the whole search: what
/// lies in older tables is hidden by the deletion.
enum class Lookup { kAbsent, kFound, kDeleted };

/// An internal key taken apart.
struct ParsedKey {
  std::string_view user_key;
  SequenceNumber sequence = 0;
  ValueType type = ValueType::kValue;
};

/// Bytes that an internal key adds to the user's key: seven of sequence number, one of type.
inline constexpr std::size_t kTagSize = 8;

/// The user's key followed by its tag. Memtables and tables are sorted by these.
inline std::string MakeInternalKey(std::string_view user_key, SequenceNumber sequence,
                                   ValueType type) {
  std::string key(user_key);
  PutFixed(&key, (sequence << 8) | static_cast<std::uint64_t>(type));
  return key;
}

/// The user's part of an internal key, which must be well formed.
inline std::string_view UserKey(std::string_view internal_key) {
  return internal_key.substr(0, internal_key.size() - kTagSize);
}

/// Takes an internal key apart. False when it is too short or its type is unknown.
inline bool ParseInternalKey(std::string_view internal_key, ParsedKey* parsed) {
  if (internal_key.size() < kTagSize) return false;
  std::string_view tag_bytes = internal_key.substr(internal_key.size() - kTagSize);
  std::uint64_t tag = 0;
  GetFixed(&tag_bytes, &tag);
  if ((tag & 0xFF) > static_cast<std::uint64_t>(ValueType::kValue)) return false;
  parsed->user_key = UserKey(internal_key);
  parsed->sequence = tag >> 8;
  parsed->type = static_cast<ValueType>(tag & 0xFF);
  return true;
}

/// Orders internal keys: by the user's key, and the newest entry of a key first. So a search for
/// (key, sequence) ends on the entry that a reader at that sequence must see.
struct InternalKeyLess {
  bool operator()(std::string_view left, std::string_view right) const {
    const int order = UserKey(left).compare(UserKey(right));
    if (order != 0) return order < 0;
    return Tag(left) > Tag(right);
  }

 private:
  static std::uint64_t Tag(std::string_view internal_key) {
    std::string_view bytes = internal_key.substr(internal_key.size() - kTagSize);
    std::uint64_t tag = 0;
    GetFixed(&bytes, &tag);
    return tag;
  }
};

}  // namespace ember

#endif  // EMBER_SRC_CODING_H_
