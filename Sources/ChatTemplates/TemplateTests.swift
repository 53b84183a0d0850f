// Step 12 of a chat template: tests, value is name(argument).
//
// In:  a value, and for some tests what it is compared with.
// Out: yes or no.
//
// Names are Jinja's (3.1, List of Builtin Tests). The next file, PythonText.swift, is str.

/// The tests that there are.
enum TemplateTest: String, CaseIterable, Sendable {
  case boolean, defined, divisibleby, even, `false`, float, integer, iterable, mapping, none
  case number, odd, sequence, string, `true`, undefined
  case isEqual = "equalto"
  case isNotEqual = "ne"
  case isLess = "lt"
  case isAtMost = "le"
  case isGreater = "gt"
  case isAtLeast = "ge"
  case isIn = "in"

  private static let otherNames: [String: TemplateTest] = [
    "==": .isEqual, "eq": .isEqual, "!=": .isNotEqual, "<": .isLess, "lessthan": .isLess,
    "<=": .isAtMost, ">": .isGreater, "greaterthan": .isGreater, ">=": .isAtLeast,
  ]

  /// By its name in a template.
  init?(name: String) {
    guard let test = Self(rawValue: name) ?? Self.otherNames[name] else { return nil }
    self = test
  }

  /// For the tests that compare.
  var relation: TemplateRelation? {
    switch self {
    case .isEqual: .equal
    case .isNotEqual: .notEqual
    case .isLess: .less
    case .isAtMost: .lessOrEqual
    case .isGreater: .greater
    case .isAtLeast: .greaterOrEqual
    case .isIn: .isIn
    default: nil
    }
  }
}

extension TemplateRenderer {
  func ask(
    _ test: TemplateTest, of value: TemplateValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Bool {
    let what = "the test '\(test.rawValue)'"
    if !arguments.named.isEmpty {
      throw fault(.unsupported("\(what) with the name of an argument"))
    }
    let takesOne = test.relation != nil || test == .divisibleby
    let given = try bind(
      arguments, to: takesOne ? ["other"] : [], required: takesOne ? 1 : 0, of: what)
    if let relation = test.relation { return try holds(value, relation, given[0] ?? .none) }
    switch (test, value) {
    case (.defined, _): return !value.isUndefined
    case (.undefined, _): return value.isUndefined
    case (.none, .none), (.string, .text), (.mapping, .mapping), (.boolean, .bool),
      (.integer, .integer), (.float, .number), (.number, .integer), (.number, .number),
      (.number, .bool):
      return true
    case (.true, .bool(let value)): return value
    case (.false, .bool(let value)): return !value
    case (.iterable, .text), (.iterable, .list), (.iterable, .mapping), (.iterable, .undefined),
      (.sequence, .text), (.sequence, .list), (.sequence, .mapping), (.sequence, .undefined):
      return true
    case (.divisibleby, _), (.even, _), (.odd, _):
      let divisor = given.first.flatMap { $0 } ?? .integer(2)
      let rest = try combine(value, .modulo, divisor)
      return try isEqual(rest, .integer(test == .odd ? 1 : 0))
    default: return false
    }
  }
}
