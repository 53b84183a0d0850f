// What lrqk generate says about an answer: the JSON object, and the lines on standard error.
//
// In:  finished generations, with the ledgers and devices of their states.
// Out: counts. Bytes moved per token are those of decode steps alone; the prompt's own are in the
//      ledger.

import CacheMethods
import Foundation
import TieredMemory
import Transformers

/// One answer as a JSON object; its keys are a contract with scripts (Docs/models.md).
struct GenerationReport: Encodable {
  let tokens: [Int]
  let text: String?
  let promptTokens: Int
  /// "end-of-text" or "limit".
  let finished: String
  let cache: [String: String]
  let ledger: [String: [String: LedgerLine]]
  let movedBytesPerToken: Double
  let hitRate: Double?
  let recall: Double?
  let attentionMass: Double?
  let residentBytes: Int
  let peakBytes: Int
  let hostBytes: Int
  let timings: Timings

  struct Timings: Encodable {
    let loadSeconds: Double
    let prefillSeconds: Double
    let decodeSeconds: Double
    let prefillTokensPerSecond: Double
    let decodeTokensPerSecond: Double
  }

  init(
    _ answer: Generation, _ method: any CacheMethod, _ tokenizer: Tokenizer?,
    times: Generator.Times, loadSeconds: Double
  ) {
    tokens = answer.tokens
    text = tokenizer?.decode(answer.tokens)
    promptTokens = answer.prompt.count
    finished = answer.isEnded ? "end-of-text" : "limit"
    cache = Dictionary(method.options.map { ($0.name, $0.value) }) { first, _ in first }
      .merging(["method": type(of: method).name]) { $1 }
    let use = MemoryUse(answer)
    ledger = TransferLedger.lines(use.events)
    movedBytesPerToken = use.movedBytesPerToken
    hitRate = use.hitRate
    recall = use.recall
    attentionMass = use.mass
    residentBytes = use.residentBytes
    peakBytes = use.peakBytes
    hostBytes = use.hostBytes
    timings = Timings(
      loadSeconds: loadSeconds, prefillSeconds: times.prefill.seconds,
      decodeSeconds: times.decode.seconds,
      prefillTokensPerSecond: Double(times.prefill.tokens) / times.prefill.seconds,
      decodeTokensPerSecond: times.decode.tokens == 0
        ? 0 : Double(times.decode.tokens) / times.decode.seconds)
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

/// What the caches of one or more answers held and moved.
struct MemoryUse {
  var events: [TransferEvent] = []
  var steps = 0
  var hitRows = 0
  var missedRows = 0
  var residentBytes = 0
  /// Of one answer; of several, the largest (their prompts are taken one after another).
  var peakBytes = 0
  var hostBytes = 0
  private var probes: [RecallProbe] = []

  init(_ answer: Generation) { self.init([answer]) }

  init(_ answers: [Generation]) {
    for answer in answers {
      steps += answer.steps
      hitRows += answer.needed.hits
      missedRows += answer.needed.misses
      for state in answer.states {
        events += state.tiers.ledger.events
        probes += state.caches.compactMap { $0 as? RecallProbe }
      }
      // Of several states only the last one is held at the end, and one alone at a time.
      guard let last = answer.states.last else { continue }
      residentBytes += last.tiers.device.residentBytes
      peakBytes = max(peakBytes, answer.states.map { $0.tiers.device.peakBytes }.max() ?? 0)
      hostBytes += last.caches.reduce(0) { $0 + $1.hostBytes }
    }
  }

  /// Bytes that decode steps moved, both ways, per token.
  var movedBytesPerToken: Double { perToken(nil) }

  /// Bytes that decode steps moved one way (nil: both), per token.
  func perToken(_ direction: TransferDirection?) -> Double {
    let moved = events.reduce(0) { sum, event in
      sum + (event.step > 0 && direction ?? event.direction == event.direction ? event.bytes : 0)
    }
    return steps == 0 ? 0 : Double(moved) / Double(steps)
  }

  /// Share of the rows needed from the host that lay on the device; nil where none was needed.
  var hitRate: Double? {
    hitRows + missedRows == 0 ? nil : Double(hitRows) / Double(hitRows + missedRows)
  }

  /// Mean over layers, heads and steps that chose anything; nil where none did.
  var recall: Double? {
    let count = probes.reduce(0) { $0 + $1.recallCount }
    return count == 0 ? nil : probes.reduce(0) { $0 + $1.recallSum } / Double(count)
  }

  /// Mean over layers, heads and steps; nil where nothing was measured.
  var mass: Double? {
    let count = probes.reduce(0) { $0 + $1.count }
    return count == 0 ? nil : probes.reduce(0) { $0 + $1.massSum } / Double(count)
  }
}

/// The lines on standard error.
struct GenerationSummary {
  private let lines: [String]

  init(
    _ answers: [Generation], _ method: any CacheMethod, _ times: Generator.Times,
    loadSeconds: Double
  ) {
    let use = MemoryUse(answers)
    func speed(_ part: (tokens: Int, seconds: Double)) -> String {
      part.tokens == 0
        ? "0 tokens"
        : "\(part.tokens) tokens in \(String(format: "%.3f", part.seconds)) s, "
          + "\(number(Double(part.tokens) / part.seconds, 1)) tokens/s"
    }
    var rows = [
      ["load", String(format: "%.3f s", loadSeconds)], ["prefill", speed(times.prefill)],
      ["decode", speed(times.decode)], ["cache", method.brief],
      [
        "held",
        "\(bytes(use.residentBytes)) on the device "
          + "(\(answers.count > 1 ? "each prompt " : "")at most \(bytes(use.peakBytes))), "
          + "\(bytes(use.hostBytes)) on the host",
      ],
      [
        "moved per token",
        "\(bytes(Int(use.perToken(.hostToDevice).rounded()))) to the device, "
          + "\(bytes(Int(use.perToken(.deviceToHost).rounded()))) to the host",
      ],
    ]
    if let rate = use.hitRate { rows.append(["hit rate", number(rate)]) }
    if let mass = use.mass {
      let recall = use.recall.map { number($0) } ?? "nothing was chosen"
      rows.append(["recall", "\(recall); share of exact attention \(number(mass))"])
    }
    lines = labelled(rows)
  }

  func print() {
    FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
  }
}
