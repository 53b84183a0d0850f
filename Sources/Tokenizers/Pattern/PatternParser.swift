// Regular expressions, as far as tokenizers use them: the parser.
//
// In:  a pattern, such as  '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+
// Out: the program that TokenizerPattern.swift runs, or what in the pattern is not supported.
//
//   pattern   = sequence ("|" sequence)*
//   sequence  = (atom quantifier?)*
//   atom      = "(" pattern ")" | "(?:" pattern ")" | "(?i:" pattern ")"
//             | "(?=" pattern ")" | "(?!" pattern ")" | class | escape | "." | character
//   class     = "[" "^"? (character | character "-" character | escape)+ "]"
//   escape    = \r \n \t \f \v \s \S \d \D \p{L} \p{^Lu} \P{N} \uHHHH \x{H...} or \ and punctuation
//   quantifier= ("?" | "*" | "+") "+"?  |  "{" m "}" | "{" m "," n? "}" | "{" "," n "}"
//
// A group may repeat at most 8 times, a set at most 1000 times or without bound; a lookahead not at
// all. Ignoring case is for ASCII literals and classes, with the two characters beyond ASCII that
// fold into it: U+017F (s) and U+212A (k).
// Everything else is an error that names it: anchors, lazy quantifiers, back-references,
// lookbehind, names, scripts, class arithmetic.

/// What a pattern holds that is not supported.
struct PatternError: Error {
  let reason: String
}

/// The tree of a pattern.
indirect enum PatternNode {
  case take(ScalarSet, minimum: Int, maximum: Int, isPossessive: Bool)
  case sequence([PatternNode])
  case alternatives([PatternNode])
  case look(PatternNode, mustMatch: Bool)

  /// Lengths of the shortest and of the longest text that matches.
  var lengths: ClosedRange<Int> {
    switch self {
    case .take(_, let minimum, let maximum, _):
      return minimum...maximum
    case .sequence(let nodes):
      return nodes.map(\.lengths).reduce(0...0) {
        let (longest, isBeyond) = $0.upperBound.addingReportingOverflow($1.upperBound)
        return $0.lowerBound + $1.lowerBound...(isBeyond ? Int.max : longest)
      }
    case .alternatives(let nodes):
      let lengths = nodes.map(\.lengths)
      return (lengths.map(\.lowerBound).min() ?? 0)...(lengths.map(\.upperBound).max() ?? 0)
    case .look:
      return 0...0
    }
  }

  /// Number of steps that it compiles to.
  var size: Int {
    switch self {
    case .take: 1
    case .sequence(let nodes), .alternatives(let nodes): nodes.reduce(1) { $0 + $1.size }
    case .look(let node, _): 1 + node.size
    }
  }
}

extension TokenizerPattern {
  /// Compiles `pattern` into the steps of a matcher.
  init(_ pattern: Scalars) throws(PatternError) {
    if pattern.count > 10_000 { throw PatternError(reason: "longer than 10000 characters") }
    var parser = PatternParser(pattern: pattern)
    let tree = try parser.pattern(depth: 0)
    if !parser.isAtEnd { throw parser.fault("unmatched \")\"") }
    var compiler = PatternCompiler()
    let end = compiler.add(.match)
    let start = compiler.compile(tree, next: end)
    if compiler.steps.count > 5000 { throw PatternError(reason: "too many repetitions") }
    self.init(
      steps: compiler.steps, sets: compiler.sets, start: start, lengths: tree.lengths)
  }
}

/// Turns the tree into steps, from the end to the beginning: each step knows its successor.
private struct PatternCompiler {
  var steps: [TokenizerPattern.Step] = []
  var sets: [ScalarSet] = []

  mutating func add(_ step: TokenizerPattern.Step) -> Int {
    steps.append(step)
    return steps.count - 1
  }

  /// Adds the steps of `node` that go on with `next`; returns the first of them.
  mutating func compile(_ node: PatternNode, next: Int) -> Int {
    switch node {
    case .take(let set, let minimum, let maximum, let isPossessive):
      sets.append(set)
      return add(
        .take(
          set: sets.count - 1, minimum: minimum, maximum: maximum, isPossessive: isPossessive,
          next: next))
    case .sequence(let nodes):
      return nodes.reversed().reduce(next) { compile($1, next: $0) }
    case .alternatives(let nodes):
      return add(.choose(nodes.map { compile($0, next: next) }))
    case .look(let node, let mustMatch):
      let end = add(.match)
      return add(.look(at: compile(node, next: end), mustMatch: mustMatch, next: next))
    }
  }
}

/// The place in a pattern; one method per rule of the grammar.
struct PatternParser {
  let pattern: Scalars
  var place = 0
  var ignoresCase = false

  init(pattern: Scalars) { self.pattern = pattern }

  var isAtEnd: Bool { place == pattern.count }
  var next: Unicode.Scalar? { isAtEnd ? nil : pattern[place] }

  func fault(_ reason: String) -> PatternError {
    PatternError(reason: "\(reason) at character \(place)")
  }

  mutating func take(_ text: String) -> Bool {
    guard pattern[place...].starts(with: text.unicodeScalars) else { return false }
    place += text.unicodeScalars.count
    return true
  }

  mutating func pattern(depth: Int) throws(PatternError) -> PatternNode {
    if depth > 16 { throw fault("groups nested more than 16 deep") }
    var alternatives = [try sequence(depth: depth)]
    while take("|") { alternatives.append(try sequence(depth: depth)) }
    return alternatives.count == 1 ? alternatives[0] : .alternatives(alternatives)
  }

