// What an expression of a chat template becomes.
//
// In:  the caller's ChatValues, and what the renderer computes from them.
// Out: TemplateValue: Python's None, bool, int, float, str, list, tuple and dict, Jinja's undefined,
//      and four things that only variables can hold: namespace, macro, loop, function.
//
// Lists and dicts cannot hold those four, so no value can contain itself; and each knows its depth,
// which is bounded, so that walking over a value cannot exhaust the stack. Two strings are equal
// where their scalars are, as in Python: Swift's == would equate é with e and an accent. The next
// file, TemplateRenderer.swift, makes values and bounds what they cost.

/// A value while a template is rendered.
enum TemplateValue {
  /// Something that is not there, and the words that say so.
  case undefined(String)
  case none
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case text(String)
  case list(TemplateList)
  case mapping(TemplateMapping)
  case namespace(TemplateNamespace)
  case macro(TemplateClosure)
  case loop(TemplateRound)
  case function(TemplateFunction)

  /// How deep lists and dicts may lie in one another.
  static let depthLimit = 40

  /// 0 for anything but lists and dicts.
  var depth: Int {
    switch self {
    case .list(let list): list.depth
    case .mapping(let mapping): mapping.depth
    default: 0
    }
  }

  /// Python's name of the type, for error messages.
  var typeName: String {
    switch self {
    case .undefined: "an undefined value"
    case .none: "None"
    case .bool: "a bool"
    case .integer: "an int"
    case .number: "a float"
    case .text: "a str"
    case .list(let list): list.isTuple ? "a tuple" : "a list"
    case .mapping: "a dict"
    case .namespace: "a namespace"
    case .macro: "a macro"
    case .loop: "the loop variable"
    case .function: "a function"
    }
  }

  /// What `if`, `and`, `or` and `not` see: nothing, zero and empty are false.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .number(let value): value != 0
    case .text(let text): !text.utf8.isEmpty
    case .list(let list): !list.items.isEmpty
    case .mapping(let mapping): !mapping.keys.isEmpty
    case .namespace, .macro, .loop, .function: true
    }
  }

  var isUndefined: Bool {
    if case .undefined = self { true } else { false }
  }

  /// bool is a kind of int in Python: True counts as 1.
  var integer: Int? {
    switch self {
    case .integer(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  /// An int, bool or float as a float.
  var number: Double? {
    if case .number(let value) = self { value } else { integer.map(Double.init) }
  }
}

/// A list or a tuple.
final class TemplateList {
  let items: [TemplateValue]
  let isTuple: Bool
  /// One more than the deepest item's.
  let depth: Int

  init(_ items: [TemplateValue], isTuple: Bool = false) {
    self.items = items
    self.isTuple = isTuple
    depth = 1 + (items.lazy.map(\.depth).max() ?? 0)
  }
}

/// A dict with str keys, in order of insertion.
final class TemplateMapping {
  let keys: [String]
  /// As many as keys.
  let values: [TemplateValue]
  /// One more than the deepest value's.
  let depth: Int

  /// `keys` must differ from one another.
  init(keys: [String], values: [TemplateValue]) {
    self.keys = keys
    self.values = values
    depth = 1 + (values.lazy.map(\.depth).max() ?? 0)
  }
}

/// namespace(): the one thing that a template can change in place.
final class TemplateNamespace {
  /// Attribute names are ASCII.
  var attributes: [String: TemplateValue] = [:]
}

/// A macro, and the variables that it sees.
final class TemplateClosure {
  let macro: TemplateMacro
  let scope: TemplateScope

  init(_ macro: TemplateMacro, scope: TemplateScope) {
    self.macro = macro
    self.scope = scope
  }
}

/// The variable `loop`: one round of a loop.
final class TemplateRound {
  let items: [TemplateValue]
  /// From 0.
  let index: Int

  init(_ items: [TemplateValue], index: Int) {
    self.items = items
    self.index = index
  }
}

/// Variables of the template, a round of a loop, a block or a macro, in the scope around it.
final class TemplateScope {
  /// Names are ASCII, or cannot be asked for.
  var variables: [String: TemplateValue]
  private let around: TemplateScope?

  init(_ variables: [String: TemplateValue] = [:], in around: TemplateScope? = nil) {
    self.variables = variables
    self.around = around
  }

  func value(of name: String) -> TemplateValue? {
    var scope: TemplateScope? = self
    while let here = scope {
      if let value = here.variables[name] { return value }
      scope = here.around
    }
    return nil
  }
}

/// Equal scalar by scalar.
func isSameText(_ a: String, _ b: String) -> Bool {
  a.utf8.count == b.utf8.count && a.utf8.elementsEqual(b.utf8)
}
