// A trace as a file, and what is wrong with one that cannot be shown.
//
// In:  a trace; or the bytes of a file.
// Out: its JSON, on one line; or the trace, after a look at every number that a reader relies on.

import Foundation
import Reports

extension GenerationTrace {
  /// The file's text: one JSON object on one line.
  package func fileText() throws -> String { try jsonText(self, isPretty: false) + "\n" }

  /// Reads a file's text; an error names the place in it.
  package init(fileText bytes: [UInt8]) throws(EvaluationError) {
    struct Head: Decodable { var schema: String? }
    let data = Data(bytes)
    guard let head = try? JSONDecoder().decode(Head.self, from: data), let schema = head.schema
    else { throw EvaluationError("no trace: a JSON object with a \"schema\" is needed") }
    if schema != Self.schema {
      throw EvaluationError("schema \(visible(schema)): this program reads \(Self.schema)")
    }
    do {
      self = try JSONDecoder().decode(GenerationTrace.self, from: data)
    } catch let error as DecodingError {
      throw EvaluationError("not as \(Self.schema) has it: \(Self.words(error))")
    } catch {
      throw EvaluationError("not as \(Self.schema) has it")
    }
    try check()
  }

  /// Throws where the parts do not fit together.
  private func check() throws(EvaluationError) {
    func require(_ holds: Bool, _ what: @autoclosure () -> String) throws(EvaluationError) {
      if !holds { throw EvaluationError(what()) }
    }
    try require(
      pieces.count == tokens.count, "\(pieces.count) pieces for \(tokens.count) tokens")
    try require(
      promptTokens >= 1 && promptTokens <= tokens.count
        && steps.count <= tokens.count - promptTokens,
      "\(steps.count) steps after a prompt of \(promptTokens) do not fit \(tokens.count) tokens")
    try require(
      recentTokens >= 1 && scoreStep > 0 && shareStep > 0 && !layers.isEmpty,
      "recent_tokens, score_step and share_step must be positive, and there is at least one layer")
    for (n, layer) in layers.enumerated() {
      let holders = layer.slots?.count ?? layer.queryHeads
      try require(
        layer.queryHeads >= 1 && holders >= 1 && layer.queryHeads % holders == 0,
        "layer \(n): \(layer.queryHeads) query heads for \(holders) row holders")
      try require(
        (layer.slots ?? []).allSatisfy { Self.ascends($0, below: promptTokens) },
        "layer \(n): slots must ascend within the prompt")
    }
    for (t, step) in steps.enumerated() {
      try require(
        step.layers.count == layers.count
          && zip(step.layers, layers).allSatisfy { $0.heads.count == $1.queryHeads },
        "step \(t + 1): its layers and heads are not those of the trace")
    }
    for (n, layer) in layers.enumerated() {
      for h in 0..<layer.queryHeads { try check(layer: n, head: h) }
    }
  }

  /// Goes through the steps of one head: what goes was there, what comes was not.
  private func check(layer n: Int, head h: Int) throws(EvaluationError) {
    var isThere = [Bool](repeating: false, count: tokens.count)
    for (t, step) in steps.enumerated() {
      let (length, change) = (promptTokens + t + 1, step.layers[n].heads[h])
      let place = "step \(t + 1), layer \(n), head \(h)"
      guard Self.ascends(change.gone, below: length), Self.ascends(change.came, below: length)
      else { throw EvaluationError("\(place): tokens must ascend, below \(length)") }
      for token in change.gone {
        if !isThere[token] {
          throw EvaluationError("\(place): token \(token) goes and was not there")
        }
        isThere[token] = false
      }
      for token in change.came {
        if isThere[token] { throw EvaluationError("\(place): token \(token) comes and is there") }
        isThere[token] = true
      }
      for entry in change.best {
        guard entry.count == 3, let token = entry[0], (0..<length).contains(token), entry[1] != nil
        else { throw EvaluationError("\(place): best needs [token, exact, own or null]") }
      }
      let scores = change.best.flatMap { $0.dropFirst().compactMap { $0 } }
      guard (scores + [change.norm]).allSatisfy({ $0.magnitude <= 1 << 31 }) else {
        throw EvaluationError("\(place): a score is beyond 2^31 steps")
      }
      guard (0...1 << 31).contains(change.mass), (0...length).contains(change.found) else {
        throw EvaluationError("\(place): mass and found count from 0")
      }
    }
  }

  private static func ascends(_ tokens: [Int], below end: Int) -> Bool {
    zip(tokens, tokens.dropFirst()).allSatisfy { $0 < $1 } && tokens.first ?? 0 >= 0
      && tokens.last ?? -1 < end
  }

  /// "steps.3.layers is missing".
  private static func words(_ error: DecodingError) -> String {
    func place(_ path: [any CodingKey]) -> String {
      let keys = path.map { $0.intValue.map(String.init) ?? $0.stringValue }
      return keys.isEmpty ? "the file" : visible(keys.joined(separator: "."))
    }
    switch error {
    case .keyNotFound(let key, let context):
      return "\(place(context.codingPath + [key])) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return "\(place(context.codingPath)) has another type"
    case .dataCorrupted(let context): return "\(place(context.codingPath)) cannot be read"
    @unknown default: return "the file cannot be read"
    }
  }
}