  private mutating func sequence(depth: Int) throws(PatternError) -> PatternNode {
    var nodes: [PatternNode] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      nodes.append(try quantified(try atom(depth: depth)))
    }
    return nodes.count == 1 ? nodes[0] : .sequence(nodes)
  }

  private mutating func atom(depth: Int) throws(PatternError) -> PatternNode {
    if take("(") { return try group(depth: depth) }
    if take("[") { return one(try characterClass()) }
    if take(".") { return one(ScalarSet("\n").inverted) }
    if take("\\") { return one(try escape()) }
    guard let scalar = next else { throw fault("unexpected end") }
    if "^$".unicodeScalars.contains(scalar) { throw fault("anchor \"\(scalar)\"") }
    if "?*+{".unicodeScalars.contains(scalar) { throw fault("\"\(scalar)\" after nothing") }
    place += 1
    // One character folds into each of these pairs (as U+00DF into "ss").
    let pairs = ["ff", "fi", "fl", "ss", "st"]
    if ignoresCase, pairs.contains(String(Scalars(pattern[..<place].suffix(2))).lowercased()) {
      throw fault("letters that ignore case as a pair")
    }
    return one(try folded(scalar))
  }

  private func one(_ set: ScalarSet) -> PatternNode {
    .take(set, minimum: 1, maximum: 1, isPossessive: false)
  }

  /// A group, from behind its "(" on.
  private mutating func group(depth: Int) throws(PatternError) -> PatternNode {
    let outer = ignoresCase
    defer { ignoresCase = outer }
    var lookahead: Bool?
    if take("?=") {
      lookahead = true
    } else if take("?!") {
      lookahead = false
    } else if take("?i:") {
      ignoresCase = true
    } else if !take("?:"), take("?") || take("*") {
      throw fault("a group of this kind (only (?: (?i: (?= (?! are supported)")
    }
    let inner = try pattern(depth: depth + 1)
    if !take(")") { throw fault("missing \")\"") }
    guard let lookahead else { return inner }
    return .look(inner, mustMatch: lookahead)
  }

  /// `node` with the quantifier that follows, if one does.
  private mutating func quantified(_ node: PatternNode) throws(PatternError) -> PatternNode {
    guard let (minimum, maximum, isPossessive) = try quantifier() else { return node }
    if let scalar = next, "?*+{".unicodeScalars.contains(scalar) {
      throw fault("a lazy or second quantifier")
    }
    switch node {
    case .take(let set, 1, 1, false):
      return .take(set, minimum: minimum, maximum: maximum, isPossessive: isPossessive)
    case .look:
      throw fault("a repeated lookahead")
    default:
      // X{1,3} = X(X(X)?)?
      if maximum > 8 || isPossessive { throw fault("a group repeated more than 8 times") }
      if node.size * maximum > 1000 { throw fault("a long group repeated") }
      var tail = PatternNode.sequence([])
      for count in stride(from: maximum, to: 0, by: -1) {
        tail = .sequence([node, tail])
        if count > minimum { tail = .alternatives([tail, .sequence([])]) }
      }
      return tail
    }
  }

  private mutating func quantifier() throws(PatternError) -> (Int, Int, Bool)? {
    if take("?") { return (0, 1, take("+")) }
    if take("*") { return (0, Int.max, take("+")) }
    if take("+") { return (1, Int.max, take("+")) }
    guard take("{") else { return nil }
    let minimum = try number()
    let isOpen = take(",")
    let maximum = isOpen ? try number() : minimum
    if minimum == nil && maximum == nil { throw fault("\"{\" without bounds") }
    if !take("}") { throw fault("missing \"}\"") }
    if minimum ?? 0 > maximum ?? Int.max { throw fault("bounds in the wrong order") }
    return (minimum ?? 0, maximum ?? Int.max, false)
  }

  private mutating func number() throws(PatternError) -> Int? {
    var number: Int?
    while let digit = next.flatMap({ $0.isASCII ? Character($0).wholeNumberValue : nil }) {
      number = (number ?? 0) * 10 + digit
      if number ?? 0 > 1000 { throw fault("a bound beyond 1000") }
      place += 1
    }
    return number
  }

  /// A class, from behind its "[" on.
  private mutating func characterClass() throws(PatternError) -> ScalarSet {
    let isNegated = take("^")
    if isNegated && ignoresCase { throw fault("a negated class that ignores case") }
    var sets: [ScalarSet] = []
    while !take("]") {
      guard let first = next else { throw fault("missing \"]\"") }
      if first == "[" { throw fault("a class inside a class") }
      if take("&&") { throw fault("an intersection of classes") }
      if take("\\") {
        let start = place
        let set = try escape()
        guard next == "-", let literal = try literal(at: start) else {
          sets.append(set)
          continue
        }
        sets += try range(from: literal)
      } else {
        place += 1
        sets += try range(from: first)
      }
    }
    if sets.isEmpty { throw fault("an empty class") }
    return ScalarSet(union: sets, negated: isNegated)
  }

  /// `first`, or the range that begins with it.
  private mutating func range(from first: Unicode.Scalar) throws(PatternError) -> [ScalarSet] {
    guard next == "-", place + 1 < pattern.count, pattern[place + 1] != "]" else {
      return [try folded(first)]
    }
    place += 1
    guard var last = next else { throw fault("missing \"]\"") }
    place += 1
    if last == "\\" {
      let start = place
      _ = try escape()
      guard let literal = try literal(at: start) else { throw fault("a range to a class") }
      last = literal
    }
    if last == "[" || first > last { throw fault("a range in the wrong order") }
    if !ignoresCase { return [ScalarSet(first...last)] }
    if !last.isASCII { throw fault("a range beyond ASCII that ignores case") }
    var sets: [ScalarSet] = []
    for value in first.value...last.value {
      if let scalar = Unicode.Scalar(value) { sets.append(try folded(scalar)) }
    }
    return sets
  }
}
