// The choices of a cache: lrqk_options to Parameters, and a preset back.
//
// In:  the struct of lrqk.h, whose choices are numbers.
// Out: `Parameters` that have been checked, or a sentence about the first field that makes no
//      sense.
//
// A field, or a few of them, is the text of one choice of LRQK's table, with a number for each
// word. A field that another choice leaves without effect must be 0, so that an ignored field is
// never mistaken for a setting.

public import CLRQK
import LRQK
import Tensors
import TieredMemory

/// The most tokens that k and w may name: slots have indices of 32 bits.
private let largestSet = 1 << 30

/// Fills in a preset.
@c @implementation
public func lrqk_options_init(
  _ options: UnsafeMutablePointer<lrqk_options>?, _ options_size: Int, _ preset: lrqk_preset
) -> lrqk_status {
  guard let options = unsafe options else { return LRQK_ERROR_NULL }
  if options_size != MemoryLayout<lrqk_options>.size { return LRQK_ERROR_SIZE }
  let choice: Preset
  switch preset {
  case LRQK_PRESET_PAPER: choice = .paper
  case LRQK_PRESET_RECOMMENDED: choice = .recommended
  default: return LRQK_ERROR_PARAMETER
  }
  unsafe options.pointee = lrqk_options(Parameters(choice, .released))
  return LRQK_OK
}

/// Where a field of the struct lies.
private typealias FieldPath<Value> = any WritableKeyPath<lrqk_options, Value> & Sendable

/// One field of the struct: its text, and back.
private struct Field: Sendable {
  let name: String
  let isZero: @Sendable (lrqk_options) -> Bool
  let text: @Sendable (lrqk_options) throws(CallError) -> String
  let set: @Sendable (String, inout lrqk_options) -> Void

  /// A number from 1 on for each word; a word that ends in a colon takes the next field behind it.
  static func word(_ name: String, _ path: FieldPath<Int32>, _ words: String...) -> Field {
    Field(name: name, isZero: { $0[keyPath: path] == 0 }) { o throws(CallError) in
      let number = Int(o[keyPath: path])
      if words.indices.contains(number - 1) { return words[number - 1] }
      let known = (1...words.count).map(String.init).joined(separator: ", ")
      throw CallError(LRQK_ERROR_PARAMETER, "\(name) = \(number): known are \(known) (lrqk.h)")
    } set: { text, o in
      let index = words.firstIndex { $0 == text || $0.last == ":" && text.hasPrefix($0) }
      o[keyPath: path] = Int32((index ?? -1) + 1)
    }
  }

  /// A whole number; 0 may have a word.
  static func count(
    _ name: String, _ path: FieldPath<Int64>, from least: Int, zero: String? = nil
  ) -> Field {
    Field(name: name, isZero: { $0[keyPath: path] == 0 }) { o throws(CallError) in
      let number = try checked(o[keyPath: path], name, from: least)
      return number == 0 ? zero ?? "0" : "\(number)"
    } set: { text, o in
      o[keyPath: path] = Int64(text) ?? 0
    }
  }

  static func number(_ name: String, _ path: FieldPath<Double>) -> Field {
    Field(name: name, isZero: { $0[keyPath: path] == 0 }) {
      "\($0[keyPath: path])"
    } set: {
      $1[keyPath: path] = Double($0) ?? 0
    }
  }

  static let seed = Field(name: "seed", isZero: { $0.seed == 0 }) {
    "\($0.seed)"
  } set: {
    $1.seed = UInt64($0) ?? 0
  }
}

/// The fields of every choice, sizes apart; words in the order of lrqk.h's numbers.
private let fields: [String: [Field]] = [
  "solver": [.word("solver", \.solver, "rowwise", "gram", "spectral")],
  "arithmetic": [.word("arithmetic", \.arithmetic, "reference", "library")],
  "initialization": [
    .word("initialization", \.initialization, "randn:", "top", "topcol", "spectral", "given"),
    .seed,
  ],
  "sweeps": [.count("prefill_iterations", \.prefill_iterations, from: 0)],
  "sweep-tolerance": [.number("prefill_tolerance", \.prefill_tolerance)],
  "weighted-update": [
    .word("weighted_update", \.weighted_update, "gauss-seidel", "jacobi")
  ],
  "weights": [
    .number("lambda_q", \.lambda_q), .number("lambda_k", \.lambda_k),
    .number("lambda_1", \.lambda_1), .number("lambda_2", \.lambda_2),
  ],
  "code-map": [.word("code_map", \.code_map, "alternating", "linear")],
  "basis-update": [
    .word("basis_update", \.basis_update, "projection", "damped:", "frozen"),
    .number("damping", \.damping),
  ],
  "alternations": [.count("decode_iterations", \.decode_iterations, from: 1)],
  "alternation-tolerance": [.number("decode_tolerance", \.decode_tolerance)],
  "map-refresh": [.count("map_refresh", \.map_refresh, from: 0, zero: "never")],
  "code-sharing": [
    .word("code_sharing", \.code_sharing, "per-query-head", "per-key-value-head")
  ],
  "candidates": [.word("candidates", \.candidates, "all", "released")],
  "transfers": [.word("transfers", \.transfers, "per-query-head", "per-key-value-head")],
  "support": [.word("support", \.support, "own", "group")],
  "reuse": [.word("reuse", \.reuse, "hit-miss", "none")],
  "ridge": [.number("ridge", \.ridge)],
  "on-breakdown": [.word("breakdown", \.breakdown, "stop", "proceed")],
]

