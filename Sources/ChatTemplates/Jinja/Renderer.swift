// The renderer's state, and what a template may cost.
//
// In:  the parsed template, the variables, the date.
// Out: the text of the prompt.
//
// A template comes with a checkpoint, and so from anywhere. Every node that is visited, every item
// of a list that is made and every 16 bytes of text that are made or compared cost one unit of
// work, and all together may cost `workLimit`: that bounds the time (some seconds) and the memory
// (16 bytes of text a unit, a value of about 24 bytes an item). Charges come before the memory is
// asked for. Depth is bounded too. The next file, Renderer+Statements.swift, walks over the
// statements.

/// Renders one conversation once.
final class Renderer {
  let template: String
  let date: ChatDate
  /// Where we are, for error messages.
  var line = 1
  private var work = 0
  private var depth = 0
  /// Every namespace that was made: each may hold any other, also in a circle.
  private var namespaces: [Namespace] = []

  /// A conversation of a million characters takes about a tenth of it.
  static let workLimit = 4_000_000
  /// Macros, blocks and expressions in one another.
  static let depthLimit = 200

  init(template: String, date: ChatDate) {
    self.template = template
    self.date = date
  }

  deinit {
    // One by one, so that no long chain of them has to be freed from its end.
    for namespace in namespaces { namespace.attributes = [:] }
  }

  // MARK: Bounds

  func fault(_ problem: ChatTemplateError.Problem) -> ChatTemplateError {
    ChatTemplateError(template: template, line: line, problem)
  }

  func charge(_ units: Int = 1) throws(ChatTemplateError) {
    let (sum, overflow) = work.addingReportingOverflow(units)
    work = sum
    if overflow || sum > Self.workLimit {
      throw fault(.limit("more than \(Self.workLimit) units of work"))
    }
  }

  /// For `bytes` of text about to be made or compared.
  func charge(bytes: Int) throws(ChatTemplateError) { try charge(1 + bytes / 16) }

  func descend() throws(ChatTemplateError) {
    depth += 1
    if depth > Self.depthLimit {
      throw fault(.limit("macros and blocks more than \(Self.depthLimit) deep"))
    }
  }

  func ascend() { depth -= 1 }

  // MARK: Values within bounds

  /// A namespace; its memory is kept as long as the renderer, and paid for.
  func namespace() throws(ChatTemplateError) -> Namespace {
    try charge(16)
    let namespace = Namespace()
    namespaces.append(namespace)
    return namespace
  }

  /// A list of `items`, which have been paid for.
  func list(
    _ items: [Value], kind: ListValue.Kind = .list
  ) throws(ChatTemplateError) -> Value {
    for item in items { try checkItem(item) }
    return .list(ListValue(items, kind: kind))
  }

  /// `items`, which have been paid for, to be walked over once.
  func iterator(_ items: [Value]) throws(ChatTemplateError) -> Value {
    for item in items { try checkItem(item) }
    return .iterator(IteratorValue(items))
  }

  /// Of equal keys the first gives the place and the last the value, as in Python.
  func mapping(
    _ members: [(key: Value, value: Value)]
  ) throws(ChatTemplateError) -> Value {
    var keys: [Value] = []
    var values: [Value] = []
    var places: [[UInt8]: Int] = [:]
    for (key, value) in members {
      switch key {
      case .text, .markup, .integer, .bool, .none: break
      case .list(let list) where list.kind == .list:
        throw fault(.evaluation("a list cannot be the key of a dict"))
      case .mapping: throw fault(.evaluation("a dict cannot be the key of a dict"))
      case .undefined(let why): throw fault(.evaluation(why))
      default: throw fault(.unsupported("a key that is \(key.typeName)"))
      }
      try checkItem(value)
      let code = try hashCode(of: key)
      if let place = places[code] {
        values[place] = value
      } else {
        places[code] = keys.count
        keys.append(key)
        values.append(value)
      }
    }
    return .mapping(MappingValue(keys: keys, values: values))
  }

  /// Bytes that are the same for what Python calls equal keys: 1, 1.0 and True are one key.
  func hashCode(of key: Value) throws(ChatTemplateError) -> [UInt8] {
    if let text = key.text {
      try charge(bytes: text.utf8.count)
      return [0] + text.utf8
    }
    try charge()
    if let integer = key.integer { return [1] + String(integer).utf8 }
    switch key {
    case .number(let number):
      return [1] + (Int(exactly: number).map(String.init) ?? written(number)).utf8
    case .none: return [2]
    case .undefined: return [3]
    case .list(let list) where list.kind == .list:
      throw fault(.evaluation("a list has no hash"))
    case .mapping: throw fault(.evaluation("a dict has no hash"))
    default: throw fault(.unsupported("\(key.typeName) among values that must differ"))
    }
  }

  /// What a list, a dict or a namespace may hold.
  func checkItem(_ value: Value) throws(ChatTemplateError) {
    switch value {
    case .loop:
      throw fault(.unsupported("\(value.typeName) inside a list, a dict or a namespace"))
    default:
      if value.depth >= Value.depthLimit {
        throw fault(.limit("values nested more than \(Value.depthLimit) deep"))
      }
    }
  }

  /// A caller's value.
  func value(_ value: ChatValue) throws(ChatTemplateError) -> Value {
    try descend()
    defer { ascend() }
    try charge()
    switch value {
    case .none: return .none
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .number(let value): return .number(value)
    case .text(let text):
      try charge(bytes: text.utf8.count)
      return .text(text)
    case .list(let items):
      var list: [Value] = []
      for item in items { list.append(try self.value(item)) }
      return try self.list(list)
    case .mapping(let members):
      var list: [(key: Value, value: Value)] = []
      for member in members { list.append((.text(member.key), try self.value(member.value))) }
      return try mapping(list)
    }
  }

  /// What `for`, filters and `in` walk over; an iterator has no more items afterwards.
  func items(of value: Value) throws(ChatTemplateError) -> [Value] {
    switch value {
    case .list(let list): return list.items
    case .mapping(let mapping):
      try charge(mapping.keys.count)
      return mapping.keys
    case .iterator(let iterator):
      try checkCertain(iterator)
      try charge(iterator.items.count)
      return iterator.rest()
    case .text(let text), .markup(let text):
      try charge(text.unicodeScalars.count)
      return text.unicodeScalars.map { .text(String($0)) }
    case .undefined: return []
    default: throw fault(.evaluation("\(value.typeName) has no items"))
    }
  }

  /// Requires that it is known where the iterator stands.
  func checkCertain(_ iterator: IteratorValue) throws(ChatTemplateError) {
    if iterator.isUncertain {
      throw fault(.unsupported("going on with an iterator after 'break'"))
    }
  }
}
