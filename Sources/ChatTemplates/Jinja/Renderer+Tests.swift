// Tests, value is name(argument).
//
// In:  a value, and for some tests what it is compared with.
// Out: yes or no.
//
// Names are Jinja's (3.1, List of Builtin Tests). The next file, PythonText.swift, is str.

/// The tests that there are.
enum ValueTest: String, CaseIterable, Sendable {
  case boolean, callable, defined, divisibleby, escaped, even, `false`, filter, float, integer
  case iterable, lower, mapping, none, number, odd, sameas, sequence, string, test, `true`
  case undefined, upper
  case isEqual = "equalto"
  case isNotEqual = "ne"
  case isLess = "lt"
  case isAtMost = "le"
  case isGreater = "gt"
  case isAtLeast = "ge"
  case isIn = "in"

  private static let otherNames: [String: ValueTest] = [
    "==": .isEqual, "eq": .isEqual, "!=": .isNotEqual, "<": .isLess, "lessthan": .isLess,
    "<=": .isAtMost, ">": .isGreater, "greaterthan": .isGreater, ">=": .isAtLeast,
  ]

  /// By its name in a template; names in templates may be any text, so by its bytes.
  init?(name: String) {
    guard name.utf8.allSatisfy({ $0 < 0x80 }),
      let test = Self(rawValue: name) ?? Self.otherNames[name]
    else { return nil }
    self = test
  }

  /// Every name that Jinja knows: all of them are here.
  static let jinjaNames = Set(allCases.map(\.rawValue)).union(otherNames.keys)

  /// For the tests that compare.
  var relation: Relation? {
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

extension Renderer {
  /// The test that a template names; Jinja too finds out only when an `if` gets there.
  func test(named name: String) throws(ChatTemplateError) -> ValueTest {
    guard let test = ValueTest(name: name) else {
      throw fault(.evaluation("there is no test \(excerpt(name))"))
    }
    return test
  }

  func ask(
    _ test: ValueTest, of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Bool {
    let what = "the test '\(test.rawValue)'"
    if !arguments.named.isEmpty {
      throw fault(.unsupported("\(what) with the name of an argument"))
    }
    let takesOne = test.relation != nil || test == .divisibleby || test == .sameas
    let given = try bind(
      arguments, to: takesOne ? ["other"] : [], required: takesOne ? 1 : 0, of: what)
    if let relation = test.relation { return try holds(value, relation, given[0] ?? .none) }
    switch (test, value) {
    case (.defined, _): return !value.isUndefined
    case (.undefined, _): return value.isUndefined
    case (.none, .none), (.string, .text), (.string, .markup), (.escaped, .markup),
      (.mapping, .mapping), (.boolean, .bool), (.integer, .integer), (.float, .number),
      (.number, .integer), (.number, .number), (.number, .bool), (.callable, .macro),
      (.callable, .function), (.callable, .undefined), (.callable, .loop):
      return true
    case (.true, .bool(let value)): return value
    case (.false, .bool(let value)): return !value
    case (.iterable, .text), (.iterable, .markup), (.iterable, .list), (.iterable, .mapping),
      (.iterable, .undefined), (.iterable, .iterator), (.iterable, .loop), (.sequence, .text),
      (.sequence, .markup), (.sequence, .mapping), (.sequence, .undefined):
      return true
    case (.sequence, .list(let list)): return list.kind.isSequence
    case (.lower, _): return isLowerText(try string(value))
    case (.upper, _): return isUpperText(try string(value))
    case (.filter, _), (.test, _):
      // Python looks for the value in a dict, which a list cannot be looked for in.
      _ = try hashCode(of: value)
      let names = test == .filter ? Filter.jinjaNames : ValueTest.jinjaNames
      return value.text.map { names.contains($0) } ?? false
    case (.sameas, _): return try isSame(value, given[0] ?? .none)
    case (.divisibleby, _), (.even, _), (.odd, _):
      let divisor = given.first.flatMap { $0 } ?? .integer(2)
      let rest = try combine(value, .modulo, divisor)
      return try isEqual(rest, .integer(test == .odd ? 1 : 0))
    default: return false
    }
  }

  /// Python's `is`; of numbers and texts it depends on how Python keeps them.
  private func isSame(
    _ a: Value, _ b: Value
  ) throws(ChatTemplateError) -> Bool {
    switch (a, b) {
    case (.none, .none): return true
    case (.bool(let a), .bool(let b)): return a == b
    case (.none, _), (_, .none), (.bool, _), (_, .bool): return false
    case (.list(let a), .list(let b)): return a === b
    case (.mapping(let a), .mapping(let b)): return a === b
    case (.namespace(let a), .namespace(let b)): return a === b
    default:
      throw fault(.unsupported("the test 'sameas' of \(a.typeName) and \(b.typeName)"))
    }
  }
}
