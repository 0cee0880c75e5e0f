// SPDX-License-Identifier: Apache-2.0
/// \file
/// A bounded cache that forgets what was not used for the longest time.

#ifndef EMBER_SRC_CACHE_H_
#define EMBER_SRC_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "ember/macros.h"

namespace ember {

/// Maps keys to shared values up to a total charge. Safe to use from several threads.
///
/// A value that is evicted while somebody still holds it stays alive for that holder and no longer
/// counts. A value that alone exceeds the capacity is not kept at all.
template <typename Key, typename Value, typename Hash = std::hash<Key>>
class LruCache {
 public:
  /// \param capacity the largest sum of charges to keep, in whatever unit the caller charges.
  explicit LruCache(std::size_t capacity) : capacity_(capacity) {}
  EMBER_NON_COPYABLE(LruCache);

  /// Finds the value of `key` and makes it the most recently used. Null if it is not there.
  std::shared_ptr<const Value> Find(const Key& key) EMBER_EXCLUDES(mutex_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  /// Keeps `value` under `key`, in place of an older one, and evicts others until the rest fits.
  void Insert(const Key& key, std::shared_ptr<const Value> value, std::size_t charge)
      EMBER_EXCLUDES(mutex_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) Remove(found->second);
    if (charge > capacity_) return;
    while (charge_ + charge > capacity_) Remove(std::prev(entries_.end()));
    entries_.push_front(Entry{key, std::move(value), charge});
    index_[key] = entries_.begin();
    charge_ += charge;
  }

  std::size_t charge() const EMBER_EXCLUDES(mutex_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return charge_;
  }

 private:
  struct Entry {
    Key key;
    std::shared_ptr<const Value> value;
    std::size_t charge;
  };
  using Entries = std::list<Entry>;

  void Remove(typename Entries::iterator entry) EMBER_REQUIRES(mutex_) {
    charge_ -= entry->charge;
    index_.erase(entry->key);
    entries_.erase(entry);
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  Entries entries_ EMBER_GUARDED_BY(mutex_);  // most recently used first
  std::unordered_map<Key, typename Entries::iterator, Hash> index_ EMBER_GUARDED_BY(mutex_);
  std::size_t charge_ EMBER_GUARDED_BY(mutex_) = 0;
};

/// Names a data block among all tables. Table numbers are never used twice, so a block of a removed
/// table cannot be mistaken for one of a new table.
struct BlockId {
  std::uint64_t table;
  std::uint64_t offset;

  friend bool operator==(const BlockId& left, const BlockId& right) {
    return left.table == right.table && left.offset == right.offset;
  }
};

struct BlockIdHash {
  std::size_t operator()(const BlockId& id) const {
    // The odd factor spreads table numbers, which are small, over the high bits.
    return std::hash<std::uint64_t>()(id.table * 0x9E3779B97F4A7C15u ^ id.offset);
  }
};

/// Data blocks, without their checksums, charged by their size in bytes.
using BlockCache = LruCache<BlockId, std::string, BlockIdHash>;

}  // namespace ember

#endif  // EMBER_SRC_CACHE_H_
