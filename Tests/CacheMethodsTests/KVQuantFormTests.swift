// rows=kvquant3:FILE: a method over the form is the method over what the form gives back, keys
// rotated when they are read.

import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

@testable import CacheMethods

/// What a calibration of `rows` would say, as the tensors of a file.
private func calibration(_ rows: Rows, bits: Int, sparsity: Double) -> [String: Tensor<Double>] {
  let statics = KVQuantStatics(
    keys: sideBySide(rows.keysBefore), values: sideBySide(rows.values),
    KVQuantScheme(
      bits: bits, sparsity: sparsity, codebook: .kmeans, hasNorm: false, isCapped: true,
      keysPerToken: false))
  let shape = [rows.layer.M, rows.layer.d]
  func tensor(_ numbers: [Float], _ shape: [Int]) -> Tensor<Double> {
    Tensor(shape: shape, elements: numbers.map(Double.init))
  }
  return [
    "lower": tensor(statics.keyRanges.map(\.low), shape),
    "upper": tensor(statics.keyRanges.map(\.high), shape),
    "key_codebook_\(bits)": tensor(statics.keys.table, [1 << bits]),
    "value_codebook_\(bits)": tensor(statics.values.table, [1 << bits]),
  ]
}

/// The rows that `form` gives back.
private func readBack(_ rows: Rows, _ form: any RowForm) throws -> Rows {
  var back = rows
  let packing = RowPacking(form, width: rows.layer.d)
  for m in rows.keys.indices {
    let (K, V) = (rows.keysBefore[m], rows.values[m])
    back.keys[m] = packing.rows(
      .key, of: try packing.pack(.key, K.elements.span, head: m, first: 0), head: m)
    back.values[m] = packing.rows(
      .value, of: try packing.pack(.value, V.elements.span, head: m, first: 0), head: m)
  }
  return back
}

