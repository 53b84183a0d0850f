// What is said about generated answers: a JSON object each, and a summary in lines.
//
// In:  finished generations, with the ledgers and devices of their states.
// Out: counts. Bytes moved per token are those of decode steps alone; the prompt's own are in the
//      ledger.

package import CacheMethods
import Foundation
import Reports
import TieredMemory
package import Tokenizers
package import Transformers

/// One answer as a JSON object; its keys are a contract with scripts (Docs/models.md).
package struct GenerationReport: Encodable {
  let tokens: [Int]
  /// The answer, special tokens left out; nil without a tokenizer.
  package let text: String?
  let promptTokens: Int
  /// "end-of-text" or "limit".
  let finished: String
  let cache: [String: String]
  /// What the method's budget came to after the prompt.
  let budget: BudgetUse
  let ledger: [String: [String: LedgerLine]]
  let movedBytesPerToken: Double
  let hitRate: Double?
  let recall: Double?
  let attentionMass: Double?
  let residentBytes: Int
  let peakBytes: Int
  let hostBytes: Int
  /// What a second model cost, which is among the bytes and seconds here; nil where there is none.
  let assistant: AssistantUse?
  /// Where the method left no token out: what would make it do so.
  let note: String?
  let timings: Timings

  struct Timings: Encodable {
    let loadSeconds: Double
    let prefillSeconds: Double
    let decodeSeconds: Double
    let prefillTokensPerSecond: Double
    let decodeTokensPerSecond: Double
  }

  /// The report of one answer.
  package init(
    _ answer: Generation, _ method: any CacheMethod, _ tokenizer: Tokenizer?,
    layers: [LayerShape], times: Generator.Times, loadSeconds: Double
  ) {
    note = answer.nothingLeftOut(by: method, layers)
    tokens = answer.tokens
    text = tokenizer?.decode(answer.tokens)
    promptTokens = answer.prompt.count
    finished = answer.isEnded ? "end-of-text" : "limit"
    cache = Dictionary(method.options.map { ($0.name, $0.value) }) { first, _ in first }
      .merging(["method": type(of: method).name]) { $1 }
    budget = method.budgetUse(tokens: answer.prompt.count, layers: layers)
    let use = MemoryUse(answer)
    ledger = TransferLedger.lines(use.events)
    movedBytesPerToken = use.movedBytesPerToken
    hitRate = use.hitRate
    recall = use.recall
    attentionMass = use.mass
    residentBytes = use.residentBytes
    peakBytes = use.peakBytes
    hostBytes = use.hostBytes
    assistant = use.assistant
    timings = Timings(
      loadSeconds: loadSeconds, prefillSeconds: times.prefill.seconds,
      decodeSeconds: times.decode.seconds,
      prefillTokensPerSecond: Double(times.prefill.tokens) / times.prefill.seconds,
      decodeTokensPerSecond: times.decode.tokens == 0
        ? 0 : Double(times.decode.tokens) / times.decode.seconds)
  }
}

extension Generation {
  /// What is said where the method attended to every token in every step; nil without steps.
  package func nothingLeftOut(by method: any CacheMethod, _ layers: [LayerShape]) -> String? {
    // The answer's last token is never fed back.
    let length = prompt.count + given.count + tokens.count - 1
    return steps == 0 ? nil : method.nothingLeftOut(length: length, layers: layers)
  }
}

/// Answers in a few lines: speed, bytes, rates.
package struct GenerationSummary {
  /// A label and what it stands for, in two columns.
  package let lines: [String]

  /// The summary of at least one answer.
  package init(
    _ answers: [Generation], _ method: any CacheMethod, layers: [LayerShape],
    _ times: Generator.Times, loadSeconds: Double
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
    ]
    let budget = method.budgetUse(
      tokens: answers.map(\.prompt.count).max() ?? 1, layers: layers)
    if budget.share < 1 || !method.options.isEmpty { rows.append(["budget", budget.text]) }
    rows += [
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
    if let assistant = use.assistant {
      rows.append(["assistant", Self.text(assistant)])
    }
    if let rate = use.hitRate { rows.append(["hit rate", number(rate)]) }
    if let mass = use.mass {
      let recall = use.recall.map { number($0) } ?? "nothing was chosen"
      rows.append(["recall", "\(recall); share of exact attention \(number(mass))"])
    }
    // Of several answers the longest may be the one that has something selected.
    let notes = answers.map { $0.nothingLeftOut(by: method, layers) }
    if let longest = answers.indices.max(by: { answers[$0].steps < answers[$1].steps }),
      !notes.contains(nil), let note = notes[longest]
    {
      rows.append(["note", note])
    }
    lines = labelled(rows)
  }

  /// "6 layers, 6.00 KiB of what is held; prompt 0.010 s and 15 steps 0.012 s of the above".
  private static func text(_ use: AssistantUse) -> String {
    "\(use.layers) layers, \(bytes(use.deviceBytes)) of what is held; prompt "
      + String(format: "%.3f s and ", use.prefillSeconds)
      + "\(use.steps) steps " + String(format: "%.3f s", use.decodeSeconds) + " of the above"
  }
}
