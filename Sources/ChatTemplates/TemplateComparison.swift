// Step 8, continued: equal, less, in.
//
// In:  two values.
// Out: whether the relation holds; an error where Python has no order.
//
// Values of different types are unequal, except numbers: 1 == 1.0 == True. Texts are ordered by
// scalar, lists item by item. The next file, TemplateAccess.swift, has items and calls.

extension TemplateRenderer {
  func holds(
    _ left: TemplateValue, _ relation: TemplateRelation, _ right: TemplateValue
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

  func isEqual(_ a: TemplateValue, _ b: TemplateValue) throws(ChatTemplateError) -> Bool {
    try charge()
    switch (a, b) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.text(let a), .text(let b)):
      try charge(bytes: min(a.utf8.count, b.utf8.count))
      return isSameText(a, b)
    case (.list(let a), .list(let b)):
      if a.isTuple != b.isTuple || a.items.count != b.items.count { return false }
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
    case (.macro(let a), .macro(let b)): return a === b
    case (.loop(let a), .loop(let b)): return a === b
    case (.function(let a), .function(let b)): return a == b
    default:
      if let a = a.integer, let b = b.integer { return a == b }
      if let a = a.number, let b = b.number { return a == b }
      return false
    }
  }

  func isLess(_ a: TemplateValue, _ b: TemplateValue) throws(ChatTemplateError) -> Bool {
    try charge()
    switch (a, b) {
    case (.text(let a), .text(let b)):
      try charge(bytes: min(a.utf8.count, b.utf8.count))
      // UTF-8 has the order of the scalars.
      return a.utf8.lexicographicallyPrecedes(b.utf8)
    case (.list(let a), .list(let b)) where a.isTuple == b.isTuple:
      for (a, b) in zip(a.items, b.items) where !(try isEqual(a, b)) { return try isLess(a, b) }
      return a.items.count < b.items.count
    default:
      if let a = a.integer, let b = b.integer { return a < b }
      if let a = a.number, let b = b.number { return a < b }
      for case .undefined(let why) in [a, b] { throw fault(.evaluation(why)) }
      throw fault(.evaluation("\(a.typeName) and \(b.typeName) have no order"))
    }
  }

  /// Where `key` stands in a dict, if it does.
  func place(
    of key: String, in mapping: TemplateMapping
  ) throws(ChatTemplateError) -> Int? {
    try charge(mapping.keys.count * (1 + key.utf8.count / 16))
    return mapping.keys.firstIndex { isSameText($0, key) }
  }

  private func contains(
    _ whole: TemplateValue, _ part: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    switch whole {
    case .text(let text):
      guard case .text(let part) = part else {
        throw fault(.evaluation("a str contains only str, not \(part.typeName)"))
      }
      return try firstPlace(of: Array(part.utf8), in: Array(text.utf8), from: 0) != nil
    case .mapping(let mapping):
      guard case .text(let key) = part else { return false }
      return try place(of: key, in: mapping) != nil
    default:
      for item in try items(of: whole) where try isEqual(item, part) { return true }
      return false
    }
  }
}
