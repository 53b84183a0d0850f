// Calibrations: moments of rows, their directions, and the files that hold them.

import CacheMethods
import Foundation
import Tensors
import Testing
import Transformers

/// Runs `body` with the path of a calibration file that is removed afterwards.
///
/// It has tensors named NAME of one layer, here layer 3 of 4.
func withCalibration<Result>(
  _ method: String, layer: Int = 3, schema: String = CalibrationFile.schema,
  _ tensors: [String: Tensor<Double>], options: [String: String] = [:], layers: String? = nil,
  _ body: (String) throws -> Result
) throws -> Result {
  let path =
    FileManager.default.temporaryDirectory
    .appendingPathComponent("calibration-\(UUID().uuidString).safetensors").path
  defer { try? FileManager.default.removeItem(atPath: path) }
  var metadata = [
    "schema": schema, "method": method, "model": "0123456789abcdef",
    "layers": layers ?? "\(layer + 1)",
    "option.keys": "after-rotary",
  ]
  for (name, value) in options { metadata["option.\(name)"] = value }
  var writer = SafetensorsWriter(metadata: metadata)
  for (name, tensor) in tensors {
    try writer.add("layers.\(layer).\(name)", tensor, as: .float32)
  }
  try writer.write(to: path)
  return try body(path)
}

/// The line of the error that `body` throws.
func methodError(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "no error"
  } catch {
    return "\(error)"
  }
}

/// Orthonormal columns (d, r), drawn at random.
func frame(_ d: Int, _ r: Int, seed: UInt64) throws -> Tensor<Double> {
  try Tensor<Double>.normal(shape: [d, r], seed: seed, stream: 9).qrDecomposition().q
}

/// The largest distance of AᵀA from 1.
func distanceFromOrthogonal(_ a: Tensor<Double>) -> Double {
  let gram = a.gram(in: .reference)
  return (0..<gram.rows).reduce(0) { worst, i in
    (0..<gram.columns).reduce(worst) { max($0, abs(gram[i, $1] - (i == $1 ? 1 : 0))) }
  }
}

@Suite struct MomentsTests {
  private let rows = Tensor<Float>.normal(shape: [1100, 7], seed: 4, stream: 0)

  @Test func `stretches of any length give the bits of the whole`() throws {
    let whole = RowMoments(of: rows)
    var parts = RowMoments(width: 7)
    for part in [0..<1, 1..<2, 2..<600, 600..<1100] { parts.add(rows.rows(part)) }
    #expect(parts.count == 1100 && parts.mean == whole.mean)
    #expect(parts.secondMoments == whole.secondMoments)
  }

  @Test func `two sums joined are the sum of both rows`() throws {
    let a = RowMoments(of: rows.rows(0..<300))
    let b = RowMoments(of: rows.rows(300..<1100))
    let (both, whole) = (a.joined(with: b), RowMoments(of: rows))
    #expect(both.count == 1100)
    for (x, y) in zip(both.secondMoments.elements, whole.secondMoments.elements) {
      #expect(abs(x - y) < 1e-9)
    }
  }

  @Test func `components are orthonormal, their parts descend to 1 in all, the mean is removed`()
    throws
  {
    // A mean far from 0: without its removal the first component would point there.
    let shifted = rows.map { $0 + 100 }
    let found = try RowMoments(of: shifted).principalComponents()
    #expect(distanceFromOrthogonal(found.components.transposed()) < 1e-12)
    #expect(abs(found.explained.reduce(0, +) - 1) < 1e-12)
    #expect(zip(found.explained, found.explained.dropFirst()).allSatisfy { $0 >= $1 })
    #expect(found.explained[0] < 0.3, "seven equal directions")
    #expect(found.mean.allSatisfy { abs($0 - 100) < 0.2 })
  }

  @Test func `one row has directions too, and explains nothing`() throws {
    let found = try RowMoments(of: rows.rows(0..<1)).principalComponents()
    #expect(distanceFromOrthogonal(found.components) < 1e-12)
    #expect(found.explained.allSatisfy { $0 < 1e-9 || $0 <= 1 })
    let vectors = try RowMoments(of: rows.rows(0..<1)).rightSingularVectors()
    #expect(distanceFromOrthogonal(vectors) < 1e-12)
  }

