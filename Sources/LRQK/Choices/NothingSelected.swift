// A budget that covers every token: the sentence that says so, and what would select.
//
// In:  sizes, and how many tokens were in sight.
// Out: a line for reports, or nil where some tokens were left out.

extension Parameters {
  /// The sentence for a sequence that was attended to in full; nil where tokens were left out.
  public func nothingSelected(tokens: Int) -> String? {
    nothingLeftOut(
      tokens: tokens, smaller: ("k", selected), kept: ("w", recent), words: ("selected", "selects"))
  }
}

/// "nothing was selected: k + w = 528 covers all 45 tokens, as full attention does; k below 29
/// selects".
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
