// A whole file in memory, if it is small enough.
//
// In:  a path and a limit in bytes.
// Out: the bytes, or a FileError: which file, why not.
//
// For the JSON files of a checkpoint. Tensors are not read this way: SafetensorsFile.swift maps.

/// A file that cannot be read or written.
public struct FileError: Error, Equatable, CustomStringConvertible {
  /// The path of the file.
  public let path: String

  /// Why not, and what to do.
  public let reason: String

  /// About the file at `path`.
  package init(path: String, reason: String) {
    self.path = path
    self.reason = reason
  }

  /// One line: which file, why not.
  public var description: String { "\(path): \(reason)" }
}

/// The bytes of the regular file at `path`, at most `limit` of them.
///
/// Throws where the system refuses, where it is no regular file, and where it is longer.
public func readFile(at path: String, limit: Int) throws(FileError) -> [UInt8] {
  let file = try mappedFile(at: path)
  if file.count > limit {
    throw FileError(path: path, reason: "\(file.count) bytes long, the limit is \(limit)")
  }
  return file.words(in: 0..<file.count) { (byte: UInt8) in byte }
}

/// The regular file at `path`, mapped.
func mappedFile(at path: String) throws(FileError) -> FileBytes {
  do {
    return try FileBytes(mapping: path)
  } catch {
    if case .notARegularFile = error { throw FileError(path: path, reason: "not a regular file") }
    throw FileError(path: path, reason: "\(error)")
  }
}

/// How a Git LFS pointer begins: a few lines of text that Git leaves in the place of a large file.
let gitLFSPointer = Array("version https://git-lfs.github.com/spec/v1".utf8)

/// What is said about a pointer, without the file's name.
package let gitLFSAdvice =
  "a Git LFS pointer, not the file itself; fetch the file (git lfs pull) or download it"

/// Whether a file that begins with `bytes` is a Git LFS pointer.
package func isGitLFSPointer(_ bytes: some Collection<UInt8>) -> Bool {
  bytes.starts(with: gitLFSPointer)
}
