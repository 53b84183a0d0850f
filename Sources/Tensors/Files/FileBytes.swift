// The bytes of a file. With FileLock.swift and LineLog.swift the only place of this module's file
// code that meets C.
//
// In:  a path to read, or a path and bytes to write.
// Out: a read-only mapping that unmaps itself, or a file that is there completely or not at all.
//
// Every `unsafe` of the safetensors code stands here, next to the bounds check that covers it. The
// pointer never leaves this file: readers get elements, already decoded, or a span that knows its
// bounds and ends with the call.
//
// One thing a mapping cannot promise: if another process shortens the file while it is mapped, the
// system ends this process (SIGBUS). Files replaced by renaming, as ours are, do not do that. A
// program that calls `nameTruncatedFiles` at its start says then which file it was.

internal import CMappedFiles
import Glibc

/// The read-only bytes of a file, in a mapping or in memory of their own.
///
/// Sendable because nothing changes after initialisation and the pointer is held here alone.
@safe final class FileBytes: @unchecked Sendable {
  /// First byte; nil where there are none.
  private let base: UnsafeRawPointer?

  /// Number of bytes.
  let count: Int

  private let isMapped: Bool

  /// Where the table of mapped files has this one; -1 where it has not.
  private let place: Int32

  /// Maps the file at `path`.
  ///
  /// A Git LFS pointer is refused whatever was expected: it stands in the place of the file.
  init(mapping path: String) throws(SafetensorsError.Problem) {
    try checkPath(path, "open")
    if path == "-" { throw .notARegularFile }  // standard input; a file of that name is ./-
    // Not blocking: opening a pipe would otherwise wait for a writer.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 { throw systemProblem("open") }
    defer { _ = close(descriptor) }
    var information = stat()
    if unsafe fstat(descriptor, &information) != 0 { throw systemProblem("examine") }
    if information.st_mode & S_IFMT != S_IFREG { throw .notARegularFile }
    count = Int(information.st_size)
    isMapped = count > 0
    if !isMapped {  // an empty file cannot be mapped
      unsafe base = nil
      place = -1
      return
    }
    let mapping = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0)
    if unsafe mapping == MAP_FAILED { throw systemProblem("map") }
    unsafe base = UnsafeRawPointer(mapping)
    place = unsafe mapped_files_enter(mapping, count, path)
    let start = words(in: 0..<min(count, gitLFSPointer.count)) { (byte: UInt8) in byte }
    if isGitLFSPointer(start) { throw .gitLFSPointer }
  }

  /// Holds a copy of `bytes`.
  init(copying bytes: [UInt8]) {
    count = bytes.count
    isMapped = false
    place = -1
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    unsafe copy.copyBytes(from: bytes)
    unsafe base = UnsafeRawPointer(copy.baseAddress)
  }

  deinit {
    if isMapped {
      mapped_files_leave(place)
      _ = unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
    } else {
      unsafe base?.deallocate()
    }
  }

  /// Lends `body` the bytes of `range`.
  func withSpan<Result>(of range: Range<Int>, _ body: (RawSpan) -> Result) -> Result {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "bytes \(range) of \(count)")
    let start = unsafe base.map { unsafe $0 + range.lowerBound }
    let bytes = unsafe UnsafeRawBufferPointer(start: start, count: range.count)
    // The mapping must outlive the span, and the compiler cannot see that one needs the other.
    return withExtendedLifetime(self) { body(unsafe RawSpan(_unsafeBytes: bytes)) }
  }

  /// The little-endian words that fill `range`, each through `decode`.
  ///
  /// Words may lie at any address: they are loaded byte-wise.
  func words<Word: FixedWidthInteger & BitwiseCopyable, Element>(
    in range: Range<Int>, _ decode: (Word) -> Element
  ) -> [Element] {
    let width = MemoryLayout<Word>.size
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count && range.count % width == 0,
      "bytes \(range) of \(count) are no whole number of \(width)-byte words")
    guard let base = unsafe base else { return [] }
    var elements: [Element] = []
    elements.reserveCapacity(range.count / width)
    for offset in stride(from: range.lowerBound, to: range.upperBound, by: width) {
      let word = unsafe base.loadUnaligned(fromByteOffset: offset, as: Word.self)
      elements.append(decode(Word(littleEndian: word)))
    }
    return elements
  }
}

/// Puts a file with these bytes at `path`, or fails and leaves what was there.
///
/// The bytes go to a new file in the same directory, reach the disk (fsync), and only then take the
/// name. A failure removes the new file; what a killed process left of an earlier one goes with the
/// next call. A symbolic link at `path` stays: the file that it names is written.
func replaceFile(at path: String, with bytes: [UInt8]) throws(SafetensorsError.Problem) {
  try checkPath(path, "write")
  let path = try following(path)
  // A pipe or device (/dev/null, /dev/stdout) is no file to put another one in the place of.
  var information = stat()
  if unsafe stat(path, &information) == 0 && information.st_mode & S_IFMT != S_IFREG {
    throw .notARegularFile
  }
  let (temporary, descriptor) = try createTemporary(beside: path)
  defer { _ = close(descriptor) }  // last: its lock keeps others away while the name is moved
  do throws(SafetensorsError.Problem) {
    try writeAll(bytes, to: descriptor)
    if fsync(descriptor) != 0 { throw systemProblem("write") }
    if unsafe rename(temporary, path) != 0 { throw systemProblem("write") }
  } catch {
    _ = unsafe unlink(temporary)
    throw error
  }
}

