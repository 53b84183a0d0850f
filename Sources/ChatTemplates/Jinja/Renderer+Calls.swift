// Calls: functions, macros, methods.
//
// In:  value(arguments), value.name(arguments).
// Out: what the call gives.
//
// A method of Python's goes before a key of the same name: `message.items()` is the dict's. The
// next file, Renderer+Functions.swift, has what can be called by name.

extension Renderer {
  /// The value of a call; `caller` is the body of the call block that makes it.
  func value(
    of call: Expression, caller: MacroClosure?, in scope: Scope
  ) throws(ChatTemplateError) -> Value {
    guard case .call(let callee, let arguments) = call.kind else {
      preconditionFailure("not a call")
    }
    let function: Value
    if case .attribute(let holder, let name) = callee.kind {
      let holder = try value(of: holder, in: scope)
      line = call.line
      if let result = try result(ofMethod: name, of: holder, arguments, caller, in: scope) {
        return result
      }
      function = try attribute(name, of: holder)
    } else {
      function = try value(of: callee, in: scope)
    }
    var given = try self.arguments(arguments, in: scope)
    given.caller = caller
    line = call.line
    switch function {
    case .function(let function): return try self.call(function, given)
    case .macro(let closure): return try self.call(closure, given)
    case .undefined(let why): throw fault(.evaluation(why))
    default: throw fault(.evaluation("\(function.typeName) cannot be called"))
    }
  }

  /// What the method `name` of Python's types gives; nil where no method has that name: it may
  /// be a key or an attribute with a macro.
  private func result(
    ofMethod name: String, of holder: Value, _ arguments: CallArguments,
    _ caller: MacroClosure?, in scope: Scope
  ) throws(ChatTemplateError) -> Value? {
    switch holder {
    case .namespace: return nil
    case .mapping where !PythonMethods.mapping.contains(name): return nil
    case .text where !PythonMethods.text.contains(name): return nil
    case .list(let list)
    where list.kind == .list && !PythonMethods.list.contains(name)
      || list.kind == .tuple && !PythonMethods.tuple.contains(name):
      return nil
    case .undefined(let why): throw fault(.evaluation(why))
    default: break
    }
    let callLine = line
    var given = try self.arguments(arguments, in: scope)
    given.caller = caller
    line = callLine
    switch holder {
    case .text(let text), .markup(let text):
      return try call(name, of: text, isMarkup: holder.isMarkup, given)
    case .mapping(let mapping): return try call(name, of: mapping, given)
    case .list(let list) where list.kind == .list || list.kind == .tuple:
      return try call(name, of: list, given)
    case .loop(let round) where name == "cycle":
      if given.positional.isEmpty || !given.named.isEmpty {
        throw fault(.evaluation("loop.cycle takes one value or more"))
      }
      return given.positional[round.index % given.positional.count]
    default: throw fault(.unsupported("the method '\(name)' of \(holder.typeName)"))
    }
  }
}

/// Names that Python's types claim for methods (Python 3.11); those that we call are in
/// Renderer+Methods.swift.
enum PythonMethods {
  static let text = Set(
    """
    capitalize casefold center count encode endswith expandtabs find format format_map index \
    isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace \
    istitle isupper join ljust lower lstrip maketrans partition removeprefix removesuffix replace \
    rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title \
    translate upper zfill
    """.split(separator: " ").map(String.init))
  static let markup: Set = ["escape", "striptags", "unescape"]
  static let mapping: Set = [
    "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update",
    "values",
  ]
  static let list: Set = [
    "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse",
    "sort",
  ]
  static let tuple: Set = ["count", "index"]
}
