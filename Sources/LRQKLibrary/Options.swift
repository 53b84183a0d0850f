// The choices of a cache: lrqk_options to Parameters, and a preset back.
//
// In:  the struct of lrqk.h, whose choices are numbers.
// Out: `Parameters` that have been checked, or a sentence about the first field that makes no sense.
//
// A field, or a few of them, is the text of one choice of LRQK's table, with a number for each word. A
// field that another choice leaves without effect must be 0, so that an ignored field is never mistaken
// for a setting.

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

/// One field of the struct.
private struct Field: Sendable {
  enum Kind: Sendable {
    /// A number for each word. A word that ends in a colon takes the next field behind it.
    case word(FieldPath<Int32>, [(number: UInt32, word: String)])
    /// A whole number from `least`; "never" for 0, if that is a word.
    case count(FieldPath<Int64>, least: Int, never: Bool)
    case seed
    case number(FieldPath<Double>)
  }

  let name: String
  let kind: Kind
  /// What has to run for it to exist, if that is not what its choice says.
  var parts: Choice.Parts = []

  func isZero(_ o: lrqk_options) -> Bool {
    switch kind {
    case .word(let path, _): o[keyPath: path] == 0
    case .count(let path, _, _): o[keyPath: path] == 0
    case .seed: o.seed == 0
    case .number(let path): o[keyPath: path] == 0
    }
  }

  func text(_ o: lrqk_options) throws(Refusal) -> String {
    switch kind {
    case .word(let path, let words):
      let number = o[keyPath: path]
      for entry in words where Int64(entry.number) == Int64(number) { return entry.word }
      let known = words.map { "\($0.number)" }.joined(separator: ", ")
      throw Refusal(LRQK_ERROR_PARAMETER, "\(name) = \(number): known are \(known) (lrqk.h)")
    case .count(let path, let least, let never):
      let number = try checked(o[keyPath: path], name, from: least)
      return never && number == 0 ? "never" : "\(number)"
    case .seed: return "\(o.seed)"
    case .number(let path): return "\(o[keyPath: path])"
    }
  }

  func set(_ text: String, in o: inout lrqk_options) {
    switch kind {
    case .word(let path, let words):
      o[keyPath: path] = Int32(
        words.first { entry in
          text == entry.word || entry.word.last == ":" && text.hasPrefix(entry.word)
        }?.number ?? 0)
    case .count(let path, _, _): o[keyPath: path] = Int64(text) ?? 0
    case .seed: o.seed = UInt64(text) ?? 0
    case .number(let path): o[keyPath: path] = Double(text) ?? 0
    }
  }
}

private func words(
  _ name: String, _ path: FieldPath<Int32>,
  _ words: KeyValuePairs<UInt32, String>
) -> Field {
  Field(name: name, kind: .word(path, words.map { (number: $0.key, word: $0.value) }))
}

private func count(
  _ name: String, _ path: FieldPath<Int64>, from least: Int,
  never: Bool = false
) -> Field {
  Field(name: name, kind: .count(path, least: least, never: never))
}

private func number(
  _ name: String, _ path: FieldPath<Double>,
  _ parts: Choice.Parts = []
) -> Field {
  Field(name: name, kind: .number(path), parts: parts)
}

private let sharing: KeyValuePairs = [
  LRQK_PER_QUERY_HEAD.rawValue: "per-query-head",
  LRQK_PER_KEY_VALUE_HEAD.rawValue: "per-key-value-head",
]

