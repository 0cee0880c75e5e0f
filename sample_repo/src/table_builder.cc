// SPDX-License-Identifier: Apache-2.0
/// \file
/// Writing a sorted table file, and building its Bloom filter.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "table.h"

namespace ember {
namespace {

void AppendHandle(std::string* out, const BlockHandle& handle) {
  PutFixed(out, handle.offset);
  PutFixed(out, handle.size);
}

}  // namespace

// ---- BloomFilter -----------------------------------------------------------------------------

std::uint64_t BloomFilter::Hash(std::string_view key) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char byte : key) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  }
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93u;
  return hash ^ (hash >> 32);
}

/// Derives all probes from one hash, as h1 + i * h2 (Kirsch and Mitzenmacher 2006): the rate of
/// false positives stays that of independent hashes.
template <typename Visit>
bool BloomFilter::ForEachBit(std::uint64_t hash, std::size_t probes, std::size_t bits, Visit visit) {
  const std::uint64_t step = (hash >> 17) | 1;
  for (std::size_t i = 0; i < probes; ++i) {
    if (!visit(hash % bits)) return false;
    hash += step;
  }
  return true;
}

/// The filter is the bits followed by one byte with the number of probes, so that a reader needs to
/// know nothing about the options of the writer.
std::string BloomFilter::Build(const std::vector<std::uint64_t>& key_hashes,
                               std::size_t bits_per_key) {
  if (bits_per_key == 0 || key_hashes.empty()) return std::string();
  // ln 2 probes for each bit per key make false positives rarest.
  const std::size_t probes = std::clamp<std::size_t>(bits_per_key * 69 / 100, 1, 30);
  const std::size_t bytes = std::max<std::size_t>(8, (key_hashes.size() * bits_per_key + 7) / 8);
  std::string filter(bytes, '\0');
  for (const std::uint64_t hash : key_hashes) {
    ForEachBit(hash, probes, bytes * 8, [&filter](std::uint64_t bit) {
      filter[bit / 8] = static_cast<char>(filter[bit / 8] | (1 << (bit % 8)));
      return true;
    });
  }
  filter.push_back(static_cast<char>(probes));
  return filter;
}

bool BloomFilter::MayContain(std::string_view filter, std::string_view key) {
  if (filter.size() < 2) return true;
  const auto probes = static_cast<unsigned char>(filter.back());
  filter.remove_suffix(1);
  return ForEachBit(Hash(key), probes, filter.size() * 8, [filter](std::uint64_t bit) {
    return (filter[bit / 8] & (1 << (bit % 8))) != 0;
  });
}

// ---- TableBuilder ----------------------------------------------------------------------------

TableBuilder::TableBuilder(const Options& options, std::unique_ptr<WritableFile> file)
    : options_(options), file_(std::move(file)) {}

TableBuilder::~TableBuilder() = default;

Status TableBuilder::Add(std::string_view internal_key, std::string_view value) {
  EMBER_CHECK(last_key_.empty() || InternalKeyLess()(last_key_, internal_key));
  if (smallest_.empty()) smallest_ = internal_key;
  last_key_ = internal_key;
  key_hashes_.push_back(BloomFilter::Hash(UserKey(internal_key)));
  PutLengthPrefixed(&block_, internal_key);
  PutLengthPrefixed(&block_, value);
  return block_.size() < options_.block_size ? Status::Ok() : FlushDataBlock();
}

/// Writes the data block that is being filled and notes it in the index under its last key.
Status TableBuilder::FlushDataBlock() {
  if (block_.empty()) return Status::Ok();
  BlockHandle handle;
  EMBER_RETURN_IF_ERROR(WriteBlock(block_, &handle));
  PutLengthPrefixed(&index_, last_key_);
  AppendHandle(&index_, handle);
  block_.clear();
  return Status::Ok();
}

Status TableBuilder::WriteBlock(std::string_view contents, BlockHandle* handle) {
  *handle = BlockHandle{offset_, contents.size()};
  std::string checksum;
  PutFixed(&checksum, Crc32(contents));
  EMBER_RETURN_IF_ERROR(file_->Append(contents));
  EMBER_RETURN_IF_ERROR(file_->Append(checksum));
  offset_ += contents.size() + checksum.size();
  return Status::Ok();
}

Status TableBuilder::Finish() {
  EMBER_RETURN_IF_ERROR(FlushDataBlock());
  BlockHandle filter;
  BlockHandle index;
  EMBER_RETURN_IF_ERROR(
      WriteBlock(BloomFilter::Build(key_hashes_, options_.bloom_bits_per_key), &filter));
  EMBER_RETURN_IF_ERROR(WriteBlock(index_, &index));

  std::string footer;
  AppendHandle(&footer, filter);
  AppendHandle(&footer, index);
  PutFixed(&footer, kTableMagic);
  EMBER_RETURN_IF_ERROR(file_->Append(footer));
  offset_ += footer.size();
  return file_->Sync();
}

}  // namespace ember