  @Test func `right singular vectors are those of an SVD, up to a sign`() throws {
    let rows = Tensor<Double>.normal(shape: [40, 6], seed: 7, stream: 1)
    let vectors = try RowMoments(of: rows).rightSingularVectors()
    let vt = try rows.singularValueDecomposition().vt
    for j in 0..<6 {
      let product = (0..<6).reduce(0) { $0 + vectors[$1, j] * vt[j, $1] }
      #expect(abs(abs(product) - 1) < 1e-12, "vector \(j)")
    }
  }
}

@Suite struct CalibrationFileTests {
  private let layer = Layer(4, 2, 8)

  private func components(_ shape: [Int]) -> [String: Tensor<Double>] {
    [
      "components": Tensor(repeating: 0.5, shape: shape),
      "explained_variance": Tensor(repeating: 0.125, shape: [2, 8]),
      "mean": Tensor(repeating: 0, shape: [2, 8]),
    ]
  }

  @Test func `another method's file is refused when the method is named`() throws {
    try withCalibration("infinigen", [:]) { path in
      let line = methodError { _ = try cacheMethod("loki:calibration=\(path)") }
      #expect(line == "loki: \(path) is a calibration for infinigen, not for loki")
    }
  }

  @Test func `a file that is none, and a file that is not there, are one line`() throws {
    try withCalibration("loki", schema: "something", [:]) { path in
      let line = methodError { _ = try cacheMethod("loki:calibration=\(path)") }
      #expect(line.contains("is no calibration; make one with lrqk calibrate loki"))
    }
    let missing = methodError { _ = try cacheMethod("infinigen:skew=/nowhere/file") }
    #expect(missing.hasPrefix("infinigen: /nowhere/file") && !missing.contains("\n"))
  }

  @Test(arguments: ["0", "-1", "many", "1000000000000000000", "99999999999999999999"])
  func `a number of layers that no model has is one line when the file is read`(
    _ layers: String
  ) throws {
    try withCalibration("loki", [:], layers: layers) { path in
      let line = methodError { _ = try cacheMethod("loki:calibration=\(path)") }
      #expect(
        line == "loki: \(path): layers is \"\(layers)\"; it has to be a whole number from 1 to 4096"
      )
    }
  }

  @Test(arguments: [nil, "x", "-0.5", "1.5", "nan"] as [String?])
  func `a kvquant file says its sparsity, or is refused when it is read`(_ sparsity: String?) throws
  {
    let options = sparsity.map { ["sparsity": $0] } ?? [:]
    try withCalibration("kvquant", [:], options: options) { path in
      for (text, reader) in [
        ("kvquant:calibration=\(path)", "kvquant"),
        ("kvsink:calibration=0/1,ranges=\(path)", "kvsink: ranges=\(path)"),
        ("full:rows=kvquant3:\(path)", "full: rows=kvquant3:\(path)"),
      ] {
        let line = methodError { _ = try cacheMethod(text) }
        #expect(
          line
            == "\(reader): \(path): option.sparsity is \(sparsity.map(shown) ?? "missing"); it has "
            + "to be a number from 0 to 1")
      }
    }
  }

  @Test func `fewer layers, other heads and NaN are told when a cache is made`() throws {
    func line(layer number: Int = 3, _ tensors: [String: Tensor<Double>]) throws -> String {
      try withCalibration("loki", layer: number, tensors) { path in
        methodError { _ = try cacheMethod("loki:calibration=\(path)").makeCache(for: layer.shape) }
      }
    }
    #expect(try line(components([2, 4, 8])).contains("it is a calibration of another model"))
    #expect(try line(layer: 1, components([2, 8, 8])).contains("has 2 layers and no layer 3"))
    var bad = components([2, 8, 8])
    bad["mean"] = Tensor(repeating: .nan, shape: [2, 8])
    #expect(try line(bad).contains("holds NaN or infinity"))
    bad["mean"] = nil
    #expect(try line(bad).contains("layers.3.mean"))
    #expect(try line(components([2, 8, 8])) == "no error")
  }

  @Test func `a file of another model is told by its hash`() throws {
    try withCalibration("loki", components([2, 8, 8])) { path in
      let method = try cacheMethod("loki:calibration=\(path)")
      let calibrated = try #require(method as? any CalibratedMethod)
      #expect(calibrated.calibrationFile?.option("keys") == "after-rotary")
      try calibrated.checkCalibrations(model: "0123456789abcdef")
      let line = methodError { try calibrated.checkCalibrations(model: "fedcba9876543210") }
      #expect(line.contains("is a calibration of another model (0123456789abcdef"))
      #expect(method.description.contains("calibration=\(path)"))
      #expect(try cacheMethod(method.description).description == method.description)
    }
  }
}
