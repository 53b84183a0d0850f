// The tensors of a model's folder, each found once and checked before it is used.
//
// In:  model.safetensors, or model.safetensors.index.json and the shards that it names.
// Out: matrices that stay in their files, and vectors of Float, by name and expected shape.
//
// Where both are there, the single file is taken, as the library transformers does: tools that
// convert a model write both, and an index of shards that were never downloaded is common. A note
// says so, unless the index names the single file itself.
//
// The index says which shard has which tensor. Its origin is unknown, so a shard is a plain file
// name (a symbolic link is followed; a path is refused), and index and shards must agree in both
// directions. DecoderWeights.swift asks for every tensor of the model; `finish` then refuses what
// is left: a tensor without a place means that the configuration describes another model.

import Foundation
public import Tensors

/// Tensors by name, from one file or several.
struct Checkpoint {
  /// The longest index that is read, in bytes.
  static let indexLimit = 32_000_000

  private let folder: String
  private let files: [SafetensorsFile]
  /// The file of each tensor.
  private let places: [String: Int]
  private var taken: Set<String> = []
  /// What has been taken so far.
  private(set) var size = WeightSize()
  /// Bytes of the matrices among it.
  private(set) var matrixBytes = 0
  /// What a user should know about where the weights were found, a line each.
  let notes: [String]

  /// Opens the weights of the model in `folder` and checks that files and index agree.
  init(folder: String) throws {
    self.folder = folder
    let whole = "\(folder)/model.safetensors"
    let index = "\(folder)/model.safetensors.index.json"
    if Self.isThere(whole) {
      let file = try Self.open(whole)
      files = [file]
      places = Dictionary(uniqueKeysWithValues: file.names.map { ($0, 0) })
      notes = Self.isThere(index) ? Self.disagreement(folder, index) : []
    } else if Self.isThere(index) {
      (files, places) = try Self.openShards(folder, index)
      notes = []
    } else {
      throw CheckpointError(
        file: folder, problem: .noWeights(CheckpointFolder.missingWeights(folder)))
    }
  }

  /// What is said where the index at `path` names other files than model.safetensors, which is
  /// taken.
  private static func disagreement(_ folder: String, _ path: String) -> [String] {
    let taken = "\(folder): model.safetensors is taken; model.safetensors.index.json"
    guard let map = try? weightMap(path) else { return ["\(taken) cannot be read and is ignored"] }
    let others = Set(map.map(\.shard)).subtracting(["model.safetensors"]).sorted()
    guard let first = others.first else { return [] }
    let missing = others.count { !isThere("\(folder)/\($0)") }
    let found = missing == 0 ? "also there" : "\(missing) of them not there"
    return [
      "\(taken) names \(others.count) other file\(others.count == 1 ? "" : "s") "
        + "(\(shown(first)), ...; \(found)) and is ignored"
    ]
  }

  /// A file of weights.
  ///
  /// A format of tensors that weights cannot have is said to be just that.
  private static func open(_ path: String) throws -> SafetensorsFile {
    do {
      return try SafetensorsFile(path: path)
    } catch {
      switch error.problem {
      case .unsupportedFormat(let tensor, let dtype), .unknownFormat(let tensor, let dtype):
        throw CheckpointError(
          file: path, problem: .unsupportedFormat(tensor: tensor, dtype: dtype))
      default: throw error
      }
    }
  }

