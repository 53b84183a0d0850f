// Which model was it? A number that says whether two folders hold the same one.
//
// In:  a checkpoint folder.
// Out: FNV-1a over names and sizes of its files, the whole of small ones, and 256 evenly spaced
//      stretches of 4 KiB of large ones.
//
// A log is continued with the model that began it, and this hash tells: weights that were trained
// further differ in every stretch. It is not a signature and gives no protection against intent.

import Foundation
import Tensors

/// The hash of the model in `folder`, sixteen hexadecimal digits.
package func modelHash(folder: String) throws -> String {
  let (stretch, stretches) = (4096, 256)
  let names: [String]
  do {
    names = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
      $0 == "config.json" || $0.hasPrefix("tokenizer") || $0.hasSuffix(".safetensors")
    }.sorted()
  } catch {
    throw EvaluationError("\(folder): no folder that can be read")
  }
  var hash = fnv1a("lrqk model 1")
  for name in names {
    let path = "\(folder)/\(name)"
    // A folder or a pipe of such a name does not belong to the model.
    let file = URL(fileURLWithPath: path).resolvingSymlinksInPath()
    let kind = try? FileManager.default.attributesOfItem(atPath: file.path)[.type]
    if kind as? FileAttributeType != .typeRegular { continue }
    do {
      guard let file = FileHandle(forReadingAtPath: path) else {
        throw CocoaError(.fileReadUnknown)
      }
      defer { try? file.close() }
      let size = Int(try file.seekToEnd())
      hash = fnv1a(Array("\(name) \(size)\n".utf8), from: hash)
      let count = min(stretches, (size + stretch - 1) / stretch)
      for n in 0..<count {
        let last = max(0, size - stretch)
        try file.seek(toOffset: UInt64(count == 1 ? 0 : last / (count - 1) * n))
        hash = fnv1a([UInt8](try file.read(upToCount: stretch) ?? Data()), from: hash)
      }
    } catch {
      throw EvaluationError("\(path): cannot be read")
    }
  }
  return hexadecimal(hash)
}
