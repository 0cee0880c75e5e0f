// SPDX-License-Identifier: Apache-2.0
/// \file
/// The tests of emberkv: a list of functions, each with a directory of its own, run by main.
/// A check that fails ends the process with its file and line.

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cache.h"
#include "coding.h"
#include "ember/db.h"
#include "log.h"
#include "memtable.h"
#include "table.h"

namespace {

namespace fs = std::filesystem;
using namespace ember;

void ExpectOk(const Status& status) {
  if (!status.ok()) std::cerr << status << '\n';
  EMBER_CHECK(status.ok());
}

std::unique_ptr<DB> Open(const std::string& directory, Options options = Options()) {
  options.create_if_missing = true;
  std::unique_ptr<DB> db;
  ExpectOk(DB::Open(options, directory, &db));
  return db;
}

std::string Get(DB& db, std::string_view key, const Snapshot* snapshot = nullptr) {
  ReadOptions options;
  options.snapshot = snapshot;
  std::string value;
  const Status status = db.Get(options, key, &value);
  if (status.IsNotFound()) return "(none)";
  ExpectOk(status);
  return value;
}

std::map<std::string, std::string> Contents(DB& db) {
  std::map<std::string, std::string> contents;
  const auto entries = db.NewIterator();
  for (entries->SeekToFirst(); entries->Valid(); entries->Next()) {
    contents.emplace_hint(contents.end(), entries->key(), entries->value());
  }
  ExpectOk(entries->status());
  return contents;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void WriteFile(const fs::path& path, std::string_view contents) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << contents;
}

std::vector<fs::path> FilesWith(const std::string& directory, const std::string& extension) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == extension) found.push_back(entry.path());
  }
  return found;
}

// ---- The parts ---------------------------------------------------------------------------------

void IntegersSurviveEncoding(const std::string&) {
  for (const std::uint64_t value : {0ull, 1ull, 127ull, 128ull, 300ull, 1ull << 35, ~0ull}) {
    std::string bytes;
    PutVarint(&bytes, value);
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      std::string_view partial = std::string_view(bytes).substr(0, cut);
      std::uint64_t read = 0;
      EMBER_CHECK(!GetVarint(&partial, &read) && partial.size() == cut);
    }
    std::string_view rest = bytes;
    std::uint64_t read = 0;
    EMBER_CHECK(GetVarint(&rest, &read) && read == value && rest.empty());
  }
  EMBER_CHECK(Crc32("123456789") == 0xCBF43926u);  // the check value that the standard gives
}

void TheNewestEntryOfAKeyComesFirst(const std::string&) {
  const InternalKeyLess less;
  const auto key = [](const char* user_key, SequenceNumber sequence) {
    return MakeInternalKey(user_key, sequence, ValueType::kValue);
  };
  EMBER_CHECK(less(key("a", 9), key("a", 8)) && !less(key("a", 8), key("a", 9)));
  EMBER_CHECK(less(key("a", 1), key("aa", 9)) && less(key("aa", 1), key("b", 2)));
}

void AMemtableShowsWhatASequenceNumberMaySee(const std::string&) {
  const auto table = std::make_shared<MemTable>();
  table->Add(1, ValueType::kValue, "key", "one");
  table->Add(2, ValueType::kDeletion, "key", "");
  table->Add(3, ValueType::kValue, "key", "three");
  std::string value;
  EMBER_CHECK(table->Get("key", 0, &value) == Lookup::kAbsent);
  EMBER_CHECK(table->Get("key", 1, &value) == Lookup::kFound && value == "one");
  EMBER_CHECK(table->Get("key", 2, &value) == Lookup::kDeleted);
  EMBER_CHECK(table->Get("key", 9, &value) == Lookup::kFound && value == "three");
  EMBER_CHECK(table->Get("ke", 9, &value) == Lookup::kAbsent);
}

