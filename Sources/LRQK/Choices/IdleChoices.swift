// Choices without effect: which weights act on nothing, and a budget that covers every token.
//
// In:  `Parameters`, and what runs: a prompt's factorisation, decode steps, or both.
// Out: names and sentences. Whoever takes options refuses an idle one, or says so; the rule stands here
//      once for all of them. ChoiceWords.swift lists the choices in effect by the same rule.

extension Parameters {
  /// Whether sweeps over a prompt run.
  var sweeps: Bool { solver != .spectral }
  /// Whether decode steps alternate.
  var alternates: Bool { codeMap != .linear }

  /// Whether some system is solved: what ridge and weights act on.
  func solvesSystems(prompt: Bool, steps: Bool) -> Bool {
    prompt && sweeps || steps && alternates
  }

  /// The names of weights other than 1 that act on nothing, in pairs; none where all have an effect.
  ///
  /// lambda_Q and lambda_K are the sweeps' own, lambda_1 and lambda_2 those of the alternations.
  public func idleWeights(prompt: Bool = true, steps: Bool = true) -> [String] {
    var idle: [String] = []
    if !(prompt && sweeps), (weights.queries, weights.keys) != (1, 1) {
      idle += ["lambda_Q", "lambda_K"]
    }
    if !(steps && alternates), (weights.selfProduct, weights.selectedProducts) != (1, 1) {
      idle += ["lambda_1", "lambda_2"]
    }
    return idle
  }

  /// The same choices with idle weights set to 1, as reports show them.
  public func withoutIdleWeights(prompt: Bool = true, steps: Bool = true) -> Parameters {
    var p = self
    if !(prompt && sweeps) { (p.weights.queries, p.weights.keys) = (1, 1) }
    if !(steps && alternates) { (p.weights.selfProduct, p.weights.selectedProducts) = (1, 1) }
    return p
  }

  /// What is said where a sequence of so many tokens was attended to in full; nil where k was a choice.
  public func nothingSelected(tokens: Int) -> String? {
    nothingLeftOut(
      tokens: tokens, smaller: ("k", selected), kept: ("w", recent), words: ("selected", "selects"))
  }
}

/// "nothing was selected: k + w = 528 covers all 45 tokens, as full attention does; k below 29 selects".
///
/// `smaller` is the option whose value would have to be smaller, `kept` the one that is attended to
/// beside it, if any, `words` what the method does to tokens: past and present. Nil where `tokens`,
/// those in sight, exceed both together.
public func nothingLeftOut(
  tokens: Int, smaller: (name: String, value: Int), kept: (name: String, value: Int)?,
  words: (past: String, present: String)
) -> String? {
  let others = kept?.value ?? 0
  if tokens > smaller.value + others { return nil }
  let sum = smaller.name + (kept.map { " + \($0.name)" } ?? "")
  let advice =
    tokens - others > 1
    ? "; \(smaller.name) below \(tokens - others) \(words.present)"
    : tokens > 2 ? "; \(sum) below \(tokens) \(words.present)" : ""
  return "nothing was \(words.past): \(sum) = \(smaller.value + others) covers all \(tokens) "
    + "tokens, as full attention does\(advice)"
}
