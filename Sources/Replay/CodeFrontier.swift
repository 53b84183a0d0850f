// The frontier of codes: how good a choice of rows is for how many bytes a token.
//
// In:  recorded layers of one model; k and w.
// Out: for every map, rank and number of bits, and for LRQK's own codes: bytes of a token, recall
//      and attention mass by quarter of the answer, layer by layer.
//
// Every code chooses the same number of rows, so the rows that are attended to cost the same. What
// differs is what stands on the device to choose them by, and it grows with the tokens:
//
//     bytes of a token   codes on the device after l + 1,024 tokens less those after l, a token and
//                        key/value head; maps and means, which do not grow, are left out
//     recall             of the k older rows with the largest q · k, how many were chosen
//     mass               the softmax weight that the attended rows have, recent ones among them
//
// The codes are those of key-bits: keys as they are, KQ-SVD's closed form of the prompt, and a
// random rotation, of rank d, d/2 and d/4; and those of the method lrqk, as released with r = d/4
// and recommended with r = d/2.

package import CacheMethods
import Reports
import Tensors
package import Transformers

/// A family of codes: a colour of the picture.
package enum CodeFamily: String, Sendable, CaseIterable {
  /// The keys themselves.
  case keys = "keys as they are"
  /// The closed form of the prompt (KQ-SVD).
  case closedForm = "closed form"
  /// A random rotation.
  case random = "random rotation"
  /// LRQK with the released choices.
  case released = "LRQK as released"
  /// LRQK with the recommended choices.
  case recommended = "LRQK recommended"
}

/// A code and the method that chooses by it.
package struct FrontierCode: Sendable {
  /// The family that it belongs to.
  package let family: CodeFamily
  /// Numbers of a code.
  package let rank: Int
  /// Bits of a number.
  package let bits: Int
  /// The method, as `--cache` names it.
  package let method: any CacheMethod

  /// "closed form, r = 32, 4 bits"; keys have no rank.
  package var name: String {
    let rank = family == .keys ? "" : ", r = \(rank)"
    return "\(family.rawValue)\(rank), \(bits) bit\(bits == 1 ? "" : "s")"
  }

  /// All codes of heads of width `d`, which choose k older rows beside w recent ones.
  package static func all(width d: Int, selected k: Int, recent w: Int) throws -> [FrontierCode] {
    let ranks = [d, d / 2, d / 4].filter { $0 > 0 }
    var codes: [FrontierCode] = []
    func add(_ family: CodeFamily, _ rank: Int, _ bits: Int, _ text: String) throws {
      codes.append(
        FrontierCode(
          family: family, rank: rank, bits: bits, method: try cacheMethod("\(text),k=\(k),w=\(w)")))
    }
    for bits in [8, 4, 3, 2, 1] { try add(.keys, d, bits, "key-bits:bits=\(bits)") }
    for (family, map, widths) in [
      (CodeFamily.closedForm, "closed-form", [32, 8, 4, 2, 1]), (.random, "random", [8, 4, 2, 1]),
    ] {
      for rank in ranks {
        for bits in widths {
          try add(family, rank, bits, "key-bits:map=\(map),rank=\(rank),bits=\(bits)")
        }
      }
    }
    try add(
      .released, max(1, d / 4), 32, "lrqk:preset=paper,r=\(max(1, d / 4)),on-breakdown=proceed")
    try add(.recommended, max(1, d / 2), 32, "lrqk:preset=recommended,r=\(max(1, d / 2))")
    return codes
  }

  /// Bytes that a further token adds to the codes of a key/value head.
  package func tokenBytes(tokens: Int, layer: LayerShape) -> Double {
    func codes(_ tokens: Int) -> Int { method.bytes(tokens: tokens, layer: layer).deviceCodes }
    let more = 1024
    return Double(codes(tokens + more) - codes(tokens)) / Double(more * layer.keyValueHeads)
  }
}

/// What a code finds in one layer; the keys are a contract with scripts.
package struct FrontierRow: Sendable, Encodable {
  /// What the code is, in plain words.
  package let code: String
  /// The family's name.
  package let family: String
  /// Numbers of a code, and bits of each.
  package let rank: Int, bits: Int
  /// The method, as `--cache` names it.
  package let cache: String
  /// The recorded layer that was replayed.
  package let file: String
  /// Bytes of a token and key/value head.
  package let tokenBytes: Double
  /// Recall, and attention mass, over all steps.
  package let recall: Double, mass: Double
  /// The same by quarter of the answer.
  package let recallByQuarter: [Double], massByQuarter: [Double]
}