/// What lrqk_options says, checked; `width` is d.
func parameters(_ o: lrqk_options) throws(CallError) -> Parameters {
  let sizes = (
    rank: try checked(o.rank, "rank", to: largestWidth),
    selected: try checked(o.selected, "selected", to: largestSet),
    recent: try checked(o.recent, "recent", to: largestSet)
  )
  do {
    var p = try Parameters(
      .paper, rank: sizes.rank, selected: sizes.selected, recent: sizes.recent)
    for choice in Choice.inReadingOrder() {
      guard let fields = fields[choice.name] else { continue }
      if choice.write(p) == nil {
        for (n, field) in fields.enumerated() { try requireZero(field, o, idle(n, choice, p)) }
        continue
      }
      let text = try text(fields, o, choice, p)
      do throws(ChoiceError) {
        try choice.read(text, into: &p)
      } catch {
        throw CallError(LRQK_ERROR_PARAMETER, choice.sentence(error, text, p))
      }
    }
    try p.check(width: try checked(o.width, "width", to: largestWidth))
    return p
  } catch {
    throw CallError(error)
  }
}

/// The text of a choice that exists.
private func text(
  _ fields: [Field], _ o: lrqk_options, _ choice: Choice, _ p: Parameters
) throws(CallError) -> String {
  if choice.form == .weights {
    // A pair that acts on nothing is 0 here and 1 in the text.
    var texts: [String] = []
    for (n, field) in fields.enumerated() {
      if exists(weight: n, p) {
        texts.append(try field.text(o))
      } else {
        try requireZero(field, o, idle(n, choice, p))
        texts.append("1")
      }
    }
    return texts.joined(separator: ",")
  }
  let word = try fields[0].text(o)
  guard fields.count > 1 else { return word }
  if word.last == ":" { return word + (try fields[1].text(o)) }
  try requireZero(
    fields[1], o,
    choice.parts == .prompt
      ? "a start that is not gaussian" : "a basis update that is not damped")
  return word
}

/// Whether lambda_Q and lambda_K (0, 1), or lambda_1 and lambda_2 (2, 3), act on something.
private func exists(weight n: Int, _ p: Parameters) -> Bool {
  n < 2 ? p.sweeps != nil : !p.hasLinearCodes
}

/// Which other choices leave field `n` of a choice without effect.
private func idle(_ n: Int, _ choice: Choice, _ p: Parameters) -> String {
  let codes = p.hasLinearCodes ? "linear codes" : "alternating codes"
  let parts = choice.form == .weights ? (n < 2 ? .prompt : .steps) : choice.parts
  return parts == .prompt
    ? "the spectral solver" : parts == .steps ? codes : "the spectral solver and \(codes)"
}

/// Throws if a field without effect is not 0.
private func requireZero(_ field: Field, _ o: lrqk_options, _ idle: String) throws(CallError) {
  if !field.isZero(o) {
    throw CallError(LRQK_ERROR_PARAMETER, "\(field.name) has no effect with \(idle): set it to 0")
  }
}

extension lrqk_options {
  /// The choices of `p`, without sizes; fields without effect are 0.
  fileprivate init(_ p: Parameters) {
    self.init()
    for choice in Choice.all {
      guard let fields = fields[choice.name], let text = choice.write(p) else { continue }
      if choice.form == .weights {
        for (n, weight) in text.split(separator: ",").enumerated() where exists(weight: n, p) {
          fields[n].set(String(weight), &self)
        }
      } else {
        fields[0].set(text, &self)
        let value = text.split(separator: ":").dropFirst().first
        if let value, fields.count > 1 { fields[1].set(String(value), &self) }
      }
    }
  }
}
