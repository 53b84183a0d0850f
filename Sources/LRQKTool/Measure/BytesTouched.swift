// How many bytes a prompt's factorisation, a decode step and full attention must read or write.
//
// In:  sizes; who has codes and rows of its own; what a step attended to and copied.
// Out: bytes, by what they are.
//
// One rule: **a stage reads or writes each byte once, whoever needs it.** Codes that the heads of a
// group share are read once for all of them, and so is a row that several heads attend to. A byte
// that two stages need is counted in both, because a stage ends before the next one begins and more
// lies between them than a core's own cache holds. Results of a stage that do fit there (scores,
// weights, sums) are not counted. So this is what must be touched, not what the program happens to
// read; a program that reads a row once for each head is slower by these very bytes.

package import LRQK
package import TieredMemory

/// The bytes of one element: all benchmarks run in Float.
private let elementBytes = MemoryLayout<Float>.stride

/// The bytes of one decode step of LRQK, by stage.
package struct StepBytes: Sendable, Equatable {
  /// Stage 3: exact keys and codes of Omega; none with linear codes.
  package var omega = 0
  /// Stage 5: codes of the candidates.
  package var codes = 0
  /// Stage 7: missed rows, read on the host and written on the device.
  package var copied = 0
  /// Stage 8: keys and values that some head attends to.
  package var attended = 0

  /// What all stages of a step touch together.
  package var total: Int { omega + codes + copied + attended }

  /// The bytes of the step that attended to the tokens `attended` and copied `missed` rows.
  ///
  /// `omega` are the tokens that the codes of each query head were fitted to; `attended` is by
  /// query head, too.
  package init(
    _ parameters: Parameters, shape: CacheShape, candidates: Int, omega: [[Int]],
    attended: [[Int]], missed: Int
  ) {
    let (r, d) = (parameters.rank, shape.width)
    let coders = shape.sharing(perKeyValueHead: parameters.codeSharing == .perKeyValueHead)
    let holders = shape.sharing(perKeyValueHead: parameters.rows.holders == .perKeyValueHead)
    func distinct(_ sets: [[Int]], _ sharing: HeadSharing) -> Int {
      sharing.union(of: sets).reduce(0) { $0 + $1.count }
    }
    if !parameters.hasLinearCodes {
      self.omega = elementBytes * (distinct(omega, holders) * d + distinct(omega, coders) * r)
    }
    codes = elementBytes * coders.count * candidates * r
    copied = elementBytes * 2 * missed * 2 * d
    self.attended = elementBytes * distinct(attended, holders) * 2 * d
  }
}

extension StepBytes {
  /// The mean of `steps`, at least one, each part rounded down.
  package init(meanOf steps: [StepBytes]) {
    precondition(!steps.isEmpty, "no step")
    func mean(_ part: KeyPath<StepBytes, Int>) -> Int {
      steps.reduce(0) { $0 + $1[keyPath: part] } / steps.count
    }
    omega = mean(\.omega)
    codes = mean(\.codes)
    copied = mean(\.copied)
    attended = mean(\.attended)
  }
}

/// The bytes of a prompt's factorisation.
///
/// Q and K pass by once for the sums over the prompt, and with them the codes of a given start.
/// Then K passes once more for A_K = K W_K, which is written.
package func prefillBytes(
  tokens: Int, queryHeads: Int, keyValueHeads: Int, groups: Int, width: Int, rank: Int,
  startsGiven: Bool
) -> Int {
  let starts = startsGiven ? (queryHeads + groups) * rank : 0
  let rows = (queryHeads + 2 * keyValueHeads) * width
  return elementBytes * tokens * (rows + starts + groups * rank)
}

/// The bytes of full attention: every key and value once.
package func attentionBytes(tokens: Int, keyValueHeads: Int, width: Int) -> Int {
  elementBytes * 2 * tokens * keyValueHeads * width
}
