// KVQuant's recordings: thresholds, outliers, and what keys and values come back as.
//
// In:  inputs/k_pre, inputs/v and inputs/k_calibration (M, l, d); inputs/weights/upper, lower where
//      they are given, codebook_k and codebook_v with mode nuq; mode, bits, sparsity_threshold,
//      include_sparse, first_few_fp16, norm, clamp. With norm inputs/weights/normscale_k, ... or
//      options of these names, or normscale and normoffset for both sides.
// Out: upper, lower; k_outliers, v_outliers, budget; k_held, v_held.
//
// Thresholds that are given are the ones used, as in the recorded code; upper and lower are always
// ours, of the calibration. cap_outliers is computed only where it is off (-1).

import CacheMethods
import Tensors

/// KVQuant.
enum KVQuantRecording: RivalComputation {
  static let method = "kvquant"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let (k, v): ([Tensor<E>], [Tensor<E>]) = (
      try recording.heads("k_pre"), try recording.heads("v")
    )
    let calibration: [Tensor<E>] = try recording.heads("k_calibration")
    let (M, l, d) = (k.count, k[0].rows, k[0].columns)
    try recording.require(
      v.count == M && v[0].shape == [l, d] && calibration.count == M
        && calibration[0].columns == d,
      "k_pre (\(M), \(l), \(d)), v (\(v.count), \(v[0].rows), \(v[0].columns)) and k_calibration "
        + "(\(calibration.count), \(calibration[0].rows), \(calibration[0].columns)) do not fit")
    try refuseCap(recording)
    let sparsity: Double? =
      try recording.flag("include_sparse") ? sparsityThreshold(recording) : nil
    let first = max(0, try recording.integer("first_few_fp16", in: -1...1 << 30))

    let learnt = channelRanges(sideBySide(calibration), sparsity: sparsity ?? 1)
    let ranges = try givenRanges(recording, learnt)
    let (keyLevels, valueLevels): (Levels<E>, Levels<E>) = (
      try levels(recording, "k"), try levels(recording, "v")
    )
    let isUniform = try recording.word("mode", ["nuq", "uniform"]) == "uniform"
    let (K, V) = (sideBySide(k), sideBySide(v))
    var (keys, values) = (Side<E>(), Side<E>())
    for t in 0..<l {
      // Marks are made with include_sparse alone; the nuq path then puts the first rows back.
      let isMarked = sparsity != nil && t < first
      let isKept = t < first && !isUniform
      let key = K.row(t)
      let apart = sparsity == nil ? [] : outsideColumns(key, ranges)
      keys.add(
        key, apart, isMarked: isMarked, isKept: isKept,
        rounded: zip(key, ranges).map { keyLevels.rounded($0, in: $1) })
      let value = V.row(t)
      let (range, outliers) = tokenRange(value, sparsity: sparsity, ties: .all)
      values.add(
        value, outliers, isMarked: isMarked, isKept: isKept,
        rounded: value.map { valueLevels.rounded($0, in: range) })
    }

