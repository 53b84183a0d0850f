// A text file that grows line by line, and that a killed process can be continued from.
//
// In:  a path; then lines.
// Out: the lines that are there already; every new one behind them, in one piece.
//
// A kill can cut the last line short, and so can a full disk. So a last line without its line break
// is no line: it is cut off when the file is opened. One process at a time writes to a file
// (FileLock.swift); lines of two would stand mixed, and one's cut would take the other's last line.

import Glibc

/// A log that is written to.
package final class LineLog {
  /// The path of the file.
  package let path: String
  /// The lines that stood in it when it was opened, each with its line break.
  package let text: [UInt8]
  private let descriptor: Int32
  /// Bytes of whole lines.
  private var count: Int

  /// Opens the log at `path`, or begins it; nothing in it is changed yet.
  ///
  /// Throws where it cannot be written, is no regular file, is longer than `limit` bytes, or
  /// another process writes to it.
  package init(path: String, limit: Int) throws(FileError) {
    self.path = path
    do {
      try checkPath(path, "open")
      // Not blocking: a pipe would wait for a reader.
      descriptor = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0o666)
      if descriptor < 0 { throw systemProblem("open") }
    } catch {
      throw FileError(path: path, reason: "\(error)")
    }
    var bytes: [UInt8] = []
    do throws(FileError) {
      switch takeLock(descriptor) {
      case .isTaken: break
      case .isHeld:
        throw FileError(
          path: path, reason: "another process writes to it; wait for it, or choose another file")
      case .isUnknown:
        throw FileError(path: path, reason: "its file system knows no locks; choose another one")
      }
      bytes = try readFile(at: path, limit: limit)
    } catch {
      _ = close(descriptor)
      throw error
    }
    text = Array(bytes[..<((bytes.lastIndex(of: 10) ?? -1) + 1)])
    tail = Array(bytes[text.count...])
    count = text.count
  }

  /// What stands behind the last line break: a line that was cut short.
  package let tail: [UInt8]

  deinit { _ = close(descriptor) }

  /// Cuts the log to its first `count` bytes, the end of a line.
  package func cut(to count: Int) throws(FileError) {
    precondition(0...self.count ~= count, "\(count) of \(self.count) bytes")
    if ftruncate(descriptor, off_t(count)) != 0 { throw refused() }
    self.count = count
  }

  /// Adds a line; where it cannot be written whole, the log is as it was before.
  package func append(_ line: String) throws(FileError) {
    precondition(!line.utf8.contains(10), "a line without line breaks")
    let bytes = Array(line.utf8) + [10]
    do {
      try writeAll(bytes, to: descriptor)
    } catch {
      let error = refused()
      _ = ftruncate(descriptor, off_t(count))
      throw error
    }
    count += bytes.count
  }

  /// Returns when the lines are on disk.
  package func synchronize() throws(FileError) {
    if fsync(descriptor) != 0 { throw refused() }
  }

  /// The system's last error.
  private func refused() -> FileError {
    FileError(path: path, reason: "\(systemProblem("write")); the disk may be full")
  }
}
