// Where a conversion is written, and what may be in the way.
//
// In:  OUTPUT, a folder to come, and OUTPUT.part, which an earlier run may have left.
// Out: nothing; or one line before any work begins.
//
// Nothing that the conversion did not write becomes part of a checkpoint, and nothing of a user's
// is removed: OUTPUT must not be there, not even empty, and OUTPUT.part has own files alone.

import Foundation
import Tensors
import Transformers

extension Conversion {
  /// Throws where the output cannot be made: it is there, or the folder that it lies in is not.
  package func checkOutput() throws {
    if fileExists(at: output) {
      throw MethodError("\(output) is there already; choose another folder, or remove it")
    }
    let place = output.lastIndex(of: "/").map { String(output[..<$0]) } ?? "."
    if !place.isEmpty && !fileExists(at: "\(place)/.") {
      throw MethodError(
        fileExists(at: place)
          ? "\(output) cannot be made: \(place) is no folder; choose another one"
          : "\(place) does not exist; make it, or choose another folder for \(output)")
    }
    if fileExists(at: part) && !fileExists(at: "\(part)/.") {
      throw MethodError(
        "\(part) is no folder, and the conversion is written there first; remove it, or choose "
          + "another folder")
    }
  }

  /// Throws where OUTPUT.part has a file that this conversion does not write.
  func checkContents() throws {
    let own = Set(
      shards + [ConversionRecord.name, "config.json", "model.safetensors.index.json"]
        + (try companionFiles(in: folder).map(\.name)))
    // What a process that was ended has left of a file is removed when the file is written again.
    let unfinished = own.map { $0 + ".lrqk-" }
    for name in try FileManager.default.contentsOfDirectory(atPath: part).sorted()
    where !own.contains(name)
      && !(name.hasSuffix(".tmp") && unfinished.contains(where: name.hasPrefix))
    {
      throw MethodError(
        "\(part)/\(name) is no file of this conversion and would become part of the checkpoint; "
          + "move it away, or choose another folder")
    }
  }
}