/// The path that `path` comes to when its last part is a symbolic link; the file may be absent.
///
/// A rename would put the file in the place of the link: of /dev/stderr, at worst.
private func following(_ path: String) throws(SafetensorsError.Problem) -> String {
  var path = path
  for _ in 0..<40 {  // as far as the system itself goes
    var target = [UInt8](repeating: 0, count: 4096)
    let count = unsafe target.withUnsafeMutableBytes { buffer in
      guard let start = buffer.baseAddress else { return -1 }
      return unsafe readlink(path, start.assumingMemoryBound(to: CChar.self), buffer.count)
    }
    if count < 0 { return path }
    let name = String(decoding: target[..<count], as: UTF8.self)
    let folder = path.lastIndex(of: "/").map { path[...$0] } ?? ""
    path = name.hasPrefix("/") ? name : folder + name
  }
  throw .system(operation: "write", reason: "symbolic links go round in a circle")
}

/// Puts a file with these bytes at `path`, completely or not at all; what was there before stays
/// until the new one is on disk.
///
/// Throws where the system refuses, and where something else than a regular file is there.
public func writeFile(_ bytes: some Sequence<UInt8>, to path: String) throws(FileError) {
  do {
    try replaceFile(at: path, with: Array(bytes))
  } catch {
    if case .notARegularFile = error { throw FileError(path: path, reason: "not a regular file") }
    throw FileError(path: path, reason: "\(error)")
  }
}

/// A new, empty file beside `path`, locked: `PATH.lrqk-N.tmp`.
///
/// A file of such a name without a lock has lost its process, for the system gives a dead process's
/// locks back. It is removed here, and so are those with the next numbers.
private func createTemporary(
  beside path: String
) throws(SafetensorsError.Problem) -> (path: String, descriptor: Int32) {
  var found: (path: String, descriptor: Int32)?
  for number in 0..<1000 {
    let temporary = "\(path).lrqk-\(number).tmp"
    let isGone = removeIfUnlocked(temporary)
    if found != nil {
      if !isGone { break }
      continue
    }
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 {
      if errno == EEXIST { continue }
      throw systemProblem("write")
    }
    // Between the two calls another process may have taken it for a dead one's.
    if takeLock(descriptor) != .isHeld && names(temporary, descriptor) {
      found = (temporary, descriptor)
    } else {
      _ = close(descriptor)
    }
  }
  guard let found else { throw systemProblem("write") }
  return found
}

/// Removes the regular file at `path` if no process has it locked; true if there was one to remove.
private func removeIfUnlocked(_ path: String) -> Bool {
  let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
  if descriptor < 0 { return false }
  defer { _ = close(descriptor) }
  // Only the holder of the lock of the file that has the name removes the name.
  guard takeLock(descriptor) == .isTaken, names(path, descriptor) else { return false }
  return unsafe unlink(path) == 0
}

/// Whether `path` is the regular file that is open here, and no other one of the same name.
func names(_ path: String, _ descriptor: Int32) -> Bool {
  var (named, opened) = (stat(), stat())
  guard unsafe lstat(path, &named) == 0, unsafe fstat(descriptor, &opened) == 0 else {
    return false
  }
  return named.st_ino == opened.st_ino && named.st_dev == opened.st_dev
    && opened.st_mode & S_IFMT == S_IFREG
}

/// Writes all bytes; a signal in between does not cut them short.
func writeAll(
  _ bytes: [UInt8], to descriptor: Int32
) throws(SafetensorsError.Problem) {
  var written = 0
  while written < bytes.count {
    let step = unsafe bytes.withUnsafeBytes { buffer in
      unsafe write(descriptor, buffer.baseAddress?.advanced(by: written), buffer.count - written)
    }
    if step < 0 && errno != EINTR { throw systemProblem("write") }
    written += max(step, 0)
  }
}

/// Makes the process name a mapped file that was cut short when it is touched beyond its end.
///
/// One line goes to standard error, and the process ends with `status`. Without this call the
/// system ends it without a line. Programs call this, libraries do not: the answer to a signal
/// belongs to the whole process.
public func nameTruncatedFiles(status: Int32) {
  // Refused or not, the files are read as before.
  _ = mapped_files_watch(status)
}

/// Whether there is a file, folder or anything else at `path`.
public func fileExists(at path: String) -> Bool {
  if path.utf8.contains(0) { return false }
  var information = stat()
  return unsafe stat(path, &information) == 0
}

/// Makes the folder at `path`, and those that it lies in; one that is there already stays.
public func makeFolder(_ path: String) throws(FileError) {
  func make(_ path: String) throws(SafetensorsError.Problem) {
    try checkPath(path, "make the folder")
    var information = stat()
    if unsafe stat(path, &information) == 0 && information.st_mode & S_IFMT == S_IFDIR { return }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try make(String(path[..<slash]))
    }
    // A second process may be faster; "a/" was made as "a".
    if unsafe mkdir(path, 0o777) == 0 { return }
    let problem = systemProblem("make the folder")
    if unsafe stat(path, &information) == 0 && information.st_mode & S_IFMT == S_IFDIR { return }
    throw problem
  }
  do { try make(path) } catch { throw FileError(path: path, reason: "\(error)") }
}

/// C strings end at the first NUL: a path that holds one would name another file.
func checkPath(
  _ path: String, _ operation: String
) throws(SafetensorsError.Problem) {
  if path.utf8.contains(0) {
    throw .system(operation: operation, reason: "the path contains a NUL character")
  }
}

/// The system's last error as a problem.
func systemProblem(_ operation: String) -> SafetensorsError.Problem {
  let code = errno
  let reason = unsafe strerror(code).map { unsafe String(cString: $0) }
  return .system(operation: operation, reason: reason ?? "error \(code)")
}