/// The fields of every choice; sizes apart.
private let fields: [String: [Field]] = [
  "solver": [
    words(
      "solver", \.solver,
      [
        LRQK_SOLVER_ROWWISE.rawValue: "rowwise", LRQK_SOLVER_GRAM.rawValue: "gram",
        LRQK_SOLVER_SPECTRAL.rawValue: "spectral",
      ])
  ],
  "arithmetic": [
    words(
      "arithmetic", \.arithmetic,
      [
        LRQK_ARITHMETIC_REFERENCE.rawValue: "reference",
        LRQK_ARITHMETIC_LIBRARY.rawValue: "library",
      ])
  ],
  "initialization": [
    words(
      "initialization", \.initialization,
      [
        LRQK_INITIALIZATION_GAUSSIAN.rawValue: "randn:",
        LRQK_INITIALIZATION_TOP_COLUMNS.rawValue: "top",
        LRQK_INITIALIZATION_SHARED_TOP_COLUMNS.rawValue: "topcol",
        LRQK_INITIALIZATION_SPECTRAL.rawValue: "spectral",
        LRQK_INITIALIZATION_GIVEN.rawValue: "given",
      ]), Field(name: "seed", kind: .seed),
  ],
  "sweeps": [count("prefill_iterations", \.prefill_iterations, from: 0)],
  "sweep-tolerance": [number("prefill_tolerance", \.prefill_tolerance)],
  "weighted-update": [
    words(
      "weighted_update", \.weighted_update,
      [
        LRQK_WEIGHTED_UPDATE_GAUSS_SEIDEL.rawValue: "gauss-seidel",
        LRQK_WEIGHTED_UPDATE_JACOBI.rawValue: "jacobi",
      ])
  ],
  "weights": [
    number("lambda_q", \.lambda_q, .prompt), number("lambda_k", \.lambda_k, .prompt),
    number("lambda_1", \.lambda_1, .steps), number("lambda_2", \.lambda_2, .steps),
  ],
  "code-map": [
    words(
      "code_map", \.code_map,
      [
        LRQK_CODE_MAP_ALTERNATING.rawValue: "alternating",
        LRQK_CODE_MAP_LINEAR.rawValue: "linear",
      ])
  ],
  "basis-update": [
    words(
      "basis_update", \.basis_update,
      [
        LRQK_BASIS_UPDATE_PROJECTION.rawValue: "projection",
        LRQK_BASIS_UPDATE_DAMPED.rawValue: "damped:",
        LRQK_BASIS_UPDATE_FROZEN.rawValue: "frozen",
      ]), number("damping", \.damping),
  ],
  "alternations": [count("decode_iterations", \.decode_iterations, from: 1)],
  "alternation-tolerance": [number("decode_tolerance", \.decode_tolerance)],
  "map-refresh": [count("map_refresh", \.map_refresh, from: 0, never: true)],
  "code-sharing": [words("code_sharing", \.code_sharing, sharing)],
  "candidates": [
    words(
      "candidates", \.candidates,
      [LRQK_CANDIDATES_ALL.rawValue: "all", LRQK_CANDIDATES_RELEASED.rawValue: "released"])
  ],
  "transfers": [words("transfers", \.transfers, sharing)],
  "support": [
    words(
      "support", \.support,
      [LRQK_SUPPORT_OWN.rawValue: "own", LRQK_SUPPORT_GROUP.rawValue: "group"])
  ],
  "reuse": [
    words(
      "reuse", \.reuse,
      [LRQK_REUSE_HIT_MISS.rawValue: "hit-miss", LRQK_REUSE_NONE.rawValue: "none"])
  ],
  "ridge": [number("ridge", \.ridge)],
  "on-breakdown": [
    words(
      "breakdown", \.breakdown,
      [LRQK_BREAKDOWN_STOP.rawValue: "stop", LRQK_BREAKDOWN_PROCEED.rawValue: "proceed"])
  ],
]

/// What lrqk_options says, checked; `width` is d.
func parameters(_ o: lrqk_options) throws(Refusal) -> Parameters {
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
        for field in fields { try requireUnused(field, o, choice, p) }
      } else {
        try read(choice, try text(fields, o, choice, p), into: &p)
      }
    }
    try p.check(width: try checked(o.width, "width", to: largestWidth))
    return p
  } catch {
    throw Refusal(error)
  }
}

/// The text of a choice that exists.
private func text(
  _ fields: [Field], _ o: lrqk_options, _ choice: Choice, _ p: Parameters
) throws(Refusal) -> String {
  if choice.form == .weights {
    // A pair that acts on nothing is 0 here and 1 in the text.
    var texts: [String] = []
    for field in fields {
      if exists(field, p) {
        texts.append(try field.text(o))
      } else {
        try requireUnused(field, o, choice, p)
        texts.append("1")
      }
    }
    return texts.joined(separator: ",")
  }
  let word = try fields[0].text(o)
  guard fields.count > 1 else { return word }
  if word.last == ":" { return word + (try fields[1].text(o)) }
  let what =
    fields[1].name == "seed" ? "a start that is not gaussian" : "a basis update that is not damped"
  try requireZero(fields[1], o, what)
  return word
}

private func read(_ choice: Choice, _ text: String, into p: inout Parameters) throws(Refusal) {
  do throws(ChoiceError) {
    try choice.read(text, into: &p)
  } catch {
    throw Refusal(LRQK_ERROR_PARAMETER, choice.sentence(error, text, p))
  }
}

/// Whether a weight acts on something.
private func exists(_ field: Field, _ p: Parameters) -> Bool {
  field.parts == .prompt ? p.sweeps != nil : !p.hasLinearCodes
}

/// Throws if a field that another choice leaves without effect is not 0.
private func requireUnused(
  _ field: Field, _ o: lrqk_options, _ choice: Choice, _ p: Parameters
) throws(Refusal) {
  let codes = p.hasLinearCodes ? "linear codes" : "alternating codes"
  let what =
    switch field.parts.union(choice.parts) {
    case .prompt: "the spectral solver"
    case .steps: codes
    default: "the spectral solver and \(codes)"
    }
  try requireZero(field, o, what)
}

private func requireZero(_ field: Field, _ o: lrqk_options, _ what: String) throws(Refusal) {
  if !field.isZero(o) {
    throw Refusal(LRQK_ERROR_PARAMETER, "\(field.name) has no effect with \(what): set it to 0")
  }
}

extension lrqk_options {
  /// The choices of `p`, without sizes; fields without effect are 0.
  fileprivate init(_ p: Parameters) {
    self.init()
    for choice in Choice.all {
      guard let fields = fields[choice.name], let text = choice.write(p) else { continue }
      if choice.form == .weights {
        for (field, part) in zip(fields, text.split(separator: ",")) where exists(field, p) {
          field.set(String(part), in: &self)
        }
      } else {
        fields[0].set(text, in: &self)
        if fields.count > 1, let part = text.split(separator: ":").dropFirst().first {
          fields[1].set(String(part), in: &self)
        }
      }
    }
  }
}
