// The three phases of a sequence of l tokens.
//
// In:  l, and the sizes k, w and r.
// Out: whether there are codes, and whether they select:
//
//   collecting   l < max(k, r)            no codes: all rows are on the device, attention is full
//   dense        max(k, r) ≤ l ≤ k + w    codes exist, all rows still fit: attention is full
//   sparse       l > k + w and l ≥ r      codes choose k older tokens; the ring has the w newest

import TieredMemory

/// How far a sequence has come.
public enum Phase: Sendable {
  /// There are no codes yet, and everything is on the device.
  case collecting
  /// There are codes, and everything still fits on the device.
  case dense
  /// Codes choose which rows are attended to.
  case sparse
}

extension Parameters {
  /// The phase after `length` tokens of a prompt that is complete.
  public func phase(length: Int) -> Phase {
    if length < max(selected, rank) { return .collecting }
    return length <= selected + recent ? .dense : .sparse
  }

  /// The sentence for a sequence that was attended to in full; nil where tokens were left out.
  public func nothingSelected(tokens: Int) -> String? {
    TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("k", selected), kept: ("w", recent), words: ("selected", "selects"))
  }
}