void TheCacheForgetsWhatWasNotUsed(const std::string&) {
  LruCache<int, std::string> cache(2);
  const auto text = [](const char* letters) { return std::make_shared<const std::string>(letters); };
  cache.Insert(1, text("one"), 1);
  cache.Insert(2, text("two"), 1);
  EMBER_CHECK(*cache.Find(1) == "one");
  cache.Insert(3, text("three"), 1);
  EMBER_CHECK(cache.Find(2) == nullptr && cache.Find(1) != nullptr && cache.Find(3) != nullptr);
  cache.Insert(4, text("too large"), 3);
  EMBER_CHECK(cache.Find(4) == nullptr && cache.charge() == 2);
}

void ABloomFilterNeverMissesAndSeldomLies(const std::string&) {
  std::vector<std::uint64_t> hashes;
  for (int i = 0; i < 2000; ++i) hashes.push_back(BloomFilter::Hash("in" + std::to_string(i)));
  const std::string filter = BloomFilter::Build(hashes, 10);
  int lies = 0;
  for (int i = 0; i < 2000; ++i) {
    EMBER_CHECK(BloomFilter::MayContain(filter, "in" + std::to_string(i)));
    lies += BloomFilter::MayContain(filter, "out" + std::to_string(i)) ? 1 : 0;
  }
  EMBER_CHECK(lies < 60);  // 3 %, three times what 10 bits should give
}

void ALogCutOffAnywhereGivesBackItsWholeRecords(const std::string& directory) {
  const std::string path = directory + "/cut.log";
  std::unique_ptr<WritableFile> file;
  ExpectOk(WritableFile::Create(path, &file));
  wal::Writer writer(std::move(file));
  for (const char* payload : {"first", "", "third record"}) ExpectOk(writer.Append(payload));
  const std::string whole = ReadFile(path);
  const std::vector<std::size_t> ends = {0, 17, 29, 53};

  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    wal::Reader reader(whole.substr(0, cut));
    std::string_view payload;
    std::size_t records = 0;
    wal::ReadResult result = reader.Read(&payload);
    for (; result == wal::ReadResult::kRecord; result = reader.Read(&payload)) ++records;
    const bool clean = cut == ends[records];
    EMBER_CHECK(records == 3 || cut < ends[records + 1]);
    EMBER_CHECK(result == (clean ? wal::ReadResult::kEnd : wal::ReadResult::kTorn));
  }

  for (std::size_t place = 0; place < ends[2]; ++place) {  // every byte but those of the last record
    std::string damaged = whole;
    damaged[place] = static_cast<char>(damaged[place] ^ 0x10);
    wal::Reader reader(damaged);
    std::string_view payload;
    wal::ReadResult result = reader.Read(&payload);
    while (result == wal::ReadResult::kRecord) result = reader.Read(&payload);
    EMBER_CHECK(result == wal::ReadResult::kCorrupt);
  }

  wal::Reader zeros(whole + std::string(64, '\0'));
  std::string_view payload;
  for (int i = 0; i < 3; ++i) EMBER_CHECK(zeros.Read(&payload) == wal::ReadResult::kRecord);
  EMBER_CHECK(zeros.Read(&payload) == wal::ReadResult::kTorn && zeros.remaining() == 64);
}

