// Step 11, continued: filters of lists, dicts and texts as sequences.
//
// In:  a value that can be walked over.
// Out: a list, or one of its items.
//
//   map(attribute='a'), map('upper')         an attribute of each item, or a filter of each
//   select('string'), selectattr('a', 'equalto', 1), reject, rejectattr
//                                            the items that pass a test; without one, the true ones
//   sort, dictsort                           small and capital letters alike, unless told otherwise
//
// The next file, TemplateTests.swift, has the tests.

extension TemplateRenderer {
  func applyToItems(
    _ filter: TemplateFilter, of value: TemplateValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let what = "the filter '\(filter.rawValue)'"
    switch filter {
    case .first, .last:
      _ = try bind(arguments, to: [], of: what)
      let items = try items(of: value)
      return (filter == .first ? items.first : items.last) ?? .undefined("there is no item")
    case .list:
      _ = try bind(arguments, to: [], of: what)
      let items = try items(of: value)
      try charge(items.count)
      return try list(items)
    case .reverse:
      _ = try bind(arguments, to: [], of: what)
      let items = try items(of: value)
      try charge(items.count)
      if case .text(let text) = value { return .text(makeText(text.unicodeScalars.reversed())) }
      return try list(items.reversed())
    case .items:
      _ = try bind(arguments, to: [], of: what)
      if value.isUndefined { return try list([]) }
      guard case .mapping(let mapping) = value else {
        throw fault(.evaluation("\(what) takes a dict, not \(value.typeName)"))
      }
      return try pairs(of: mapping)
    case .join:
      let given = try bind(arguments, to: ["d", "attribute"], of: what)
      var parts: [String] = []
      for item in try items(of: value) {
        try charge()
        let part =
          try given[1].map { path throws(ChatTemplateError) in
            try self.part(of: item, along: path)
          } ?? item
        parts.append(try string(part))
      }
      return .text(try joined(parts, by: try given[0].map(string) ?? ""))
    case .map: return try mapped(value, arguments)
    case .select, .reject:
      return try chosen(value, attribute: nil, arguments, keeps: filter == .select)
    case .selectattr, .rejectattr:
      var rest = arguments
      guard let attribute = rest.positional.first else {
        throw fault(.evaluation("\(what) needs the name of an attribute"))
      }
      rest.positional.removeFirst()
      return try chosen(value, attribute: attribute, rest, keeps: filter == .selectattr)
    case .sort:
      let given = try bind(arguments, to: ["reverse", "case_sensitive", "attribute"], of: what)
      var keys: [TemplateValue] = []
      let items = try items(of: value)
      for item in items {
        let key =
          try given[2].map { path throws(ChatTemplateError) in
            try part(of: item, along: path)
          } ?? item
        keys.append(try sortKey(key, caseSensitive: given[1]))
      }
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
      var keys: [TemplateValue] = []
      for key in by == "key" ? try items(of: value) : mapping.values {
        keys.append(try sortKey(key, caseSensitive: given[0]))
      }
      let pairs = try items(of: try pairs(of: mapping))
      return try list(try sortedPlaces(keys, reverse: given[2]).map { pairs[$0] })
    default: preconditionFailure("\(what) is no filter of lists")
    }
  }

  /// item.a.b for the path 'a.b', item[0] for 0.
  private func part(
    of item: TemplateValue, along path: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    guard case .text(let names) = path else { return try self.item(path, of: item) }
    var value = item
    for name in try split(names, at: ".", limit: nil) {
      let step =
        name.unicodeScalars.allSatisfy(isDigit) ? Int(name).map(TemplateValue.integer) : nil
      value = try self.item(step ?? .text(name), of: value)
    }
    return value
  }

  private func mapped(
    _ value: TemplateValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    var results: [TemplateValue] = []
    if arguments.positional.isEmpty {
      let given = try bind(
        arguments, to: ["attribute", "default"], required: 1, of: "the filter 'map'")
      for item in try items(of: value) {
        try charge()
        let part = try part(of: item, along: given[0] ?? .none)
        results.append(part.isUndefined ? given[1] ?? part : part)
      }
      return try list(results)
    }
    var rest = arguments
    let name = try text(rest.positional.removeFirst(), of: "the filter 'map'")
    guard let filter = TemplateFilter(name: name) else {
      throw fault(.unsupported("the filter \(excerpt(name))"))
    }
    try descend()
    defer { ascend() }
    for item in try items(of: value) {
      try charge()
      results.append(try apply(filter, to: item, rest))
    }
    return try list(results)
  }

  /// The items whose test has the answer `keeps`.
  private func chosen(
    _ value: TemplateValue, attribute: TemplateValue?, _ arguments: GivenArguments, keeps: Bool
  ) throws(ChatTemplateError) -> TemplateValue {
    var rest = arguments
    var test: TemplateTest?
    if !rest.positional.isEmpty {
      let name = try text(rest.positional.removeFirst(), of: "a filter that selects")
      test = TemplateTest(name: name)
      if test == nil { throw fault(.unsupported("the test \(excerpt(name))")) }
    } else if let name = rest.named.first?.name {
      throw fault(.evaluation("a filter that selects has no argument '\(name)'"))
    }
    var results: [TemplateValue] = []
    for item in try items(of: value) {
      try charge()
      let part =
        try attribute.map { path throws(ChatTemplateError) in
          try self.part(of: item, along: path)
        } ?? item
      let passes =
        try test.map { test throws(ChatTemplateError) in
          try ask(test, of: part, rest)
        } ?? part.isTrue
      if passes == keeps { results.append(item) }
    }
    return try list(results)
  }

  // MARK: Order

  private func sortKey(
    _ value: TemplateValue, caseSensitive: TemplateValue?
  ) throws(ChatTemplateError) -> TemplateValue {
    guard case .text(let text) = value, !(caseSensitive?.isTrue ?? false) else { return value }
    try charge(bytes: text.utf8.count)
    return .text(lowered(text))
  }

  private func sortedPlaces(
    _ keys: [TemplateValue], reverse: TemplateValue?
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
