// The JSON object of `lrqk replay --json`.
//
// In:  a finished replay.
// Out: one object; its keys are a contract with scripts (README, "For scripts").

import Foundation
import LRQK
package import Tensors
import TieredMemory

/// One replay as a JSON object.
package struct JSONReport: Encodable {
  let file: String
  let kind: String
  let precision: String
  let choices: [String: String]
  let notes: [String]
  let outputs: [String: Comparison]
  let within: Bool
  let sweeps: [SweepReport]
  let condition: Double
  let pivoted: Bool
  var selectedCompared: Int?
  var selectedEqual: Int?
  var missedRowsEqual: Bool?
  var prefillSelectedEqual: Bool?
  var attentionRelative: Double?
  var recall: Double?
  var recallByQuarter: [Double]?
  var sameRowsAttentionRelative: Double?
  var denseAttentionRelative: Double?
  var ledger: [String: [String: LedgerLine]]?
  var missedRowsByPolicy: [String: Int]?
  var residentBytes: Int?
  var residentBuffers: [String: Int]?
  var peakBytes: Int?
  var hostBytes: Int?
  var fullCacheBytes: Int?
  var largestCode: Double?
  var firstNonFiniteCode: String?
  var steps: [StepReport]?

  /// The object of a single call.
  package init<E: Scalar>(
    _ recording: Recording, _ plan: ReplayPlan, _ replay: RecordedCall<E>
  ) {
    file = recording.file.path
    kind = recording.kind.rawValue
    precision = E.precisionName
    choices = Dictionary(plan.parameters.words(recording.kind.parts).map { ($0.name, $0.value) }) {
      $1
    }
    notes = plan.notes
    outputs = replay.outputs
    within = replay.outputs.values.allSatisfy(\.within)
    sweeps = replay.sweeps
    condition = replay.conditioning.worst
    pivoted = replay.conditioning.pivoted
  }

  /// The object of a trajectory; `leftOut` are lines about what a written file has not.
  package init<E: Scalar>(
    _ recording: Recording, _ replay: TrajectoryReplay<E>, _ comparison: TrajectoryComparison,
    leftOut: [String] = []
  ) {
    file = recording.file.path
    kind = recording.kind.rawValue
    precision = E.precisionName
    choices = Dictionary(
      replay.plan.parameters.words(recording.kind.parts).map { ($0.name, $0.value) }
    ) { $1 }
    notes = replay.notes + comparison.skipped.map { "not compared: \($0)" } + leftOut
    outputs = comparison.outputs
    within = comparison.isWithin
    sweeps = replay.sweeps
    condition = replay.conditioning.worst
    pivoted = replay.conditioning.pivoted
    selectedCompared = comparison.selectedCompared
    selectedEqual = comparison.selectedEqual
    missedRowsEqual = comparison.missedRowsEqual
    prefillSelectedEqual = comparison.promptSelectedEqual
    attentionRelative = comparison.outputs["attention"]?.relative ?? replay.sameRowsError
    recall = replay.recall(0..<replay.steps.count)
    recallByQuarter = replay.quarters.map(replay.recall)
    sameRowsAttentionRelative = replay.sameRowsError
    denseAttentionRelative = replay.fullAttentionError
    ledger = replay.ledger
    let policies = replay.missedRowsByPolicy
    missedRowsByPolicy = [
      "per_query_head": policies.perQueryHead, "per_key_value_head": policies.perKeyValueHead,
    ]
    residentBytes = replay.residentBytes
    residentBuffers = Dictionary(replay.buffers.map { ($0.label, $0.bytes) }, uniquingKeysWith: +)
    peakBytes = replay.peakBytes
    hostBytes = replay.hostBytes
    fullCacheBytes = replay.fullCacheBytes
    largestCode = replay.largestCode
    firstNonFiniteCode = replay.firstNonFinite?.description
    let eventsOfStep = Dictionary(grouping: replay.events, by: \.step)
    steps = replay.quality.map { quality in
      let events = eventsOfStep[quality.step] ?? []
      return StepReport(
        quality: quality,
        moved: Dictionary(grouping: events, by: \.reason.rawValue).mapValues { events in
          LedgerLine(
            rows: events.reduce(0) { $0 + $1.rows }, bytes: events.reduce(0) { $0 + $1.bytes })
        })
    }
  }

  /// The text; infinity and NaN are written as strings.
  package func text(pretty: Bool) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    encoder.outputFormatting =
      pretty
      ? [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
      : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

/// One step: its quality, and what the ledger says moved in it, by reason.
struct StepReport: Encodable {
  let quality: StepQuality
  let moved: [String: LedgerLine]

  enum CodingKeys: String, CodingKey { case moved }

  func encode(to encoder: any Encoder) throws {
    try quality.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(moved, forKey: .moved)
  }
}