void ATableGivesBackItsEntriesAndNoticesDamage(const std::string& directory) {
  const std::string path = TableFileName(directory, 1);
  Options options;
  options.block_size = 64;
  std::unique_ptr<WritableFile> file;
  ExpectOk(WritableFile::Create(path, &file));
  TableBuilder builder(options, std::move(file));
  for (int i = 100; i < 200; ++i) {
    const std::string key = MakeInternalKey(std::to_string(i), 7, ValueType::kValue);
    ExpectOk(builder.Add(key, "value " + std::to_string(i)));
  }
  ExpectOk(builder.Finish());

  std::shared_ptr<const Table> table;
  ExpectOk(Table::Open(path, 1, nullptr, &table));
  std::string value;
  Lookup result = Lookup::kAbsent;
  for (int i = 100; i < 200; ++i) {
    ExpectOk(table->Get(ReadOptions(), std::to_string(i), 7, &value, &result));
    EMBER_CHECK(result == Lookup::kFound && value == "value " + std::to_string(i));
    ExpectOk(table->Get(ReadOptions(), std::to_string(i), 6, &value, &result));
    EMBER_CHECK(result == Lookup::kAbsent);
  }

  std::string damaged = ReadFile(path);
  damaged[10] = static_cast<char>(damaged[10] ^ 1);
  WriteFile(path, damaged);
  ExpectOk(Table::Open(path, 1, nullptr, &table));
  EMBER_CHECK(table->Get(ReadOptions(), "100", 7, &value, &result).IsCorruption());
  const auto entries = Table::NewIterator(table, ReadOptions());
  entries->SeekToFirst();
  EMBER_CHECK(!entries->Valid() && entries->status().IsCorruption());
  WriteFile(path, damaged.substr(0, damaged.size() - 1));
  EMBER_CHECK(Table::Open(path, 1, nullptr, &table).IsCorruption());
}

// ---- The database ------------------------------------------------------------------------------

void WhatIsPutCanBeFoundOverwrittenAndDeleted(const std::string& directory) {
  const auto db = Open(directory);
  ExpectOk(db->Put("fruit", "apple"));
  ExpectOk(db->Put("fruit", "pear"));
  ExpectOk(db->Put("", "the empty key is a key"));
  EMBER_CHECK(Get(*db, "fruit") == "pear" && Get(*db, "") == "the empty key is a key");
  ExpectOk(db->Delete("fruit"));
  EMBER_CHECK(Get(*db, "fruit") == "(none)");

  WriteBatch first;
  first.Put("a", "1");
  first.Delete("a");
  WriteBatch second;
  second.Put("a", "2");
  first += second;
  ExpectOk(db->Write(first));
  EMBER_CHECK(Get(*db, "a") == "2");
}

void ADirectoryIsOpenedOnlyOnceAndOnlyWhenAskedTo(const std::string& directory) {
  std::unique_ptr<DB> other;
  EMBER_CHECK(DB::Open(Options(), directory + "/none", &other).IsInvalidArgument());
  const auto db = Open(directory);
  EMBER_CHECK(DB::Open(Options(), directory, &other).IsBusy());
  Options standstill;
  standstill.level0_stop_trigger = 1;
  EMBER_CHECK(DB::Open(standstill, directory, &other).IsInvalidArgument());
}

void AFullMemtableIsFlushedToLevelZero(const std::string& directory) {
  Options options;
  options.write_buffer_size = 16 * 1024;
  options.level0_compaction_trigger = 1000;
  options.level0_stop_trigger = 1000;
  const auto db = Open(directory, options);
  ExpectOk(db->Put("small", "write"));
  EMBER_CHECK(FilesWith(directory, ".tbl").empty());
  for (int i = 0; i < 400; ++i) ExpectOk(db->Put("key" + std::to_string(i), std::string(200, 'x')));
  ExpectOk(db->Flush());
  EMBER_CHECK(db->GetStatistics().flushes >= 5);
  EMBER_CHECK(FilesWith(directory, ".tbl").size() == db->GetStatistics().flushes);
  EMBER_CHECK(FilesWith(directory, ".log").size() == 1);
  EMBER_CHECK(Get(*db, "key0") == std::string(200, 'x') && Contents(*db).size() == 401);
}