  /// Whether a folder lists this file, if only as a link that leads nowhere.
  private static func isThere(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: path)
      || (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) != nil
  }

  /// The entries of the index at `path`: {"metadata": {...}, "weight_map": {tensor: shard}}.
  private static func weightMap(
    _ path: String
  ) throws(CheckpointError) -> [(tensor: String, shard: String)] {
    func fault(_ problem: CheckpointError.Problem) -> CheckpointError {
      CheckpointError(file: path, problem: problem)
    }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: try readFile(at: path, limit: indexLimit), depthLimit: 8)
    } catch let error as FileError {
      throw fault(.unreadable(error))
    } catch let error as JSONSyntaxError {
      throw fault(.syntax(error))
    } catch {
      preconditionFailure("reading a file throws one of the two: \(error)")
    }
    let members = json.objectValue ?? []
    if let other = members.first(where: { $0.key != "metadata" && $0.key != "weight_map" }) {
      throw fault(.badIndex("unknown key \(shown(other.key)) beside metadata and weight_map"))
    }
    guard let map = json["weight_map"]?.objectValue else {
      throw fault(.badIndex("weight_map is not an object of tensor and shard names"))
    }
    var entries: [(tensor: String, shard: String)] = []
    for member in map {
      guard let shard = member.value.stringValue else {
        throw fault(.badIndex("the shard of tensor \(shown(member.key)) is not a string"))
      }
      if !isPlainFileName(shard) {
        throw fault(.badShardName(tensor: member.key, shard: shard))
      }
      entries.append((member.key, shard))
    }
    return entries
  }

  /// The files of the index at `path` and the place of every tensor.
  private static func openShards(
    _ folder: String, _ path: String
  ) throws -> ([SafetensorsFile], [String: Int]) {
    func fault(_ problem: CheckpointError.Problem) -> CheckpointError {
      CheckpointError(file: path, problem: problem)
    }
    // 1. The index.
    let map = try weightMap(path)
    var shards: [String: Int] = [:]
    var names: [String] = []
    var places: [String: Int] = [:]
    for (tensor, shard) in map {
      if shards[shard] == nil {
        shards[shard] = names.count
        names.append(shard)
      }
      if places.updateValue(shards[shard] ?? 0, forKey: tensor) != nil {
        throw fault(.badIndex("tensor \(shown(tensor)) is there twice"))
      }
    }
    // 2. Every shard has what the index says, and nothing else.
    let files = try names.map { try open("\(folder)/\($0)") }
    for (tensor, _) in map {
      let place = places[tensor] ?? 0
      if !files[place].contains(tensor) {
        throw fault(.notInShard(tensor: tensor, shard: names[place]))
      }
    }
    for (place, file) in files.enumerated() {
      for name in file.names where places[name] != place {
        throw fault(.notInIndex(tensor: name, shard: names[place]))
      }
    }
    return (files, places)
  }

  /// Whether `name` is a .safetensors file of the same folder, without a path.
  private static func isPlainFileName(_ name: String) -> Bool {
    let bytes = name.utf8
    return bytes.count > 12 && bytes.count <= 255 && !bytes.contains(0)
      && !bytes.contains(UInt8(ascii: "/")) && !bytes.contains(UInt8(ascii: "\\"))
      && bytes.elementsEqual((name.dropLast(12) + ".safetensors").utf8)
  }

  /// Names of all tensors, in the order of their bytes.
  var names: [String] { places.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }

  /// A tensor of any shape, with the format of its elements; it does not count as taken.
  func stored(_ name: String) throws -> (tensor: Tensor<Float>, format: StorageFormat) {
    guard let place = places[name] else {
      throw CheckpointError(file: folder, problem: missing(name))
    }
    return (try files[place].tensor(name), try files[place].format(of: name))
  }

  /// Whether there is a tensor of this name.
  func contains(_ name: String) -> Bool { places[name] != nil }

  /// A matrix (rows, columns), left in its file.
  mutating func matrix(_ name: String, _ rows: Int, _ columns: Int) throws -> StoredMatrix {
    let matrix = try take(name, [rows, columns]).matrix(name)
    matrixBytes += matrix.bytes
    return matrix
  }

  /// A matrix that the files hold a second time; it does not count.
  mutating func copy(_ name: String, _ rows: Int, _ columns: Int) throws -> StoredMatrix {
    let before = size
    defer { size = before }
    return try take(name, [rows, columns]).matrix(name)
  }

  /// A vector of `count` elements.
  mutating func vector(_ name: String, _ count: Int) throws -> [Float] {
    try take(name, [count]).tensor(name, as: Float.self).elements
  }

  /// A tensor of this shape; it counts as a matrix that every step multiplies with.
  mutating func tensor(_ name: String, _ shape: [Int]) throws -> Tensor<Float> {
    let file = try take(name, shape)
    matrixBytes += shape.reduce(try file.format(of: name).byteWidth, *)
    return try file.tensor(name)
  }

  /// The file of a tensor of this shape and of a format that weights may have.
  private mutating func take(_ name: String, _ shape: [Int]) throws -> SafetensorsFile {
    guard let place = places[name] else {
      throw CheckpointError(file: folder, problem: missing(name))
    }
    let file = files[place]
    let found = try file.shape(of: name)
    if found != shape {
      throw CheckpointError(
        file: file.path, problem: .wrongShape(tensor: name, found: found, expected: shape))
    }
    let format = try file.format(of: name)
    switch format {
    case .float32, .float16, .bfloat16: break
    default:
      throw CheckpointError(
        file: file.path, problem: .unsupportedFormat(tensor: name, dtype: format.rawValue))
    }
    if taken.insert(name).inserted {
      let count = shape.reduce(1, *)  // the file has as many elements: no overflow
      size.parameters += count
      size.bytes += count * format.byteWidth
      size.formats.insert(format)
    }
    return file
  }

  /// What is wrong where there is no tensor `name`: quantised weights have other names.
  private func missing(_ name: String) -> CheckpointError.Problem {
    if name.hasSuffix(".weight") {
      let stem = name.dropLast("weight".utf8.count)
      for part in ["qweight", "weight_packed", "weight_quant", "scales"]
      where contains(stem + part) {
        return .quantised(tensor: name, part: stem + part)
      }
    }
    return .missingTensor(name)
  }

  /// Refuses tensors that have not been taken.
  ///
  /// One kind is known and left aside: the frequencies of RoPE, which older versions of the library
  /// stored with every layer. They follow from the configuration.
  func finish() throws(CheckpointError) {
    for file in files {
      for name in file.names
      where !taken.contains(name) && !name.hasSuffix("rotary_emb.inv_freq") {
        throw CheckpointError(file: file.path, problem: .extraTensor(name))
      }
    }
  }
}

/// How large the weights of a model are.
public struct WeightSize: Sendable, Equatable {
  /// Elements of all tensors.
  public internal(set) var parameters = 0
  /// Bytes of all tensors in their files.
  public internal(set) var bytes = 0
  /// The formats that occur.
  public internal(set) var formats: Set<StorageFormat> = []
}
