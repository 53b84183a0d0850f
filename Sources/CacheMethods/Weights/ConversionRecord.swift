// What a conversion under way has finished: the file OUTPUT.part/conversion.json.
//
// In:  which conversion this is; the name of every shard that is written.
// Out: whether a shard is there as it was written; an error where another conversion was begun.
//
//   {"method": "lorc:max=75%,...", "source_hash": "...", "format": "F32",
//    "calibration": "none", "calibration_file": "none",
//    "shards": {"model-00001-of-00003.safetensors": "0123456789abcdef", ...}}
//
// A shard counts as long as its bytes have the hash that they had when it was written. One that is
// damaged, or that no entry names because the process ended in between, is made again.

import Tensors

/// conversion.json of one folder.
struct ConversionRecord {
  /// What it is called.
  static let name = "conversion.json"
  private static let shardsKey = "shards"

  private let folder: String
  private let identity: [JSONValue.Member]
  private var shards: [JSONValue.Member] = []

  /// Where it is.
  private var path: String { "\(folder)/\(Self.name)" }

  /// Reads what `folder` has, or begins it; `identity` says which conversion this is.
  init(in folder: String, identity: [JSONValue.Member]) throws {
    (self.folder, self.identity) = (folder, identity)
    if !fileExists(at: path) { try write() }
    let found = try? JSONValue(parsing: try readFile(at: path, limit: 1 << 24), depthLimit: 4)
    let members = found?.objectValue ?? []
    let own = members.filter { $0.key != Self.shardsKey }
    if JSONValue.object(own).text != JSONValue.object(identity).text {
      throw MethodError(
        "\(folder) holds part of another conversion: another method, source, format or texts; "
          + "remove it, or choose another folder")
    }
    shards = members.first { $0.key == Self.shardsKey }?.value.objectValue ?? []
  }

  /// Whether the shard `name` is there as it was written.
  func holds(_ name: String) -> Bool {
    guard let noted = shards.first(where: { $0.key == name })?.value.stringValue,
      let hash = try? fnv1a(ofFile: "\(folder)/\(name)")
    else { return false }
    return hexadecimal(hash) == noted
  }

  /// Notes that the shard `name` is written.
  mutating func note(_ name: String) throws {
    let hash = hexadecimal(try fnv1a(ofFile: "\(folder)/\(name)"))
    shards.removeAll { $0.key == name }
    shards.append(.init(name, .string(hash)))
    try write()
  }

  private func write() throws {
    let members = identity + [.init(Self.shardsKey, .object(shards))]
    try writeFile(JSONValue.object(members).fileText.utf8, to: path)
  }
}
