// A conversion: from one folder to another, layer by layer, and on from where it stopped.
//
// In:  a checkpoint's folder, a weight method, texts where it wants them; a folder to come.
// Out: that folder, whole: config.json, an index and its shards, the tokenizer's files.
//
//   OUTPUT.part/                       while it is made
//     conversion.json                  which conversion this is, and what is done
//                                      (ConversionRecord.swift); another one is refused
//     model-00001-of-NNNNN.safetensors one layer a shard, written when the layer is done
//     ...                              the last shard: embedding, norm, output matrix
//   OUTPUT/                            .part renamed, after the decoder has opened it
//
// A shard is there completely or not at all, and says in its metadata what form its layer has. So a
// conversion that was stopped goes on with the layers that are missing or damaged. New tensors are
// stored in `format`; everything else keeps the source's. ConversionOutput.swift says what may be
// in the way.

import Foundation
package import Tensors
package import Transformers

/// One conversion of a checkpoint's folder into another folder.
package struct Conversion {
  /// How the layers are converted.
  package let method: any WeightMethod
  /// The source's folder.
  package let folder: String
  /// The hash of its content.
  package let hash: String
  /// The folder to be made.
  package let output: String
  /// The format of new tensors.
  package let format: StorageFormat
  private let decoder: Decoder
  private let source: ConversionSource

  /// A conversion of the model in `folder`, opened as `decoder`; nothing is written yet.
  package init(
    _ method: any WeightMethod, of decoder: Decoder, folder: String, hash: String, output: String,
    format: StorageFormat
  ) throws {
    (self.method, self.folder, self.hash) = (method, folder, hash)
    (self.output, self.format, self.decoder) = (output, format, decoder)
    source = try ConversionSource(decoder)
    try method.calibrationFile?.check(model: hash)
    for layer in source.layers { _ = try method.gatherer(of: layer) }
  }

  /// Whether the method wants to see texts.
  package var isCalibrated: Bool { (try? source.isCalibrated(method)) ?? false }

  private var layers: Int { source.layers.count }
  /// The folder while it is made.
  var part: String { output + ".part" }
  /// The names of all shards.
  var shards: [String] { (0...layers).map(shard) }
  private func shard(_ n: Int) -> String {
    func five(_ n: Int) -> String {
      String(repeating: "0", count: max(0, 5 - "\(n)".count)) + "\(n)"
    }
    return "model-\(five(n + 1))-of-\(five(layers + 1)).safetensors"
  }

  /// Converts what is not converted yet, and gives the folder its name.
  ///
  /// `stretches` are the tokens of calibration texts; `progress` hears how many tokens were seen.
  package func run(
    stretches: [[Int]], progress: (Int) -> Void = { _ in }
  ) throws -> ConversionReport {
    try checkOutput()
    guard let lock = try FileLock.take(at: part + ".lock") else {
      throw MethodError("\(output): another process converts into this folder")
    }
    return try withExtendedLifetime(lock) {
      try makeFolder(part)
      try checkContents()
      var record = try ConversionRecord(in: part, identity: try identity(stretches))
      do {
        try convertMissing(stretches, &record, progress)
      } catch {
        // A method that refuses the model leaves no folder behind.
        if !(0..<layers).contains(where: { fileExists(at: "\(part)/\(shard($0))") }) {
          try? FileManager.default.removeItem(atPath: part)
        }
        throw error
      }
      try writeRest(&record)
      try finish()
      let report = try report(of: try Decoder(folder: part))
      try checkContents()
      try FileManager.default.removeItem(atPath: "\(part)/\(ConversionRecord.name)")
      try FileManager.default.moveItem(atPath: part, toPath: output)
      return report
    }
  }

  /// Which conversion this is: whatever its shards depend on.
  private func identity(_ stretches: [[Int]]) throws -> [JSONValue.Member] {
    let texts = stretches.map { $0.map(String.init).joined(separator: " ") }
    let seen = isCalibrated ? hexadecimal(fnv1a(texts.joined(separator: "\n"))) : "none"
    let file = try method.calibrationFile.map { hexadecimal(try fnv1a(ofFile: $0.path)) } ?? "none"
    return [
      .init("method", .string("\(method)")), .init("source_hash", .string(hash)),
      .init("format", .string(format.rawValue)), .init("calibration", .string(seen)),
      .init("calibration_file", .string(file)),
    ]
  }

  /// The shards of layers that have none yet.
  private func convertMissing(
    _ stretches: [[Int]], _ record: inout ConversionRecord, _ progress: (Int) -> Void
  ) throws {
    let missing = (0..<layers).filter { !record.holds(shard($0)) }
    if missing.isEmpty { return }
    var source = source
    try source.gather(for: method, stretches, progress: progress)
    let conversion = try method.prepare(source)
    let stored = try StoredTensors(folder: folder)
    for layer in missing {
      let converted = try conversion.convert(layer)
      let name = "model.layers.\(layer)."
      var writer = SafetensorsWriter(metadata: [
        "format": "pt", "form": converted.form.json.text, "key_error": "\(converted.keyError)",
        "value_error": "\(converted.valueError)",
      ])
      for (part, tensor) in converted.tensors {
        try writer.add("\(name)self_attn.\(part)", tensor, as: format)
      }
      try addKept(converted.kept, layer, &writer)
      for other in stored.names
      where other.hasPrefix(name) && !other.hasPrefix("\(name)self_attn.") {
        let (tensor, format) = try stored.tensor(other)
        try writer.add(other, tensor, as: format)
      }
      try writer.write(to: "\(part)/\(shard(layer))")
      try record.note(shard(layer))
    }
  }

  /// What stays of a layer's attention, fused matrices taken apart.
  private func addKept(
    _ kept: Set<ConvertedLayer.Part>, _ layer: Int, _ writer: inout SafetensorsWriter
  ) throws {
    let (weights, name) = (source.layers[layer], "model.layers.\(layer).self_attn")
    for part in ConvertedLayer.Part.allCases where kept.contains(part) {
      let own =
        switch part {
        case .query: weights.query
        case .key: weights.key
        case .value: weights.value
        case .output: weights.output
        }
      try writer.add("\(name).\(part.rawValue).weight", own.loaded, as: own.matrix.format)
      if let bias = own.bias {
        try writer.add(
          "\(name).\(part.rawValue).bias", Tensor(shape: [bias.count], elements: bias),
          as: .float32)
      }
    }
    for (norm, own) in [("q_norm", weights.queryNorm), ("k_norm", weights.keyNorm)] {
      guard let own else { continue }
      try writer.add(
        "\(name).\(norm).weight", Tensor(shape: [own.count], elements: own), as: .float32)
    }
  }

  /// The last shard: what belongs to no layer.
  private func writeRest(_ record: inout ConversionRecord) throws {
    let rest = shard(layers)
    if record.holds(rest) { return }
    let stored = try StoredTensors(folder: folder)
    var writer = SafetensorsWriter(metadata: ["format": "pt"])
    for name in stored.names where !name.hasPrefix("model.layers.") {
      let (tensor, format) = try stored.tensor(name)
      try writer.add(name, tensor, as: format)
    }
    try writer.write(to: "\(part)/\(rest)")
    try record.note(rest)
  }

  /// The metadata of a layer's shard: its form and how far it is off.
  private func form(of layer: Int) throws -> (json: JSONValue, errors: [Double]) {
    let file = try SafetensorsFile(path: "\(part)/\(shard(layer))")
    guard let text = file.metadata["form"],
      let key = file.metadata["key_error"].flatMap(Double.init),
      let value = file.metadata["value_error"].flatMap(Double.init)
    else { throw MethodError("\(file.path) is no layer of a conversion; remove it") }
    return (try JSONValue(parsing: Array(text.utf8), depthLimit: 8), [key, value])
  }

  /// The index, config.json and the files beside them.
  private func finish() throws {
    // 1. The index, over all shards.
    var map: [(String, String)] = []
    var bytes = 0
    for n in 0...layers {
      let file = try SafetensorsFile(path: "\(part)/\(shard(n))")
      for name in file.names {
        map.append((name, shard(n)))
        bytes += try file.format(of: name).byteCount(shape: try file.shape(of: name)) ?? 0
      }
    }
    map.sort { $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }
    let index = JSONValue.object([
      .init("metadata", .object([.init("total_size", .integer(bytes))])),
      .init("weight_map", .object(map.map { .init($0.0, .string($0.1)) })),
    ])
    try writeFile(index.fileText.utf8, to: "\(part)/model.safetensors.index.json")
    // 2. config.json: the source's, of another class, and what was done.
    let forms = try (0..<layers).map { try form(of: $0) }
    let limit = 4_000_000
    let config = try JSONValue(
      parsing: try readFile(at: "\(folder)/config.json", limit: limit), depthLimit: 16)
    let replaced = ["architectures", "model_type", "auto_map", ConvertedAttention.key]
    let name = URL(fileURLWithPath: folder).standardizedFileURL.lastPathComponent
    let converted = JSONValue.object([
      .init("family", .string(decoder.configuration.family.rawValue)),
      .init("method", .string("\(method)")), .init("source", .string(name)),
      .init("source_hash", .string(hash)), .init("layers", .array(forms.map(\.json))),
    ])
    let members =
      [
        JSONValue.Member("architectures", .array([.string(ConvertedAttention.architecture)])),
        .init("model_type", .string("converted")),
      ] + (config.objectValue ?? []).filter { !replaced.contains($0.key) }
      + [.init(ConvertedAttention.key, converted)]
    try writeFile(JSONValue.object(members).fileText.utf8, to: "\(part)/config.json")
    // 3. The tokenizer and its like.
    for file in try companionFiles(in: folder) {
      try writeFile(file.bytes, to: "\(part)/\(file.name)")
    }
  }

  /// What the conversion came to, the folder being opened as `decoder`.
  private func report(of converted: Decoder) throws -> ConversionReport {
    let (shape, shapes) = (source.layers[0].shape, converted.layerShapes)
    return ConversionReport(
      method: "\(method)", layers: converted.configuration.conversion?.layers ?? [],
      errors: try (0..<layers).map { try form(of: $0).errors },
      numbersBefore: 2 * shape.keyValueHeads * shape.width,
      numbersInRows: shapes.reduce(0) { $0 + 2 * $1.keyValueHeads * $1.width },
      withoutFactors: shapes.indices.filter { shapes[$0].factors == nil })
  }
}

/// What a conversion came to.
package struct ConversionReport: Sendable {
  /// The text of the method.
  package let method: String
  /// The form of every layer.
  package let layers: [ConvertedForm]
  /// How far keys and values of every layer are off, relative.
  package let errors: [[Double]]
  /// Numbers that a token left in a layer's cache before.
  package let numbersBefore: Int
  /// Numbers that a token leaves in all layers of the new model under `full`.
  package let numbersInRows: Int
  /// Layers that `factored` cannot hold; with one of them it cannot hold the model.
  package let withoutFactors: [Int]

  /// Numbers of the forms of all layers: what a token leaves where they can be held.
  package var numbersAfter: Int { layers.reduce(0) { $0 + $1.cachedNumbers } }

  /// The sentence for a model whose forms no cache can hold; nil where one can.
  package var warning: String? {
    if withoutFactors.isEmpty || numbersInRows <= numbersAfter { return nil }
    let list = withoutFactors.map(String.init).joined(separator: ", ")
    return
      "no cache can hold them so yet: there is a sliding window, or RoPE that changes with the "
      + "length, in layer\(withoutFactors.count == 1 ? "" : "s") \(list), which factored refuses; "
      + "full holds \(numbersInRows) of \(numbersBefore * layers.count)"
  }
}
