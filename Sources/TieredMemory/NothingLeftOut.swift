// A budget of rows that covers every token: the sentence that says so, and what would change it.
//
// In:  sizes, and how many tokens were in sight.
// Out: a line for reports, or nil where some tokens were left out.

/// "nothing was selected: k + w = 528 covers all 45 tokens, as full attention does; k below 29
/// selects".
///
/// `smaller` is the option whose value would have to be smaller, and `kept` the option, if any,
/// whose tokens are attended to as well. `words` say what the method does to tokens, in the past
/// and in the present tense. Nil where `tokens`, those in sight, are more than both values
/// together.
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