void ATornLogLosesOnlyItsLastRecord(const std::string& directory) {
  {
    const auto db = Open(directory);
    ExpectOk(db->Put("kept", "yes"));
    ExpectOk(db->Put("torn", "no"));
  }
  const fs::path log = FilesWith(directory, ".log").at(0);
  fs::resize_file(log, fs::file_size(log) - 1);
  for (int run = 0; run < 2; ++run) {
    const auto db = Open(directory);
    EMBER_CHECK(Get(*db, "kept") == "yes" && Get(*db, "torn") == "(none)");
    EMBER_CHECK(db->GetStatistics().recovered_records == (run == 0 ? 1 : 0));
    EMBER_CHECK((db->GetStatistics().torn_bytes > 0) == (run == 0));
  }
}

void DamageInTheMiddleOfALogRefusesToOpen(const std::string& directory) {
  {
    const auto db = Open(directory);
    ExpectOk(db->Put("first", "1"));
    ExpectOk(db->Put("second", "2"));
  }
  const fs::path log = FilesWith(directory, ".log").at(0);
  std::string bytes = ReadFile(log);
  bytes[wal::kHeaderSize + 2] = static_cast<char>(bytes[wal::kHeaderSize + 2] ^ 1);
  WriteFile(log, bytes);
  std::unique_ptr<DB> db;
  EMBER_CHECK(DB::Open(Options(), directory, &db).IsCorruption());
  EMBER_CHECK(ReadFile(log) == bytes);
}

void ATornLogThatIsNotTheNewestRefusesToOpen(const std::string& directory) {
  {
    const auto db = Open(directory);
    ExpectOk(db->Put("key", "value"));
  }
  const fs::path log = FilesWith(directory, ".log").at(0);
  fs::resize_file(log, fs::file_size(log) - 1);
  WriteFile(LogFileName(directory, 999), "");
  std::unique_ptr<DB> db;
  EMBER_CHECK(DB::Open(Options(), directory, &db).IsCorruption());
  fs::remove(LogFileName(directory, 999));
  EMBER_CHECK(Contents(*Open(directory)).empty());
}

void ACompactionKeepsWhatASnapshotSees(const std::string& directory) {
  const auto db = Open(directory);
  ExpectOk(db->Put("key", "old"));
  ExpectOk(db->Put("gone", "still here"));
  auto snapshot = db->GetSnapshot();
  ExpectOk(db->Put("key", "new"));
  ExpectOk(db->Delete("gone"));
  ExpectOk(db->CompactAll());
  EMBER_CHECK(Get(*db, "key") == "new" && Get(*db, "gone") == "(none)");
  EMBER_CHECK(Get(*db, "key", snapshot.get()) == "old");
  EMBER_CHECK(Get(*db, "gone", snapshot.get()) == "still here");

  snapshot.reset();
  ExpectOk(db->Delete("key"));
  ExpectOk(db->CompactAll());
  EMBER_CHECK(Contents(*db).empty() && FilesWith(directory, ".tbl").empty());
}

void AnIteratorKeepsItsViewWhileTheDatabaseChanges(const std::string& directory) {
  const auto db = Open(directory);
  for (const char* key : {"a", "c", "e"}) ExpectOk(db->Put(key, "before"));
  ExpectOk(db->Flush());
  const auto entries = db->NewIterator();
  for (const char* key : {"a", "b", "c"}) ExpectOk(db->Put(key, "after"));
  ExpectOk(db->CompactAll());
  entries->Seek("b");
  EMBER_CHECK(entries->Valid() && entries->key() == "c" && entries->value() == "before");
  entries->Next();
  EMBER_CHECK(entries->Valid() && entries->key() == "e");
  entries->Next();
  EMBER_CHECK(!entries->Valid() && entries->status().ok());
}

