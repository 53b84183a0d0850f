// Filters of lists, dicts and texts as sequences.
//
// In:  a value that can be walked over.
// Out: a list, an iterator, or one of its items.
//
//   map(attribute='a'), map('upper')         an attribute of each item, or a filter of each
//   select('string'), selectattr('a', 'equalto', 1), reject, rejectattr
//                                            the items that pass a test; without one, the true ones
//   batch(3), slice(3)                       rows of three, three columns
//
// map, select and reject take any false value for nothing to walk over, as Jinja's do; the others
// take undefined for that, and None is an error. The next file, Renderer+SortFilters.swift, has the
// filters that compare items.

extension Renderer {
  func applyToItems(
    _ filter: Filter, of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter '\(filter.rawValue)'"
    switch filter {
    case .count, .length:
      _ = try bind(arguments, to: [], of: what)
      return .integer(try length(of: value))
    case .first:
      _ = try bind(arguments, to: [], of: what)
      if case .iterator(let iterator) = value {
        try checkCertain(iterator)
        return iterator.next() ?? .undefined("there is no item")
      }
      return try items(of: value).first ?? .undefined("there is no item")
    case .last:
      _ = try bind(arguments, to: [], of: what)
      if case .iterator = value { throw fault(.evaluation("an iterator has no end to start at")) }
      guard let item = try items(of: value).last else { return .undefined("there is no item") }
      // Python takes a text from behind by its places, and an item of marked text is marked.
      return value.isMarkup ? .markup(try string(item)) : item
    case .list:
      _ = try bind(arguments, to: [], of: what)
      let items = try items(of: value)
      try charge(items.count)
      return try list(items)
    case .reverse:
      _ = try bind(arguments, to: [], of: what)
      let items = try items(of: value)
      try charge(items.count)
      if let text = value.text { return .str(reversed(text), isMarkup: value.isMarkup) }
      return try iterator(items.reversed())
    case .items:
      _ = try bind(arguments, to: [], of: what)
      if value.isUndefined { return try iterator([]) }
      guard case .mapping(let mapping) = value else {
        throw fault(.evaluation("\(what) takes a dict, not \(value.typeName)"))
      }
      return try iterator(try pairs(of: mapping))
    case .join:
      let given = try bind(arguments, to: ["d", "attribute"], of: what)
      var parts: [String] = []
      for item in try items(of: value) {
        try charge()
        parts.append(try string(try part(of: item, along: given[1])))
      }
      return .text(try joined(parts, by: try given[0].map(string) ?? ""))
    case .map: return try mapped(value, arguments)
    case .batch: return try batches(of: value, arguments)
    case .slice: return try slices(of: value, arguments)
    case .select, .reject:
      return try chosen(value, attribute: nil, arguments, keeps: filter == .select)
    case .selectattr, .rejectattr:
      var rest = arguments
      guard let attribute = rest.positional.first else {
        throw fault(.evaluation("\(what) needs the name of an attribute"))
      }
      rest.positional.removeFirst()
      return try chosen(value, attribute: attribute, rest, keeps: filter == .selectattr)
    default: preconditionFailure("\(what) is no filter of lists")
    }
  }

  /// item.a.b for the path 'a.b', item[0] for 0, the item itself for none; `otherwise` where a step
  /// leads to nothing.
  func part(
    of item: Value, along path: Value?, otherwise: Value? = nil
  ) throws(ChatTemplateError) -> Value {
    guard let path, !isNone(path) else { return item }
    var steps = [path]
    if let names = path.text {
      steps = try split(names, at: ".", limit: nil).map { name in
        !name.isEmpty && name.unicodeScalars.allSatisfy(isDigit)
          ? Int(name).map { .integer($0) } ?? .text(name) : .text(name)
      }
    }
    var value = item
    for step in steps {
      value = try self.item(step, of: value)
      if value.isUndefined, let otherwise { value = otherwise }
    }
    return value
  }

  private func mapped(
    _ value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    var results: [Value] = []
    let items = value.isTrue ? try items(of: value) : []
    if arguments.positional.isEmpty, arguments.named.contains(where: { $0.name == "attribute" }) {
      let given = try bind(arguments, to: ["attribute", "default"], of: "the filter 'map'")
      for item in items {
        try charge()
        // A default of None is none.
        let otherwise = given[1].flatMap { isNone($0) ? nil : $0 }
        results.append(try part(of: item, along: given[0], otherwise: otherwise))
      }
      return try iterator(results)
    }
    var rest = arguments
    guard !rest.positional.isEmpty else {
      throw fault(.evaluation("the filter 'map' needs a filter or an attribute"))
    }
    let filter = try filter(
      named: try text(rest.positional.removeFirst(), of: "the filter 'map'"))
    try descend()
    defer { ascend() }
    for item in items {
      try charge()
      results.append(try apply(filter, to: item, rest))
    }
    return try iterator(results)
  }

  /// The items whose test has the answer `keeps`.
  private func chosen(
    _ value: Value, attribute: Value?, _ arguments: GivenArguments, keeps: Bool
  ) throws(ChatTemplateError) -> Value {
    var rest = arguments
    var test: ValueTest?
    if !rest.positional.isEmpty {
      test = try self.test(
        named: try text(rest.positional.removeFirst(), of: "a filter that selects"))
    }
    var results: [Value] = []
    for item in value.isTrue ? try items(of: value) : [] {
      try charge()
      let part = try part(of: item, along: attribute)
      let passes =
        try test.map { test throws(ChatTemplateError) in
          try ask(test, of: part, rest)
        } ?? part.isTrue
      if passes == keeps { results.append(item) }
    }
    return try iterator(results)
  }

  // MARK: Rows and columns

  /// Rows of `linecount` items; the last one filled with `fill_with`, if that is given.
  private func batches(
    of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter 'batch'"
    let given = try bind(arguments, to: ["linecount", "fill_with"], required: 1, of: what)
    let size = try integer(given[0] ?? .none, of: what)
    if size < 1 { throw fault(.unsupported("\(what) of less than one")) }
    let items = try items(of: value)
    try charge(2 * items.count)
    var rows: [Value] = []
    for start in stride(from: 0, to: items.count, by: min(size, max(1, items.count))) {
      var row = Array(items[start...].prefix(size))
      if let fill = given[1], !isNone(fill), row.count < size {
        try charge(size)
        row += Array(repeating: fill, count: size - row.count)
      }
      rows.append(try list(row))
    }
    return try iterator(rows)
  }

  /// `slices` columns, the first ones longer by one where the items do not go up; the shorter ones
  /// filled with `fill_with`, if that is given.
  private func slices(
    of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter 'slice'"
    let given = try bind(arguments, to: ["slices", "fill_with"], required: 1, of: what)
    let count = try integer(given[0] ?? .none, of: what)
    if count == 0 { throw fault(.evaluation("division by zero")) }
    var rest = try items(of: value)[...]
    try charge(max(0, count))
    try charge(2 * rest.count)
    if count < 0 { return try iterator([]) }
    let (size, longer) = rest.count.quotientAndRemainder(dividingBy: count)
    var columns: [Value] = []
    for index in 0..<count {
      var column = Array(rest.prefix(size + (index < longer ? 1 : 0)))
      rest = rest.dropFirst(column.count)
      if let fill = given[1], !isNone(fill), index >= longer { column.append(fill) }
      columns.append(try list(column))
    }
    return try iterator(columns)
  }
}
