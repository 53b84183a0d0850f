// The files of one command: no output may be an input or another output.
//
// In:  what a command reads and what it is going to write, each with the option that names it.
// Out: nothing; or an error before any work begins, as long as everything is still there.
//
// Files are the same when the system says so, whatever they are called: by device and number where
// they exist (hard links, symbolic links and ./ make no difference), by folder and last name where
// they do not exist yet. Standard output counts as an output where it goes into a file, standard
// input as an input where the command reads it.
//
// The second check finds an output that cannot be written: after hours of work would be too late.

import ArgumentParser
import Foundation
import Glibc
import Tensors

/// What a command reads and writes.
struct CommandFiles {
  private struct Use {
    /// "--output out.safetensors".
    let name: String
    let path: String
    let file: FileIdentity?
  }

  private var inputs: [Use] = []
  private var outputs: [Use] = []
  private var folders: [String] = []

  /// Adds a file that is read, or standard input for `-`; nil adds nothing.
  mutating func reads(_ path: String?, _ option: String) {
    guard let path else { return }
    if isStandardInput(path) { return readsStandardInput() }
    inputs.append(Use(name: "\(option) \(path)", path: path, file: FileIdentity(path)))
  }

  /// Adds the files in a model's folder.
  mutating func readsModel(_ folder: String) { folders.append(folder) }

  /// Adds standard input.
  mutating func readsStandardInput() {
    inputs.append(Use(name: "standard input", path: "", file: FileIdentity(descriptor: 0)))
  }

  /// Adds a file that is written; nil adds nothing.
  mutating func writes(_ path: String?, _ option: String) {
    guard let path else { return }
    outputs.append(Use(name: "\(option) \(path)", path: path, file: FileIdentity(path)))
  }

  /// Requires that every output is a file of its own.
  func checkThatNothingIsReplaced() throws(ValidationError) {
    if let output = outputs.first(where: { $0.path == "-" }) {
      throw ValidationError(
        "\(output.name): a file is written, not standard output; for a file of that name write ./-")
    }
    for folder in folders where !outputs.isEmpty {
      let output = outputs.first { output in
        modelExtensions.contains { output.path.hasSuffix($0) }
          && output.file?.isNew(in: folder) == true
      }
      if let output {
        throw ValidationError(
          "\(output.name): a file of this kind in the model's folder would be read as part of the "
            + "model; choose another folder")
      }
      let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
      let held = Set(names.compactMap { FileIdentity("\(folder)/\($0)") })
      if let output = outputs.first(where: { $0.file.map(held.contains) ?? false }) {
        throw ValidationError("\(output.name): the model's folder has this file; choose another")
      }
    }
    for (n, output) in outputs.enumerated() {
      guard let file = output.file else { continue }
      if let other = (inputs + outputs[..<n]).first(where: { $0.file == file }) {
        throw ValidationError("\(output.name): this is the file of \(other.name); choose another")
      }
    }
    for (descriptor, stream) in [(1, "standard output"), (2, "standard error")] as [(Int32, String)]
    {
      guard let shown = FileIdentity(descriptor: descriptor) else { continue }
      if let other = (inputs + outputs).first(where: { $0.file == shown }) {
        throw ValidationError("\(stream) goes into the file of \(other.name); choose another")
      }
    }
  }

  /// Requires that every output can be written: a regular file, or a new one in a folder that takes
  /// it.
  func checkThatOutputsCanBeWritten() throws(InputError) {
    for output in outputs {
      if output.path.isEmpty { throw InputError("\(output.name)is empty; name a file") }
      var information = stat()
      if unsafe stat(output.path, &information) == 0, information.st_mode & S_IFMT != S_IFREG {
        throw InputError("\(output.name): cannot write: not a regular file; name one")
      }
      let folder = FileIdentity.folder(of: output.path)
      if unsafe access("\(folder)/.", W_OK | X_OK) != 0 {
        throw InputError(
          "\(output.name): cannot write into the folder \(folder): \(systemReason(errno))")
      }
    }
  }

  /// Runs both checks: nothing is replaced, and every output can be written.
  func check() throws {
    try checkThatNothingIsReplaced()
    try checkThatOutputsCanBeWritten()
  }
}

/// Ends of the names that a model's folder is read by.
private let modelExtensions = [".json", ".jinja", ".safetensors", ".model"]

/// Which file it is.
private enum FileIdentity: Hashable {
  /// A regular file: its device and its number there.
  case file(device: UInt, number: UInt)
  /// A file to come: its folder and its name.
  case toCome(device: UInt, number: UInt, name: String)

  /// Whether there is no such file yet, and `folder` is where it would be.
  func isNew(in folder: String) -> Bool {
    var information = stat()
    guard case .toCome(let device, let number, _) = self, unsafe stat(folder, &information) == 0
    else { return false }
    return device == UInt(information.st_dev) && number == UInt(information.st_ino)
  }

  /// The file at `path`; nil for folders, pipes and devices, which nothing replaces, and where
  /// there is not even a folder.
  init?(_ path: String) {
    var path = path
    var information = stat()
    if unsafe stat(path, &information) == 0 {
      self.init(information)
      return
    }
    // A symbolic link to nothing stands for the file that it names.
    for _ in 0..<40 {
      guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else {
        break
      }
      path = target.hasPrefix("/") ? target : "\(Self.folder(of: path))/\(target)"
    }
    guard unsafe stat(Self.folder(of: path), &information) == 0 else { return nil }
    self = .toCome(
      device: UInt(information.st_dev), number: UInt(information.st_ino),
      name: path.split(separator: "/").last.map(String.init) ?? "")
  }

  /// The file that an open stream goes to or comes from; nil where it is none.
  init?(descriptor: Int32) {
    var information = stat()
    guard unsafe fstat(descriptor, &information) == 0 else { return nil }
    self.init(information)
  }

  private init?(_ information: stat) {
    guard information.st_mode & S_IFMT == S_IFREG else { return nil }
    self = .file(device: UInt(information.st_dev), number: UInt(information.st_ino))
  }

  /// The folder in which `path` stands.
  static func folder(of path: String) -> String {
    var path = path[...]
    while path.count > 1 && path.last == "/" { path.removeLast() }
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