/// Thousands of random changes against std::map, with flushes, compactions and reopenings between.
void TheDatabaseBehavesLikeAMap(const std::string& directory) {
  Options options;
  options.write_buffer_size = 8 * 1024;
  options.target_table_size = 4 * 1024;
  options.block_size = 256;
  options.block_cache_capacity = 2 * 1024;
  options.level0_compaction_trigger = 2;
  options.level0_stop_trigger = 3;
  std::uint64_t state = 42;
  const auto random = [&state](std::uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % limit;
  };

  auto db = Open(directory, options);
  std::map<std::string, std::string> model;
  for (int step = 0; step < 4000; ++step) {
    const std::string key = "key" + std::to_string(random(150));
    if (random(4) == 0) {
      ExpectOk(db->Delete(key));
      model.erase(key);
    } else {
      const std::string value(random(60), static_cast<char>('a' + random(26)));
      ExpectOk(db->Put(key, value));
      model[key] = value;
    }
    const std::string probe = "key" + std::to_string(random(150));
    const auto expected = model.find(probe);
    EMBER_CHECK(Get(*db, probe) == (expected == model.end() ? "(none)" : expected->second));
    if (random(400) == 0) ExpectOk(db->CompactAll());
    if (random(400) == 0) {
      db.reset();
      db = Open(directory, options);
    }
    if (random(200) == 0) EMBER_CHECK(Contents(*db) == model);
  }
  EMBER_CHECK(Contents(*db) == model);
}

void ReadersSeeWholeBatchesWhileAWriterWorks(const std::string& directory) {
  Options options;
  options.write_buffer_size = 8 * 1024;
  const auto db = Open(directory, options);
  std::atomic<bool> done{false};
  const auto read = [&db, &done] {
    while (!done.load()) {
      const auto snapshot = db->GetSnapshot();
      EMBER_CHECK(Get(*db, "left", snapshot.get()) == Get(*db, "right", snapshot.get()));
    }
  };
  std::thread one(read);
  std::thread two(read);
  for (int i = 0; i < 1000; ++i) {
    WriteBatch batch;
    batch.Put("left", std::to_string(i));
    batch.Put("right", std::to_string(i));
    ExpectOk(db->Write(batch));
  }
  done.store(true);
  one.join();
  two.join();
  EMBER_CHECK(Get(*db, "left") == "999" && db->GetStatistics().flushes > 0);
}

struct Test {
  const char* name;
  void (*run)(const std::string& directory);
};

#define EMBER_TEST(function) {#function, function}

const Test kTests[] = {
    EMBER_TEST(IntegersSurviveEncoding),
    EMBER_TEST(TheNewestEntryOfAKeyComesFirst),
    EMBER_TEST(AMemtableShowsWhatASequenceNumberMaySee),
    EMBER_TEST(TheCacheForgetsWhatWasNotUsed),
    EMBER_TEST(ABloomFilterNeverMissesAndSeldomLies),
    EMBER_TEST(ALogCutOffAnywhereGivesBackItsWholeRecords),
    EMBER_TEST(ATableGivesBackItsEntriesAndNoticesDamage),
    EMBER_TEST(WhatIsPutCanBeFoundOverwrittenAndDeleted),
    EMBER_TEST(ADirectoryIsOpenedOnlyOnceAndOnlyWhenAskedTo),
    EMBER_TEST(AFullMemtableIsFlushedToLevelZero),
    EMBER_TEST(ATornLogLosesOnlyItsLastRecord),
    EMBER_TEST(DamageInTheMiddleOfALogRefusesToOpen),
    EMBER_TEST(ATornLogThatIsNotTheNewestRefusesToOpen),
    EMBER_TEST(ACompactionKeepsWhatASnapshotSees),
    EMBER_TEST(AnIteratorKeepsItsViewWhileTheDatabaseChanges),
    EMBER_TEST(TheDatabaseBehavesLikeAMap),
    EMBER_TEST(ReadersSeeWholeBatchesWhileAWriterWorks),
};

}  // namespace

int main() {
  const fs::path root = fs::temp_directory_path() / ("ember_test_" + std::to_string(::getpid()));
  for (const Test& test : kTests) {
    const fs::path directory = root / test.name;
    fs::create_directories(directory);
    test.run(directory.string());
    std::cout << "passed " << test.name << std::endl;
  }
  fs::remove_all(root);
  return 0;
}
