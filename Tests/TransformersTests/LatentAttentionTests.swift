// MLA: scores by their formula, and the absorbed form against the materialised one.

import Tensors
import Testing
import Transformers

@Suite struct LatentAttentionTests {
  static let sizes = [
    LatentSizes(heads: 4, rotaryWidth: 6, plainWidth: 10, latentWidth: 12, valueWidth: 16),
    LatentSizes(heads: 3, rotaryWidth: 8, plainWidth: 8, latentWidth: 20, valueWidth: 7),
    LatentSizes(heads: 1, rotaryWidth: 2, plainWidth: 1, latentWidth: 1, valueWidth: 3),
  ]

  // The bounds of LRKVFactorsTests, for the same reason.
  @Test("absorbed is materialised over 500 steps", arguments: sizes)
  func steps(_ s: LatentSizes) throws {
    let rotary = RotaryEmbedding(rotatedWidth: s.rotaryWidth, base: 10_000)
    let double = latentLayer(s, as: Double.self)
    let wide = try double.rows(tokens(500), rotary.first(500, as: Double.self))
    let error = try factoredError(double.factors, wide)
    #expect(error < 1e-11, "\(error)")
    let float = latentLayer(s, as: Float.self)
    let narrow = try float.rows(tokens(500), rotary.first(500, as: Float.self))
    let floatError = try factoredError(float.factors, narrow)
    #expect(floatError < 1e-5, "\(floatError)")
    #expect(wide.factored.columns == s.rotaryWidth + s.latentWidth)
    #expect(double.factors.numbersPerToken == s.rotaryWidth + s.latentWidth)
  }

  @Test("scores and values are those of the formulas", arguments: sizes)
  func formulas(_ s: LatentSizes) throws {
    let layer = latentLayer(s, as: Double.self)
    let x: Tensor<Double> = tokens(9)
    let rotary = RotaryEmbedding(rotatedWidth: s.rotaryWidth, base: 10_000)
    let rows = try layer.rows(x, rotary.first(9, as: Double.self))
    func rotated(_ row: [Double], _ t: Int) -> [Double] {
      rotary.rotations(positions: [t], length: 9, as: Double.self)
        .rotate(Tensor(shape: [1, row.count], elements: row)).row(0)
    }
    func latent(_ t: Int) -> [Double] {
      let raw = (0..<s.latentWidth).map { dot(layer.latent.row($0), x.row(t)) }
      let size = (dot(raw, raw) / Double(raw.count) + 1e-6).squareRoot()
      return raw.indices.map { layer.latentNorm[$0] * raw[$0] / size }
    }
    for h in 0..<s.heads {
      for (a, b) in [(0, 0), (8, 3)] {
        let q = (0..<s.headWidth).map { dot(layer.query.row(h * s.headWidth + $0), x.row(a)) }
        let k = (0..<s.rotaryWidth).map { dot(layer.rotaryKey.row($0), x.row(b)) }
        let content = (0..<s.plainWidth).map { dot(layer.factors.keyFactors[h].row($0), latent(b)) }
        let expected =
          dot(rotated(Array(q[..<s.rotaryWidth]), a), rotated(k, b))
          + dot(Array(q[s.rotaryWidth...]), content)
        #expect(abs(dot(rows.queries[h].row(a), rows.keys[h].row(b)) - expected) < 1e-12)
        let value = (0..<s.valueWidth).map { dot(layer.factors.valueFactors[h].row($0), latent(b)) }
        #expect(zip(value, rows.values[h].row(b)).allSatisfy { abs($0 - $1) < 1e-12 })
      }
    }
  }
}
