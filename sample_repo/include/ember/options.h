// SPDX-License-Identifier: Apache-2.0
/// \file
/// The settings of a database, of a read and of a write.

#ifndef EMBER_OPTIONS_H_
#define EMBER_OPTIONS_H_

#include <cstddef>

#include "ember/macros.h"

EMBER_NAMESPACE_BEGIN

class Snapshot;

/// Settings that hold as long as a database is open. None of them is stored, and each may differ
/// from one opening to the next.
struct EMBER_EXPORT Options {
  /// Make the directory and an empty database when there is none.
  bool create_if_missing = false;

  /// Size in bytes at which a memtable is full and is switched for a fresh one. Up to two memtables
  /// of this size are in memory at once. Why 4 MiB: docs/adr/0001-memtable-limit.md.
  std::size_t write_buffer_size = 4 * 1024 * 1024;

  /// Number of level-0 tables that starts a compaction into level 1. Every read may have to look
  /// into each level-0 table, so a larger number buys cheaper writes with dearer reads.
  std::size_t level0_compaction_trigger = 4;

  /// Number of level-0 tables at which writes wait until a compaction has made room.
  std::size_t level0_stop_trigger = 12;

  /// Size in bytes at which a compaction closes a table and begins the next one.
  std::size_t target_table_size = 2 * 1024 * 1024;

  /// Size in bytes at which a data block is closed. One block is the unit of reading, of checksums
  /// and of caching.
  std::size_t block_size = 4096;

  /// Bits of Bloom filter for each key of a table. 10 bits give about 1 % false positives; 0 writes
  /// no filter.
  std::size_t bloom_bits_per_key = 10;

  /// Bytes of data blocks kept in memory over all tables.
  std::size_t block_cache_capacity = 8 * 1024 * 1024;
};

/// Settings of one read.
struct EMBER_EXPORT ReadOptions {
  /// Read the state that this snapshot holds; the newest one when null.
  const Snapshot* snapshot = nullptr;

  /// Keep the blocks that this read loads. Turn it off for a scan that would wash out the cache.
  bool fill_cache = true;
};

/// Settings of one write.
struct EMBER_EXPORT WriteOptions {
  /// Return only when the write-ahead log is on the device. Without it a write survives a crash of
  /// the process but perhaps not a loss of power.
  bool sync = false;
};

EMBER_NAMESPACE_END

#endif  // EMBER_OPTIONS_H_