@Suite struct KVQuantFormTests {
  @Test(
    arguments: [
      "full", "offload", "topk:k=9,w=4", "quest:k=8,w=4,page=4", "snapkv:budget=12,window=4",
      "h2o:budget=12", "lrqk:preset=paper,r=4,k=9,w=4", "lrqk:preset=recommended,r=4,k=9,w=4",
    ], [Layer(4, 2, 16), Layer(3, 3, 20, window: 17)])
  func `a method over the form is the method over what it gives back`(
    _ text: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    let applies = try cacheMethod(text).applies(to: layer.shape)
    if !layer.takes(text) || !applies { return }
    let tensors = calibration(rows, bits: 3, sparsity: 0.99)
    try withCalibration("kvquant", tensors, options: ["sparsity": "0.99"]) { path in
      let format = "rows=kvquant3:\(path)"
      let method = try cacheMethod(text + (text.contains(":") ? "," : ":") + format)
      #expect(try cacheMethod(method.description).description == method.description)
      #expect(method.calibrationFiles.map(\.path) == [path])
      let form = try #require(
        try RowFormat(text: "kvquant3:\(path)")?.form(for: layer.shape))
      for prompt in [25, 3] {
        let run = try Run(method.description, rows, prompt: prompt)
        let exact = try Run(text, try readBack(rows, form), prompt: prompt)
        let bytes = RowPart.allCases.reduce(0) { $0 + form.words($1, width: layer.d) * 4 }
        for (step, other) in zip(run.steps, exact.steps) {
          #expect(step.attended == other.attended)
          #expect(step.attention == other.attention)
        }
        for event in run.events where event.reason.isWholeRows {
          #expect(event.bytes == event.rows * bytes)
        }
        let sizes = method.bytes(tokens: prompt, layer: layer.shape)
        if !sizes.isUpperBound {
          #expect(run.residentBytes[0] == sizes.device && run.hostBytes[0] == sizes.host)
        }
      }
    }
  }

  @Test(arguments: [2, 3, 4, 5], [0.99, 0.7, 1])
  func `outliers in their slots are exact, other numbers are the method's levels`(
    _ bits: Int, _ sparsity: Double
  ) throws {
    let layer = Layer(4, 2, 18)
    let rows = Rows(layer, tokens: 30)
    var tensors = calibration(rows, bits: bits, sparsity: sparsity)
    tensors["unused"] = nil
    try withCalibration("kvquant", tensors, options: ["sparsity": "\(sparsity)"]) { path in
      let file = try CalibrationFile(path: path, method: "kvquant")
      let unrotated = layer.unrotated
      let form = try KVQuantForm(
        "kvquant", bits: bits, sparsity: sparsity, file, unrotated)
      let statics = try KVQuantStatics(
        file, of: unrotated,
        KVQuantScheme(
          bits: bits, sparsity: sparsity, codebook: .kmeans, hasNorm: false, isCapped: true,
          keysPerToken: false))
      let packing = RowPacking(form, width: 18)
      for m in 0..<2 {
        let (keys, values) = (rows.keys[m], rows.values[m])
        let K = packing.rows(
          .key, of: try packing.pack(.key, keys.elements.span, head: m, first: 0), head: m)
        let V = packing.rows(
          .value, of: try packing.pack(.value, values.elements.span, head: m, first: 0), head: m)
        for t in 0..<30 {
          let (key, value) = (rows.keys[m].row(t), rows.values[m].row(t))
          let ranges = Array(statics.keyRanges[m * 18..<(m + 1) * 18])
          let slots = form.slots(.key, width: 18)
          let apart = sparsity == 1 ? [] : outsideColumns(key, ranges, cap: slots / 2)
          let (range, out) = tokenRange(value, sparsity: sparsity == 1 ? nil : sparsity)
          #expect(apart.count <= slots && out.count <= form.slots(.value, width: 18))
          for c in 0..<18 {
            #expect(
              K[t, c] == (apart.contains(c) ? key[c] : statics.keys.rounded(key[c], in: ranges[c])))
            #expect(
              V[t, c] == (out.contains(c) ? value[c] : statics.values.rounded(value[c], in: range)))
          }
        }
      }
      // ⌈18 bits / 32⌉ words of codes, and 1½ words an outlier; lo and hi of a value.
      let codes = (18 * bits + 31) / 32
      for (part, first) in [(RowPart.key, 0), (.value, 2)] {
        let o = form.slots(part, width: 18)
        #expect(form.words(part, width: 18) == first + codes + o + (o + 1) / 2)
      }
    }
  }

  @Test func `codes of few bits lie one behind the other`() {
    for bits in [2, 3, 5, 16] {
      let codes = (0..<41).map { UInt32($0 * 7919) & (1 << UInt32(bits) - 1) }
      let words = packedWords(codes, bits: bits)
      #expect(words.count == (41 * bits + 31) / 32)
      var reader = BitReader(bits: bits, from: 1)
      let padded = [0] + words
      #expect((0..<41).map { _ in reader.code(of: padded.span) } == codes)
    }
  }

  @Test func `a text that is no form, or a file that is none, is one line`() throws {
    func line(_ rows: String) -> String { methodError { _ = try cacheMethod("full:rows=\(rows)") } }
    for text in ["kvquant", "kvquant3", "kvquant6:x", "kvquant:x"] {
      #expect(line(text).hasPrefix("full: rows=\(text) is none of: f32"))
    }
    #expect(line("kvquant3:/nowhere").hasPrefix("full: rows=kvquant3:/nowhere: /nowhere"))
    try withCalibration("loki", [:]) { path in
      #expect(
        line("kvquant3:\(path)")
          == "full: rows=kvquant3:\(path): \(path) is a calibration for loki, not for kvquant")
    }
    let layer = Layer(4, 2, 8)
    let tensors = calibration(Rows(layer, tokens: 20), bits: 3, sparsity: 0.99)
    try withCalibration("kvquant", tensors, options: ["sparsity": "0.99"]) { path in
      func cacheLine(_ bits: Int, _ layer: Layer) -> String {
        methodError {
          _ = try cacheMethod("full:rows=kvquant\(bits):\(path)").makeCache(for: layer.shape)
        }
      }
      #expect(cacheLine(3, layer) == "no error")
      // Codebooks of other bits, and the heads of another model.
      let other = cacheLine(4, layer)
      #expect(other.hasPrefix("full: rows=kvquant4:\(path): \(path)"), "\(other)")
      #expect(other.contains("layers.3.key_codebook_4"))
      let wide = cacheLine(3, Layer(4, 2, 16))
      #expect(wide.hasPrefix("full: rows=kvquant3:\(path): \(path): layers.3.lower has shape"))
      let method = try cacheMethod("full:rows=kvquant3:\(path)")
      #expect(
        methodError { try method.checkCalibrations(model: "another") }
          .hasPrefix("full: rows=kvquant3:\(path): \(path) is a calibration of another model"))
    }
  }
}
