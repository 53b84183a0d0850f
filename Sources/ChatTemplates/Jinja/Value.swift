// What an expression of a chat template becomes.
//
// In:  the caller's ChatValues, and what the renderer computes from them.
// Out: Value: Python's None, bool, int, float, str, list, tuple and dict, what Python walks
//      over once (iterator), Jinja's safe str (markup), undefined and namespace, macros, functions,
//      and the variable loop.
//
// Lists and dicts cannot hold `loop`, and nothing walks into a namespace or a macro, so a walk over
// a value ends; and each knows its depth, which is bounded, so that it cannot exhaust the stack.
// Two strings are equal where their scalars are, as in Python: Swift's == would equate é with e and
// an accent. The next file, Renderer.swift, makes values and bounds what they cost.

/// A value while a template is rendered.
enum Value {
  /// Something that is not there, and the words that say so.
  case undefined(String)
  case none
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case text(String)
  /// A str that `| safe` or `| escape` has marked: what is added to it is escaped for HTML.
  case markup(String)
  case list(ListValue)
  case mapping(MappingValue)
  case iterator(IteratorValue)
  case namespace(Namespace)
  case macro(MacroClosure)
  case loop(LoopRound)
  case function(NamedFunction)

  /// How deep lists and dicts may lie in one another.
  static let depthLimit = 40

  /// 0 for anything but lists and dicts.
  var depth: Int {
    switch self {
    case .list(let list): list.depth
    case .mapping(let mapping): mapping.depth
    case .iterator(let iterator): iterator.depth
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
    case .text, .markup: "a str"
    case .list(let list): list.kind.rawValue
    case .mapping: "a dict"
    case .iterator: "an iterator"
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
    case .text(let text), .markup(let text): !text.utf8.isEmpty
    case .list(let list): !list.items.isEmpty
    case .mapping(let mapping): !mapping.keys.isEmpty
    case .iterator, .namespace, .macro, .loop, .function: true
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

  /// A str, marked safe or not.
  var text: String? {
    switch self {
    case .text(let text), .markup(let text): text
    default: nil
    }
  }

  var isMarkup: Bool {
    if case .markup = self { true } else { false }
  }

  /// A str that is marked safe where `isMarkup` says so.
  static func str(_ text: String, isMarkup: Bool) -> Value {
    isMarkup ? .markup(text) : .text(text)
  }
}

/// Values in a row, which can be walked over any number of times.
final class ListValue {
  /// Python's type, in the words of error messages; the last three are what a dict's methods give.
  enum Kind: String {
    case list = "a list"
    case tuple = "a tuple"
    case range = "a range"
    case keys = "a dict's keys"
    case values = "a dict's values"
    case items = "a dict's items"

    /// What can be indexed and sliced.
    var isSequence: Bool { self == .list || self == .tuple || self == .range }
  }

  let items: [Value]
  let kind: Kind
  /// One more than the deepest item's.
  let depth: Int

  init(_ items: [Value], kind: Kind = .list) {
    self.items = items
    self.kind = kind
    depth = 1 + (items.lazy.map(\.depth).max() ?? 0)
  }
}

/// Values that can be walked over once, as from map, select, reverse.
final class IteratorValue {
  private(set) var items: ArraySlice<Value>
  /// One more than the deepest item's.
  let depth: Int
  /// A loop over it was left with `break`: how far Jinja would have read is not known here.
  var isUncertain = false

  init(_ items: [Value]) {
    self.items = items[...]
    depth = 1 + (items.lazy.map(\.depth).max() ?? 0)
  }

  func next() -> Value? { items.popFirst() }

  func rest() -> [Value] {
    defer { items = [] }
    return Array(items)
  }
}

/// A dict in order of insertion; its keys are str, int, bool or None.
final class MappingValue {
  let keys: [Value]
  /// As many as keys.
  let values: [Value]
  /// One more than the deepest value's.
  let depth: Int

  /// `keys` must differ from one another.
  init(keys: [Value], values: [Value]) {
    self.keys = keys
    self.values = values
    depth = 1 + (values.lazy.map(\.depth).max() ?? 0)
  }
}

/// namespace(): the one thing that a template can change in place.
final class Namespace {
  /// Attribute names are ASCII.
  var attributes: [String: Value] = [:]
}

/// A macro, and the variables that it sees.
final class MacroClosure {
  let macro: Macro
  let scope: Scope

  init(_ macro: Macro, scope: Scope) {
    self.macro = macro
    self.scope = scope
  }
}

/// The variable `loop`: one round of a loop.
final class LoopRound {
  let items: [Value]
  /// The round's number from 0.
  let index: Int

  init(_ items: [Value], index: Int) {
    self.items = items
    self.index = index
  }
}

/// Variables of the template, a round of a loop, a block or a macro, in the scope around it.
final class Scope {
  /// Names are ASCII, or cannot be asked for.
  var variables: [String: Value]
  private let around: Scope?

  init(_ variables: [String: Value] = [:], in around: Scope? = nil) {
    self.variables = variables
    self.around = around
  }

  func value(of name: String) -> Value? {
    var scope: Scope? = self
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
