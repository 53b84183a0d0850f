// The bytes of a file: the only place of this module's file code that meets C.
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
/// Sendable because nothing changes after initialisation and nobody else holds the pointer.
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
    // Not blocking: opening a pipe would otherwise wait for somebody to write into it.
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
/// name. A failure removes the new file. A symbolic link at `path` is replaced, not followed.
func replaceFile(at path: String, with bytes: [UInt8]) throws(SafetensorsError.Problem) {
  try checkPath(path, "write")
  // A pipe or device (/dev/null, /dev/stdout) is no file to put another one in the place of.
  var information = stat()
  if unsafe stat(path, &information) == 0 && information.st_mode & S_IFMT != S_IFREG {
    throw .notARegularFile
  }
  let (temporary, descriptor) = try createTemporary(beside: path)
  do throws(SafetensorsError.Problem) {
    do throws(SafetensorsError.Problem) {
      try writeAll(bytes, to: descriptor)
      if fsync(descriptor) != 0 { throw systemProblem("write") }
    } catch {
      _ = close(descriptor)
      throw error
    }
    if close(descriptor) != 0 { throw systemProblem("write") }
    if unsafe rename(temporary, path) != 0 { throw systemProblem("write") }
  } catch {
    _ = unsafe unlink(temporary)
    throw error
  }
}

/// A new, empty file that nobody else has open, named after `path` and this process.
private func createTemporary(
  beside path: String
) throws(SafetensorsError.Problem) -> (path: String, descriptor: Int32) {
  for attempt in 0..<1000 {
    let temporary = "\(path).\(getpid())-\(attempt).tmp"
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor >= 0 { return (temporary, descriptor) }
    if errno != EEXIST { break }
  }
  throw systemProblem("write")
}

private func writeAll(
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
/// One line goes to standard error, and the process ends with `status`. Without this call the system
/// ends it without a line. For programs, not for libraries: the answer to a signal belongs to the whole process.
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

/// C strings end at the first NUL: a path that holds one would name another file.
private func checkPath(
  _ path: String, _ operation: String
) throws(SafetensorsError.Problem) {
  if path.utf8.contains(0) {
    throw .system(operation: operation, reason: "the path contains a NUL character")
  }
}

/// The system's last error as a problem.
private func systemProblem(_ operation: String) -> SafetensorsError.Problem {
  let code = errno
  let reason = unsafe strerror(code).map { unsafe String(cString: $0) }
  return .system(operation: operation, reason: reason ?? "error \(code)")
}