/// Everything that was compared.
package struct CodeFrontier: Sendable, Encodable {
  /// Older rows that a head chooses, and recent ones.
  package let selected: Int, recent: Int
  /// Tokens of the prompt, and decode steps.
  package let promptTokens: Int, steps: Int
  /// Numbers of a head, query heads and key/value heads.
  package let width: Int, queryHeads: Int, keyValueHeads: Int
  /// The recorded layers, one file each.
  package let files: [String]
  /// What is said about the runs.
  package let notes: [String]
  /// Code after code; of each, recording after recording.
  package let rows: [FrontierRow]

  /// Replays every code on every recording; `progress` hears how many of how many replays are done.
  ///
  /// Throws where a recording cannot be replayed, where the recordings have different sizes, and
  /// where there are fewer than four steps.
  package init(
    _ recordings: [Recording], selected k: Int, recent w: Int, _ options: ReplayOptions,
    progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws {
    var sizes: FrontierSizes?
    for recording in recordings {
      let own = try FrontierSizes(recording, options)
      if let sizes, sizes != own {
        throw ReplayError(
          "\(recording.file.path) has \(own.text), \(recordings[0].file.path) \(sizes.text); "
            + "compare layers of one model with the same prompt and steps")
      }
      sizes = own
    }
    guard let sizes else { throw ReplayError("no recording to replay") }
    if sizes.steps < 4 {
      throw ReplayError(
        "\(recordings[0].file.path): \(sizes.steps) decode steps have no quarters; give 4 or more")
    }
    (selected, recent, promptTokens, steps) = (k, w, sizes.promptTokens, sizes.steps)
    (width, queryHeads, keyValueHeads) = (sizes.width, sizes.queryHeads, sizes.keyValueHeads)
    files = recordings.map(\.file.path)
    let codes = try FrontierCode.all(width: sizes.width, selected: k, recent: w)
    var (rows, notes): ([FrontierRow], [String]) = ([], [])
    let pairs = codes.flatMap { code in recordings.map { (code, $0) } }
    // A few at a time on all cores: so progress is heard.
    let together = 8
    for start in stride(from: 0, to: pairs.count, by: together) {
      let count = min(together, pairs.count - start)
      let replayed = try mapConcurrently(count) { n in
        let (code, recording) = pairs[start + n]
        let replay = try MethodReplay(recording, code.method, options)
        let bytes = code.tokenBytes(tokens: sizes.promptTokens, layer: sizes.layer)
        return (FrontierRow(code, recording, replay, tokenBytes: bytes), replay.notes)
      }
      for (row, said) in replayed {
        rows.append(row)
        for note in said where !notes.contains(note) { notes.append(note) }
      }
      progress(rows.count, pairs.count)
    }
    (self.rows, self.notes) = (rows, notes)
  }
}

extension FrontierRow {
  init(
    _ code: FrontierCode, _ recording: Recording, _ replay: MethodReplay, tokenBytes: Double
  ) {
    let n = replay.steps.count
    let quarters = (0..<4).map { replay.summary(n * $0 / 4..<n * ($0 + 1) / 4) }
    let whole = replay.summary(0..<n)
    (self.code, family, rank, bits) = (code.name, code.family.rawValue, code.rank, code.bits)
    (cache, file, self.tokenBytes) = (code.method.brief, recording.file.path, tokenBytes)
    // Every code chooses rows in every step that has older rows than the recent ones.
    (recall, mass) = (whole.recall ?? 1, whole.mass)
    (recallByQuarter, massByQuarter) = (quarters.map { $0.recall ?? 1 }, quarters.map(\.mass))
  }
}

/// What all recordings of a frontier have in common.
private struct FrontierSizes: Equatable {
  let queryHeads: Int, keyValueHeads: Int, width: Int, promptTokens: Int, steps: Int

  init(_ recording: Recording, _ options: ReplayOptions) throws {
    let all = try RecordedSequences<Float>(recording, options)
    (queryHeads, keyValueHeads, width) = (all.heads, all.keyValueHeads, all.width)
    (promptTokens, steps) = (all.promptLength, all.stepCount)
  }

  var text: String {
    "\(queryHeads) query and \(keyValueHeads) key/value heads of width \(width), a prompt of "
      + "\(promptTokens) tokens and \(steps) steps"
  }

  /// A layer of these sizes, for closed forms of bytes.
  var layer: LayerShape {
    LayerShape(
      layer: 0, of: 1, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: nil, rotary: RotaryEmbedding(rotatedWidth: 0, base: 10_000))
  }
}
