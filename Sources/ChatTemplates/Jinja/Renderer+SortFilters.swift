// Filters that compare items: sort, dictsort, min, max, unique, and sum.
//
// In:  a value that can be walked over.
// Out: a list, an iterator, or one value.
//
// Small and capital letters are alike unless the filter's argument says that case matters. The next
// file, Renderer+Tests.swift, has the tests.

extension Renderer {
  func applyInOrder(
    _ filter: Filter, of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter '\(filter.rawValue)'"
    switch filter {
    case .sort:
      let given = try bind(arguments, to: ["reverse", "case_sensitive", "attribute"], of: what)
      let items = try items(of: value)
      var keys: [Value] = []
      for item in items { keys.append(try sortKey(item, along: given[2], given[1])) }
      let order = try sortedPlaces(keys, reverse: given[0])
      return try list(order.map { items[$0] })
    case .dictsort:
      let given = try bind(arguments, to: ["case_sensitive", "by", "reverse"], of: what)
      guard case .mapping(let mapping) = value else {
        throw fault(.evaluation("\(what) takes a dict, not \(value.typeName)"))
      }
      let by = try given[1].map { by throws(ChatTemplateError) in try text(by, of: what) } ?? "key"
      guard by == "key" || by == "value" else {
        throw fault(.evaluation("\(what) sorts by 'key' or by 'value'"))
      }
      var keys: [Value] = []
      for key in by == "key" ? mapping.keys : mapping.values {
        keys.append(try withoutCase(key, given[0]))
      }
      let pairs = try pairs(of: mapping)
      return try list(try sortedPlaces(keys, reverse: given[2]).map { pairs[$0] })
    case .min, .max:
      let given = try bind(arguments, to: ["case_sensitive", "attribute"], of: what)
      return try extreme(
        of: try items(of: value), isLeast: filter == .min, caseSensitive: given[0],
        attribute: given[1])
    case .unique:
      let given = try bind(arguments, to: ["case_sensitive", "attribute"], of: what)
      var seen: Set<[UInt8]> = []
      var kept: [Value] = []
      for item in try items(of: value) {
        let key = try withoutCase(try part(of: item, along: given[1]), given[0])
        if seen.insert(try hashCode(of: key)).inserted { kept.append(item) }
      }
      return try iterator(kept)
    case .sum:
      let given = try bind(arguments, to: ["attribute", "start"], of: what)
      var sum = given[1] ?? .integer(0)
      if sum.text != nil { throw fault(.evaluation("\(what) adds no str; use join")) }
      for item in try items(of: value) {
        sum = try combine(sum, .add, try part(of: item, along: given[0]))
      }
      return sum
    default: preconditionFailure("\(what) does not compare")
    }
  }

  /// The least or the greatest item, of equals the first.
  private func extreme(
    of items: [Value], isLeast: Bool, caseSensitive: Value?,
    attribute: Value?
  ) throws(ChatTemplateError) -> Value {
    guard var best = items.first else { return .undefined("there is no item") }
    var bestKey = try withoutCase(try part(of: best, along: attribute), caseSensitive)
    for item in items.dropFirst() {
      let key = try withoutCase(try part(of: item, along: attribute), caseSensitive)
      if try isLeast ? isLess(key, bestKey) : isLess(bestKey, key) { (best, bestKey) = (item, key) }
    }
    return best
  }

  /// What `sort` compares: a list of the item, or of one of its attributes, or for 'a,b' of
  /// several.
  ///
  /// Lists are equal where their items are, so that values without an order, such as None, are no
  /// error as long as they are equal.
  private func sortKey(
    _ item: Value, along path: Value?, _ caseSensitive: Value?
  ) throws(ChatTemplateError) -> Value {
    guard let names = path?.text, names.utf8.contains(UInt8(ascii: ",")) else {
      return try list([try withoutCase(try part(of: item, along: path), caseSensitive)])
    }
    var keys: [Value] = []
    for name in try split(names, at: ",", limit: nil) {
      keys.append(try withoutCase(try part(of: item, along: .text(name)), caseSensitive))
    }
    return try list(keys)
  }

  private func withoutCase(
    _ value: Value, _ caseSensitive: Value?
  ) throws(ChatTemplateError) -> Value {
    guard let text = value.text, !(caseSensitive?.isTrue ?? false) else { return value }
    try charge(bytes: text.utf8.count)
    return .text(lowered(text))
  }

  private func sortedPlaces(
    _ keys: [Value], reverse: Value?
  ) throws(ChatTemplateError) -> [Int] {
    let descends = reverse?.isTrue ?? false
    return try sorted(Array(keys.indices)) { a, b throws(ChatTemplateError) in
      descends ? try self.isLess(keys[b], keys[a]) : try self.isLess(keys[a], keys[b])
    }
  }

  /// A merge sort, which keeps the order of equals: the library's takes no typed error.
  func sorted(
    _ places: [Int], _ isLess: (Int, Int) throws(ChatTemplateError) -> Bool
  ) throws(ChatTemplateError) -> [Int] {
    if places.count < 2 { return places }
    let left = try sorted(Array(places[..<(places.count / 2)]), isLess)
    let right = try sorted(Array(places[(places.count / 2)...]), isLess)
    var merged: [Int] = []
    var (i, j) = (0, 0)
    while i < left.count || j < right.count {
      try charge()
      // The right one goes first only where it is less.
      let takesRight =
        i == left.count ? true : j == right.count ? false : try isLess(right[j], left[i])
      if !takesRight {
        merged.append(left[i])
        i += 1
      } else {
        merged.append(right[j])
        j += 1
      }
    }
    return merged
  }
}
