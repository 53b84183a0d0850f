// One layer under a cache method, in turn with the same layer under `full`: for lrqk bench select.
//
// In:  a method; random queries, keys and values, rotated by place as a model's are.
// Out: the time of a step and its ratio to a full one; rows attended to; bytes held and moved.

import ArgumentParser
import CacheMethods
import Reports
import Tensors
import TieredMemory
import Transformers

/// Random rows of one layer for every token of a sequence.
struct LayerSequence {
  let layer: LayerShape
  /// Of each query head before and after RoPE, (L, d).
  let queriesBefore, queries: [Tensor<Float>]
  /// Of each key/value head before and after RoPE, (L, d).
  let keysBefore, keys: [Tensor<Float>]
  /// Of each key/value head, (L, d).
  let values: [Tensor<Float>]

  init(_ layer: LayerShape, tokens: Int, seed: UInt64) throws {
    self.layer = layer
    func normal(_ heads: Int, _ stream: Int) throws -> [Tensor<Float>] {
      try mapConcurrently(heads) { h in
        .normal(shape: [tokens, layer.width], seed: seed, stream: UInt64(stream * 1000 + h))
      }
    }
    let rotations = layer.rotary.rotations(positions: Array(0..<tokens), length: tokens)
    queriesBefore = try normal(layer.queryHeads, 1)
    keysBefore = try normal(layer.keyValueHeads, 2)
    values = try normal(layer.keyValueHeads, 3)
    queries = queriesBefore.map(rotations.rotate)
    keys = keysBefore.map(rotations.rotate)
  }

  /// The first `l` tokens.
  func prompt(_ l: Int) -> PromptRows {
    func first(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(0..<l) } }
    var prompt = PromptRows(
      queries: first(queries), keys: first(keys), keysBeforeRotary: first(keysBefore),
      values: first(values), queriesBeforeRotary: first(queriesBefore))
    prompt.tokens = Array(0..<l)
    return prompt
  }

  /// Token `t`; its queries are their own guess.
  func token(_ t: Int) -> TokenRows {
    func row(_ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }
    var token = TokenRows(
      queries: row(queries), queriesBeforeRotary: row(queriesBefore), keys: row(keys),
      keysBeforeRotary: row(keysBefore), values: row(values))
    token.hint = token.queries
    token.token = t
    return token
  }

  /// The rows of `chunk` once more, as if a model had repeated them.
  func repetition(_ chunk: Range<Int>) -> RepetitionRows {
    func rows(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(chunk) } }
    return RepetitionRows(
      chunk: chunk, queries: rows(queries), keys: rows(keys), values: rows(values))
  }
}

/// A cache of one layer with a device and a ledger of its own.
final class LayerRun {
  private var cache: any KeyValueCache
  private var tiers = Tiers()
  private let rows: LayerSequence

  /// A cache that has taken the first `prompt` tokens.
  init(_ method: any CacheMethod, _ rows: LayerSequence, prompt: Int) throws {
    self.rows = rows
    cache = try method.makeCache(for: rows.layer)
    let missing = cache.needs.intersection([.layerInput, .residual, .assistant])
    if !missing.isEmpty {
      let names = missing.names.joined(separator: ", ")
      throw ValidationError("\(method) needs \(names), and there is no model here")
    }
    let first = rows.prompt(prompt)
    if var attending = cache as? any PromptAttending {
      _ = try attending.attend(to: first)
      cache = attending
    }
    try cache.prefill(first, tiers: &tiers)
    if var scored = cache as? any RepetitionScored {
      for chunk in scored.repeatedChunks { try scored.hear(rows.repetition(chunk), tiers: &tiers) }
      cache = scored
    }
    try settle()
  }

  /// Takes the next token.
  func step() throws -> AttendedStep {
    let step = try cache.decode(rows.token(cache.length), tiers: &tiers)
    try settle()
    return step
  }

  /// Lets the layer decide where its method decides for all layers together.
  private func settle() throws {
    var all = [cache]
    try settleTogether(&all, tiers: &tiers)
    cache = all[0]
  }

  /// Bytes on the device now.
  var deviceBytes: Int { tiers.device.residentBytes }
  /// Bytes that crossed between the tiers, both ways, in the steps from `step` on.
  func movedBytes(from step: Int) -> Int {
    tiers.ledger.events.reduce(0) { $0 + ($1.step >= step ? $1.bytes : 0) }
  }
}

/// The steps of one method, and those of `full` in turn with them.
struct MethodSteps {
  let method: any CacheMethod
  let time: Spread
  /// Time by the time of a full step, turn by turn.
  let ratio: Spread
  /// Rows that a query head attends to, mean over heads and steps.
  let rows: Double
  let deviceBytes: Int
  let fullBytes: Int
  /// Bytes a step, both ways.
  let movedBytes: Double

  init(
    _ method: any CacheMethod, _ sequence: LayerSequence, prompt: Int, turns: Int, steps: Int
  ) throws {
    self.method = method
    if !method.applies(to: sequence.layer) {
      throw ValidationError("\(method) does not apply to ordinary heads")
    }
    let run = try LayerRun(method, sequence, prompt: prompt)
    let full = try LayerRun(try cacheMethod("full"), sequence, prompt: prompt)
    (_, _) = (try full.step(), try run.step())
    var (times, fulls, attended): ([Double], [Double], Int) = ([], [], 0)
    for _ in 0..<turns {
      fulls.append(
        Spread(try (0..<steps).map { _ in try secondsOf { _ = try full.step() } }).median)
      times.append(
        Spread(
          try (0..<steps).map { _ in
            var step: AttendedStep?
            let seconds = try secondsOf { step = try run.step() }
            attended += step?.attended.reduce(0) { $0 + $1.count } ?? 0
            return seconds
          }
        ).median)
    }
    let counted = turns * steps
    time = Spread(times)
    ratio = Spread(zip(times, fulls).map { $0 / $1 })
    rows = Double(attended) / Double(counted * sequence.layer.queryHeads)
    deviceBytes = run.deviceBytes
    fullBytes = full.deviceBytes
    movedBytes = Double(run.movedBytes(from: 2)) / Double(counted)
  }

  func cells(tokens: Int) -> [String] {
    let (ratio, range) = ratio.texts(2)
    return [
      method.brief, number(time.median * 1e3, 2), ratio, range, number(rows, 0),
      "\(number(100 * rows / Double(tokens), 1)) %", Reports.bytes(deviceBytes),
      Reports.bytes(Int(movedBytes)),
    ]
  }

  func fields(tokens: Int) -> [String: Any] {
    let fields: [String: Any] = [
      "method": "\(method)", "attended_rows": rows, "attended_share": rows / Double(tokens),
      "device_bytes": deviceBytes,
      "device_share_of_full": Double(deviceBytes) / Double(fullBytes),
      "moved_bytes_per_step": movedBytes,
    ]
    return fields.merging(time.fields("seconds")) { $1 }
      .merging(ratio.fields("ratio_to_full")) { $1 }
  }
}
