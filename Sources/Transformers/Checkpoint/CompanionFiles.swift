// The files of a checkpoint's folder that are neither weights nor config.json.
//
// In:  a folder.
// Out: those that belong to the model whatever becomes of its weights: the tokenizer's, the chat
//      template, how to generate. Everything else (README, other formats, code) stays behind.

import Foundation
import Tensors

/// Names and bytes of the files in `folder` that a model made of this one takes along, in order.
package func companionFiles(in folder: String) throws -> [(name: String, bytes: [UInt8])] {
  let beginnings = [
    "tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "generation_config",
    "chat_template",
  ]
  let ends = [".model", ".jinja"]
  return try FileManager.default.contentsOfDirectory(atPath: folder).sorted().compactMap { name in
    let path = "\(folder)/\(name)"
    guard beginnings.contains(where: name.hasPrefix) || ends.contains(where: name.hasSuffix),
      fileExists(at: path), !fileExists(at: "\(path)/.")
    else { return nil }
    return (name, try readFile(at: path, limit: 1 << 28))
  }
}
