// Files that one process at a time works with.
//
// In:  a path.
// Out: a lock that ends with its holder: when the object goes, or the process, however it dies.
//
// The lock is the system's (flock), not the file: a file that a killed process left behind does no
// harm. It holds the number of the process, for the message to the second one. Locks are advisory
// and of one machine: a program that does not ask for them is not kept away.

import Glibc

/// What became of an attempt to lock.
enum LockResult {
  /// It is ours.
  case isTaken
  /// It is taken: by another process, or by another opening of the file in this one.
  case isHeld
  /// The file system knows no locks.
  case isUnknown
}

/// Takes the lock of an open file, without waiting.
func takeLock(_ descriptor: Int32) -> LockResult {
  if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return .isTaken }
  return errno == EWOULDBLOCK ? .isHeld : .isUnknown
}

/// A file that says who works here; it is removed with its holder.
package final class FileLock: Sendable {
  private let path: String
  private let descriptor: Int32

  private init(_ path: String, _ descriptor: Int32) {
    self.path = path
    self.descriptor = descriptor
  }

  /// Takes the lock at `path`; nil where a living process has it.
  ///
  /// Throws where the file cannot be made, and where its file system knows no locks.
  package static func take(at path: String) throws(FileError) -> FileLock? {
    do {
      try checkPath(path, "lock")
      while true {
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
        if descriptor < 0 { throw systemProblem("lock") }
        let result = takeLock(descriptor)
        // The one before removes the file when it ends: then a new one is needed.
        if result == .isTaken && names(path, descriptor) {
          let lock = FileLock(path, descriptor)
          if ftruncate(descriptor, 0) != 0 { throw systemProblem("lock") }
          try writeAll(Array("\(getpid())\n".utf8), to: descriptor)
          return lock
        }
        let problem = systemProblem("lock")
        _ = close(descriptor)
        if result == .isHeld { return nil }
        if result == .isUnknown { throw problem }
      }
    } catch {
      throw FileError(path: path, reason: "\(error)")
    }
  }

  /// The process that holds the lock at `path`, as it says itself; nil where it has not yet.
  package static func holder(at path: String) -> Int? {
    guard let bytes = try? readFile(at: path, limit: 32) else { return nil }
    return Int(String(decoding: bytes, as: UTF8.self).filter { !$0.isNewline })
  }

  deinit {
    if names(path, descriptor) { _ = unsafe unlink(path) }
    _ = close(descriptor)
  }
}
