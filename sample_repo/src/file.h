// SPDX-License-Identifier: Apache-2.0
/// \file
/// Files of a database directory: their names, and the few POSIX calls that the engine needs.
///
/// Nothing above this header sees a file descriptor or `errno`.

#ifndef EMBER_SRC_FILE_H_
#define EMBER_SRC_FILE_H_

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "ember/macros.h"
#include "ember/status.h"

namespace ember {

// ---- Names -----------------------------------------------------------------------------------

enum class FileKind { kLog, kTable, kOther };

namespace detail {

inline std::string NumberedName(const std::string& directory, std::uint64_t number,
                                const char* extension) {
  char name[32];
  std::snprintf(name, sizeof(name), "/%06llu.%s", static_cast<unsigned long long>(number), extension);
  return directory + name;
}

}  // namespace detail

inline std::string LogFileName(const std::string& directory, std::uint64_t number) {
  return detail::NumberedName(directory, number, "log");
}

inline std::string TableFileName(const std::string& directory, std::uint64_t number) {
  return detail::NumberedName(directory, number, "tbl");
}

inline std::string ManifestFileName(const std::string& directory) { return directory + "/MANIFEST"; }

/// Reads the kind and number out of a name such as "000012.log".
inline FileKind ParseFileName(const std::string& name, std::uint64_t* number) {
  unsigned long long digits = 0;
  char extension[4] = {};
  if (std::sscanf(name.c_str(), "%llu.%3s", &digits, extension) != 2) return FileKind::kOther;
  *number = digits;
  if (std::strcmp(extension, "log") == 0) return FileKind::kLog;
  if (std::strcmp(extension, "tbl") == 0) return FileKind::kTable;
  return FileKind::kOther;
}

// ---- Open files ------------------------------------------------------------------------------

inline Status SystemError(const std::string& path) {
  return Status::IoError(path + ": " + std::strerror(errno));
}

/// Owns a file descriptor and closes it.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  EMBER_NON_COPYABLE(Descriptor);

  int get() const { return number_; }

 private:
  const int number_;
};

/// A file that grows at its end. Appends reach the kernel at once; only `Sync` reaches the device.
class WritableFile {
 public:
  /// Makes an empty file at `path`, in place of one that is there.
  static Status Create(const std::string& path, std::unique_ptr<WritableFile>* file) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor < 0) return SystemError(path);
    file->reset(new WritableFile(path, descriptor));
    return Status::Ok();
  }

  EMBER_NON_COPYABLE(WritableFile);

  /// Writes all of `bytes`, or says why not; part of them may be in the file then.
  Status Append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_.get(), bytes.data(), bytes.size());
      if (written < 0) {
        if (errno == EINTR) continue;
        return SystemError(path_);
      }
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return Status::Ok();
  }

  /// Returns when everything appended so far is on the device.
  Status Sync() {
#if defined(__APPLE__)
    // fsync on macOS only hands the data to the drive, which may still lose it.
    const int result = ::fcntl(descriptor_.get(), F_FULLFSYNC);
#else
    const int result = ::fdatasync(descriptor_.get());
#endif
    return result == 0 ? Status::Ok() : SystemError(path_);
  }

 private:
  WritableFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  const std::string path_;
  Descriptor descriptor_;
};

/// A file that is read at any place, from several threads at once. It stays readable after its name
/// is removed, which is how iterators outlive the tables that a compaction replaced.
class ReadableFile {
 public:
  static Status Open(const std::string& path, std::unique_ptr<ReadableFile>* file) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return SystemError(path);
    struct stat attributes {};
    if (::fstat(descriptor, &attributes) != 0) {
      const Status status = SystemError(path);
      ::close(descriptor);
      return status;
    }
    const auto size = static_cast<std::uint64_t>(attributes.st_size);
    file->reset(new ReadableFile(path, descriptor, size));
    return Status::Ok();
  }

  EMBER_NON_COPYABLE(ReadableFile);

  /// Fills `out` with exactly `size` bytes from `offset`. \return Corruption past the end.
  Status Read(std::uint64_t offset, std::uint64_t size, std::string* out) const {
    if (offset > size_ || size > size_ - offset) {
      return Status::Corruption(path_ + ": read past the end of the file");
    }
    out->resize(size);
    std::size_t done = 0;
    while (done < size) {
      const ssize_t count = ::pread(descriptor_.get(), out->data() + done, size - done,
                                    static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return SystemError(path_);
      if (count == 0) return Status::Corruption(path_ + ": file became shorter");
      done += static_cast<std::size_t>(count);
    }
    return Status::Ok();
  }

  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  ReadableFile(std::string path, int descriptor, std::uint64_t size)
      : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

  const std::string path_;
  Descriptor descriptor_;
  const std::uint64_t size_;
};

inline Status ReadWholeFile(const std::string& path, std::string* contents) {
  std::unique_ptr<ReadableFile> file;
  EMBER_RETURN_IF_ERROR(ReadableFile::Open(path, &file));
  return file->Read(0, file->size(), contents);
}

/// Gives the file at `from` the name `to`, in one step and in place of a file that has it.
inline Status RenameFile(const std::string& from, const std::string& to) {
  return std::rename(from.c_str(), to.c_str()) == 0 ? Status::Ok() : SystemError(to);
}

/// Removes a file that nothing refers to. One that stays does no harm: recovery removes it later.
inline void RemoveFile(const std::string& path) { ::unlink(path.c_str()); }

/// Makes renames and new names in `directory` survive a loss of power.
inline Status SyncDirectory(const std::string& directory) {
  const Descriptor descriptor(::open(directory.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0 || ::fsync(descriptor.get()) != 0) return SystemError(directory);
  return Status::Ok();
}

/// Keeps a second process, or a second DB object of this one, out of a directory.
class DirectoryLock {
 public:
  /// \return Busy when somebody else holds the lock.
  static Status Acquire(const std::string& directory, std::unique_ptr<DirectoryLock>* lock) {
    const std::string path = directory + "/LOCK";
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) return SystemError(path);
    lock->reset(new DirectoryLock(descriptor));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      lock->reset();
      return Status::Busy(directory + " is open elsewhere");
    }
    return Status::Ok();
  }

 private:
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}

  Descriptor descriptor_;
};

}  // namespace ember

#endif  // EMBER_SRC_FILE_H_