    var outputs = RivalOutputs<E>()
    outputs.add("upper", Tensor(shape: [M * d], elements: learnt.map(\.high)))
    outputs.add("lower", Tensor(shape: [M * d], elements: learnt.map(\.low)))
    outputs.add("k_outliers", integers: perHead(keys.marks, M, l, d))
    outputs.add("v_outliers", integers: perHead(values.marks, M, l, d))
    outputs.add(
      "budget", integers: [keys.marks.reduce(0, +), values.marks.reduce(0, +)])
    outputs.add("k_held", perHead(keys.held, M, l, d))
    outputs.add("v_held", perHead(values.held, M, l, d))
    return outputs
  }

  /// What keys or values come back as, and which numbers are outliers, (l, M d) each.
  private struct Side<E: Scalar> {
    var held: [E] = []
    var marks: [Int] = []

    mutating func add(
      _ row: [E], _ outliers: [Int], isMarked: Bool, isKept: Bool, rounded: [E]
    ) {
      var (result, mark) = (
        isMarked || isKept ? row : rounded, Array(repeating: isMarked ? 1 : 0, count: row.count)
      )
      for c in outliers { (result[c], mark[c]) = (row[c], 1) }
      held += result
      marks += mark
    }
  }

  /// (l, M d) as (M, l, d).
  private static func perHead<T: Sendable>(
    _ rows: [T], _ M: Int, _ l: Int, _ d: Int
  ) -> Tensor<T> {
    var elements: [T] = []
    for m in 0..<M {
      for t in 0..<l { elements += rows[(t * M + m) * d..<(t * M + m + 1) * d] }
    }
    return Tensor(shape: [M, l, d], elements: elements)
  }

  private static func refuseCap(_ recording: RivalRecording) throws {
    guard let cap = recording.option("cap_outliers") else { return }
    if cap.boolValue == false || (cap.doubleValue ?? 0) < 0 { return }
    throw recording.fault("cap_outliers", "off (-1): its number is fixed to 21 in the code")
  }

  private static func sparsityThreshold(_ recording: RivalRecording) throws -> Double {
    let threshold = try recording.number("sparsity_threshold")
    try recording.require(
      threshold >= 0 && threshold <= 1,
      "sparsity_threshold is \(threshold), a part from 0 to 1 of all numbers")
    return threshold
  }

  /// weights/lower and weights/upper where both are there; else what was learnt.
  private static func givenRanges<E: Scalar>(
    _ recording: RivalRecording, _ learnt: [CodeRange<E>]
  ) throws -> [CodeRange<E>] {
    guard recording.has("weights/lower"), recording.has("weights/upper") else { return learnt }
    let lower: Tensor<E> = try recording.input("weights/lower", axes: 1)
    let upper: Tensor<E> = try recording.input("weights/upper", axes: 1)
    try recording.require(
      lower.count == learnt.count && upper.count == learnt.count,
      "\(lower.count) lower and \(upper.count) upper thresholds for \(learnt.count) channels")
    return zip(lower.elements, upper.elements).map { CodeRange(low: $0, high: $1) }
  }

  /// How numbers of one side, k or v, become codes.
  private static func levels<E: Scalar>(
    _ recording: RivalRecording, _ side: String
  ) throws -> Levels<E> {
    let bits = try recording.integer("bits", in: 1...16)
    if try recording.word("mode", ["nuq", "uniform"]) == "uniform" {
      // The code clamps the offset of values alone: their ranges are made as a step goes.
      let isClamped = try recording.flag("clamp") && side == "v"
      return .even(bits: bits, offset: isClamped ? .rounded : .exact, equal: .zero)
    }
    let entries: Tensor<E> = try recording.input("weights/codebook_\(side)", axes: 1)
    try recording.require(
      entries.count == 1 << bits, "codebook_\(side) has \(entries.count) entries for \(bits) bits")
    guard try recording.flag("norm") else { return .codebook(entries.elements) }
    return .codebook(
      entries.elements,
      norm: QNorm(
        scale: try normNumber(recording, "normscale", side),
        shift: try normNumber(recording, "normoffset", side)))
  }

  /// A number of Q-Norm: a tensor of one element or an option, of the side or of both.
  private static func normNumber<E: Scalar>(
    _ recording: RivalRecording, _ name: String, _ side: String
  ) throws -> E {
    for name in ["\(name)_\(side)", name] {
      if recording.has("weights/\(name)") {
        let tensor: Tensor<E> = try recording.file.tensor("inputs/weights/\(name)")
        try recording.require(
          tensor.count == 1 && tensor.firstNonFinite == nil,
          "inputs/weights/\(name) is not one finite number")
        return tensor.elements[0]
      }
      if recording.option(name) != nil { return E(try recording.number(name)) }
    }
    throw recording.fault("\(name)_\(side)", "a number, or inputs/weights/\(name)_\(side)")
  }
}
