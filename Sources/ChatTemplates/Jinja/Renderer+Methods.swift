// Methods of dict and list, and the types that the arguments of methods have.
//
// In:  a dict or a list, the method's name, arguments.
// Out: a value; the receiver never changes.
//
// What changes a list or a dict (append, pop, update ...) is refused: transformers' sandbox forbids
// it too. The next file, Renderer+TextMethods.swift, has the methods of str.

extension Renderer {
  /// A method of a mapping: `mapping.name(arguments)`.
  func call(
    _ name: String, of mapping: MappingValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the method '\(name)'"
    switch name {
    case "keys":
      _ = try bind(arguments, to: [], of: what)
      return try list(try items(of: .mapping(mapping)), kind: .keys)
    case "values":
      _ = try bind(arguments, to: [], of: what)
      try charge(mapping.values.count)
      return try list(mapping.values, kind: .values)
    case "items":
      _ = try bind(arguments, to: [], of: what)
      return try list(try pairs(of: mapping), kind: .items)
    case "get":
      let given = try positional(arguments, ["key", "default"], required: 1, of: what)
      guard let key = given[0], let place = try place(of: key, in: mapping) else {
        return given[1] ?? .none
      }
      return mapping.values[place]
    case "copy":
      _ = try bind(arguments, to: [], of: what)
      try charge(mapping.keys.count)
      return .mapping(MappingValue(keys: mapping.keys, values: mapping.values))
    default: throw fault(.unsupported("\(what) of a dict"))
    }
  }

  /// (key, value) for each member.
  func pairs(of mapping: MappingValue) throws(ChatTemplateError) -> [Value] {
    try charge(3 * mapping.keys.count)
    var pairs: [Value] = []
    for (key, value) in zip(mapping.keys, mapping.values) {
      pairs.append(try list([key, value], kind: .tuple))
    }
    return pairs
  }

  /// A method of a list or a tuple.
  func call(
    _ name: String, of list: ListValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the method '\(name)'"
    guard name == "index" || name == "count" else {
      throw fault(.unsupported("\(what) of \(list.kind.rawValue)"))
    }
    let wanted = try positional(arguments, ["value"], required: 1, of: what)[0] ?? .none
    var places: [Int] = []
    for (place, item) in list.items.enumerated() where try isEqual(item, wanted) {
      places.append(place)
      if name == "index" { return .integer(place) }
    }
    if name == "count" { return .integer(places.count) }
    throw fault(.evaluation("\(list.kind.rawValue) has no such item"))
  }

  // MARK: Arguments

  /// `bind` for a method of Python's whose arguments have no names.
  func positional(
    _ arguments: GivenArguments, _ parameters: [String], required: Int = 0, of what: String
  ) throws(ChatTemplateError) -> [Value?] {
    if !arguments.named.isEmpty {
      throw fault(.evaluation("\(what) takes no argument with a name"))
    }
    return try bind(arguments, to: parameters, required: required, of: what)
  }

  func text(_ value: Value?, of what: String) throws(ChatTemplateError) -> String {
    guard let text = value?.text else {
      throw fault(.evaluation("\(what) takes a str, not \(value?.typeName ?? "nothing")"))
    }
    return text
  }

  func optionalText(
    _ value: Value?, of what: String
  ) throws(ChatTemplateError) -> String? {
    guard let value else { return nil }
    if case .none = value { return nil }
    return try text(value, of: what)
  }

  func integer(_ value: Value, of what: String) throws(ChatTemplateError) -> Int {
    guard let integer = value.integer else {
      throw fault(.evaluation("\(what) takes an int, not \(value.typeName)"))
    }
    return integer
  }

  /// A limit as Python's: nil, for none, where it is not given or negative.
  func limit(_ value: Value?, of what: String) throws(ChatTemplateError) -> Int? {
    guard let value else { return nil }
    let limit = try integer(value, of: what)
    return limit < 0 ? nil : limit
  }
}
