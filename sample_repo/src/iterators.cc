// SPDX-License-Identifier: Apache-2.0
/// \file
/// Iterators made of other iterators: the merge of several, and the view of one snapshot.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coding.h"
#include "db_impl.h"
#include "ember/iterator.h"

namespace ember {
namespace {

class EmptyIterator final : public Iterator {
 public:
  explicit EmptyIterator(Status status) : status_(std::move(status)) {}

  bool Valid() const override { return false; }
  void SeekToFirst() override {}
  void Seek(std::string_view) override {}
  void Next() override { EMBER_CHECK(Valid()); }
  std::string_view key() const override { return {}; }
  std::string_view value() const override { return {}; }
  Status status() const override { return status_; }

 private:
  const Status status_;
};

/// Keeps its children in a heap with the smallest key on top. Equal internal keys cannot occur,
/// because each change of a database has its own number.
class MergingIterator final : public Iterator {
 public:
  explicit MergingIterator(std::vector<std::unique_ptr<Iterator>> children)
      : children_(std::move(children)) {}

  EMBER_ITERATOR_OVERRIDES;

 private:
  /// The order of std::push_heap, which keeps the greatest on top: so the greater key is "less".
  struct GreaterKey {
    bool operator()(const Iterator* left, const Iterator* right) const {
      return InternalKeyLess()(right->key(), left->key());
    }
  };

  void RebuildHeap();

  const std::vector<std::unique_ptr<Iterator>> children_;
  std::vector<Iterator*> heap_;  // the children that stand on an entry
  Status status_;
};

bool MergingIterator::Valid() const { return status_.ok() && !heap_.empty(); }

void MergingIterator::SeekToFirst() {
  for (const auto& child : children_) child->SeekToFirst();
  RebuildHeap();
}

void MergingIterator::Seek(std::string_view target) {
  for (const auto& child : children_) child->Seek(target);
  RebuildHeap();
}

void MergingIterator::RebuildHeap() {
  heap_.clear();
  status_ = Status::Ok();
  for (const auto& child : children_) {
    if (child->Valid()) {
      heap_.push_back(child.get());
    } else if (!child->status().ok()) {
      status_ = child->status();
    }
  }
  std::make_heap(heap_.begin(), heap_.end(), GreaterKey());
}

/// A child that fails ends the merge: going on without it would show deleted or outdated entries.
void MergingIterator::Next() {
  std::pop_heap(heap_.begin(), heap_.end(), GreaterKey());
  Iterator* const child = heap_.back();
  child->Next();
  if (child->Valid()) {
    std::push_heap(heap_.begin(), heap_.end(), GreaterKey());
    return;
  }
  heap_.pop_back();
  if (!child->status().ok()) status_ = child->status();
}

std::string_view MergingIterator::key() const { return heap_.front()->key(); }

std::string_view MergingIterator::value() const { return heap_.front()->value(); }

Status MergingIterator::status() const { return status_; }

/// Shows user keys: of each key the newest entry that the snapshot sees, unless that is a deletion.
class SnapshotIterator final : public Iterator {
 public:
  SnapshotIterator(std::unique_ptr<Iterator> entries, SequenceNumber sequence)
      : entries_(std::move(entries)), sequence_(sequence) {}

  bool Valid() const override { return status().ok() && entries_->Valid(); }

  void SeekToFirst() override {
    entries_->SeekToFirst();
    FindVisible();
  }

  void Seek(std::string_view target) override {
    entries_->Seek(MakeInternalKey(target, sequence_, ValueType::kValue));
    FindVisible();
  }

  void Next() override {
    SkipKey(std::string(key()));
    FindVisible();
  }

  std::string_view key() const override { return UserKey(entries_->key()); }
  std::string_view value() const override { return entries_->value(); }
  Status status() const override { return status_.ok() ? entries_->status() : status_; }

 private:
  void FindVisible();
  void SkipKey(const std::string& user_key);

  const std::unique_ptr<Iterator> entries_;
  const SequenceNumber sequence_;
  Status status_;
};

/// Moves forward to the next entry that is shown. The first entry of a key that is old enough
/// decides about the key.
void SnapshotIterator::FindVisible() {
  status_ = Status::Ok();
  ParsedKey parsed;
  while (entries_->Valid()) {
    if (!ParseInternalKey(entries_->key(), &parsed)) {
      status_ = Status::Corruption("an entry has a malformed key");
      return;
    }
    if (parsed.sequence > sequence_) {
      entries_->Next();
    } else if (parsed.type == ValueType::kDeletion) {
      SkipKey(std::string(parsed.user_key));
    } else {
      return;
    }
  }
}

/// Takes a copy of the key, for the entry that it came from is left behind.
void SnapshotIterator::SkipKey(const std::string& user_key) {
  while (entries_->Valid() && UserKey(entries_->key()) == user_key) entries_->Next();
}

}  // namespace

std::unique_ptr<Iterator> NewEmptyIterator(Status status) {
  return std::make_unique<EmptyIterator>(std::move(status));
}

std::unique_ptr<Iterator> NewMergingIterator(std::vector<std::unique_ptr<Iterator>> children) {
  if (children.empty()) return NewEmptyIterator();
  return std::make_unique<MergingIterator>(std::move(children));
}

std::unique_ptr<Iterator> NewSnapshotIterator(std::unique_ptr<Iterator> entries,
                                              SequenceNumber sequence) {
  return std::make_unique<SnapshotIterator>(std::move(entries), sequence);
}

}  // namespace ember
