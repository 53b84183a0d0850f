// Equal, less, in.
//
// In:  two values.
// Out: whether the relation holds; an error where Python has no order.
//
// Values of different types are unequal, except numbers: 1 == 1.0 == True. Texts are ordered by
// scalar, lists item by item. The next file, Renderer+Access.swift, has items and calls.

extension Renderer {
  func holds(
    _ left: Value, _ relation: Relation, _ right: Value
  ) throws(ChatTemplateError) -> Bool {
    switch relation {
    case .equal: try isEqual(left, right)
    case .notEqual: !(try isEqual(left, right))
    case .less: try isLess(left, right)
    case .greater: try isLess(right, left)
    // Not the negation of greater: neither holds for NaN.
    case .lessOrEqual: try isLess(left, right) ? true : try isEqual(left, right)
    case .greaterOrEqual: try isLess(right, left) ? true : try isEqual(left, right)
    case .isIn: try contains(right, left)
    case .notIn: !(try contains(right, left))
    }
  }

  func isEqual(_ a: Value, _ b: Value) throws(ChatTemplateError) -> Bool {
    try charge()
    switch (a, b) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.text(let a), .text(let b)), (.text(let a), .markup(let b)),
      (.markup(let a), .text(let b)), (.markup(let a), .markup(let b)):
      try charge(bytes: min(a.utf8.count, b.utf8.count))
      return isSameText(a, b)
    case (.list(let a), .list(let b)):
      if !a.kind.isSequence, !b.kind.isSequence {
        throw fault(.unsupported("comparing \(a.kind.rawValue) with \(b.kind.rawValue)"))
      }
      if a.kind != b.kind || a.items.count != b.items.count { return false }
      for (a, b) in zip(a.items, b.items) where !(try isEqual(a, b)) { return false }
      return true
    case (.mapping(let a), .mapping(let b)):
      if a.keys.count != b.keys.count { return false }
      for (key, value) in zip(a.keys, a.values) {
        guard let place = try place(of: key, in: b) else { return false }
        if !(try isEqual(value, b.values[place])) { return false }
      }
      return true
    case (.namespace(let a), .namespace(let b)): return a === b
    case (.iterator(let a), .iterator(let b)): return a === b
    case (.macro(let a), .macro(let b)): return a === b
    case (.loop(let a), .loop(let b)): return a === b
    case (.function(let a), .function(let b)): return a == b
    default:
      if let a = a.integer, let b = b.integer { return a == b }
      if let a = a.number, let b = b.number { return a == b }
      return false
    }
  }

  func isLess(_ a: Value, _ b: Value) throws(ChatTemplateError) -> Bool {
    try charge()
    switch (a, b) {
    case (.text(let a), .text(let b)), (.text(let a), .markup(let b)),
      (.markup(let a), .text(let b)), (.markup(let a), .markup(let b)):
      try charge(bytes: min(a.utf8.count, b.utf8.count))
      // UTF-8 has the order of the scalars.
      return a.utf8.lexicographicallyPrecedes(b.utf8)
    case (.list(let a), .list(let b))
    where a.kind == b.kind && (a.kind == .list || a.kind == .tuple):
      for (a, b) in zip(a.items, b.items) where !(try isEqual(a, b)) { return try isLess(a, b) }
      return a.items.count < b.items.count
    default:
      if let a = a.integer, let b = b.integer { return a < b }
      if let a = a.number, let b = b.number { return a < b }
      for case .undefined(let why) in [a, b] { throw fault(.evaluation(why)) }
      for case .list(let list) in [a, b] where !list.kind.isSequence {
        throw fault(.unsupported("the order of \(list.kind.rawValue)"))
      }
      throw fault(.evaluation("\(a.typeName) and \(b.typeName) have no order"))
    }
  }

  /// Where `key` stands in a dict, if it does; a key that no dict can have is an error.
  func place(
    of key: Value, in mapping: MappingValue
  ) throws(ChatTemplateError) -> Int? {
    if let text = key.text {
      try charge(mapping.keys.count * (1 + text.utf8.count / 16))
      return mapping.keys.firstIndex { $0.text.map { isSameText($0, text) } ?? false }
    }
    switch key {
    case .list(let list) where list.kind == .tuple:
      throw fault(.unsupported("a tuple as the key of a dict"))
    case .list, .mapping: throw fault(.evaluation("\(key.typeName) cannot be a key of a dict"))
    default: break
    }
    try charge(mapping.keys.count)
    for (place, other) in mapping.keys.enumerated() where other.text == nil {
      if try isEqual(key, other) { return place }
    }
    return nil
  }

  private func contains(
    _ whole: Value, _ part: Value
  ) throws(ChatTemplateError) -> Bool {
    switch whole {
    case .text(let text), .markup(let text):
      guard let part = part.text else {
        throw fault(.evaluation("a str contains only str, not \(part.typeName)"))
      }
      return try firstPlace(of: Array(part.utf8), in: Array(text.utf8), from: 0) != nil
    case .mapping(let mapping): return try place(of: part, in: mapping) != nil
    case .iterator(let iterator):
      // As far as the first equal item: the rest can still be walked over.
      try checkCertain(iterator)
      while let item = iterator.next() { if try isEqual(item, part) { return true } }
      return false
    default:
      if case .list(let list) = whole, list.kind == .keys { _ = try hashCode(of: part) }
      for item in try items(of: whole) where try isEqual(item, part) { return true }
      return false
    }
  }
}
