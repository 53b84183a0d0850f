// An input that is read once, from its beginning to its end: a file, a pipe, or standard input.
//
// In:  a path as a person names it, and a limit in bytes.
// Out: the bytes, or a FileError: which input, why not.
//
// For texts and settings that a command is given by name: `-` and /dev/stdin are standard input,
// and <(command) of a shell is a path like /dev/fd/63. Reading waits for the writer of the pipe,
// but only some seconds for a first one: a named pipe (mkfifo) may never get a writer.
// Files of a checkpoint's folder are not read this way (ReadFile.swift), and tensors need a file
// that can be mapped (SafetensorsFile.swift).

import Glibc

/// The bytes of whatever can be read at `path`, at most `limit` of them.
///
/// Throws where the system refuses, as for a folder, and where more bytes come.
package func readInput(at path: String, limit: Int) throws(FileError) -> [UInt8] {
  let name = isStandardInput(path) ? "standard input" : path
  func refused(_ what: String) -> FileError {
    let reason = unsafe strerror(errno).map { unsafe String(cString: $0) } ?? "error \(errno)"
    return FileError(path: name, reason: "cannot \(what): \(reason)")
  }
  if path.utf8.contains(0) {  // C strings end there: it would be another file
    throw FileError(path: name, reason: "cannot open: the path contains a NUL character")
  }
  // Standard input may be a socket, which cannot be opened by its path. A pipe that is opened
  // without waiting reads as ended until its writer comes.
  let descriptor =
    isStandardInput(path) ? 0 : unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  if descriptor < 0 { throw refused("open") }
  defer { if descriptor > 0 { _ = close(descriptor) } }
  var patience = descriptor > 0 && isPipe(descriptor) ? 50 : 0  // tenths of a second

  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = unsafe buffer.withUnsafeMutableBytes {
      unsafe read(descriptor, $0.baseAddress, $0.count)
    }
    if count < 0 && errno == EINTR { continue }
    if count < 0 && errno == EAGAIN {  // the stream was set not to wait
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&ready, 1, -1)
      continue
    }
    if count < 0 { throw refused("read") }
    if count == 0 && bytes.isEmpty && patience > 0 {
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&ready, 1, 100)
      if Int32(ready.revents) & POLLHUP != 0 { return bytes }  // one came, and left
      patience -= 1
      if patience == 0 {
        throw FileError(path: name, reason: "a pipe that no process writes into; start its writer")
      }
      continue
    }
    if count == 0 {
      if isGitLFSPointer(bytes) { throw FileError(path: name, reason: gitLFSAdvice) }
      return bytes
    }
    bytes += buffer[..<count]
    if bytes.count > limit {
      throw FileError(path: name, reason: "longer than the limit of \(limit) bytes")
    }
  }
}

extension FileError {
  /// Whether standard input itself failed, other than by what it held.
  package var isOfStandardInput: Bool {
    path == "standard input" && reason.hasPrefix("cannot read: ")
  }
}

private func isPipe(_ descriptor: Int32) -> Bool {
  var information = stat()
  return unsafe fstat(descriptor, &information) == 0 && information.st_mode & S_IFMT == S_IFIFO
}

/// Whether a path names standard input.
package func isStandardInput(_ path: String) -> Bool {
  ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].contains(path)
}
