// Attributes, items, slices.
//
// In:  value.name, value[item], value[from:to:step].
// Out: what is there, or undefined.
//
// Jinja lets `message.content` and `message['content']` mean the same, except that a method of
// Python's goes before an item with the dot (so `message.items` is never a key) and behind it with
// brackets. Methods exist here only in calls. The next file, Renderer+Functions.swift, has what can
// be called by name.

extension Renderer {
  func access(
    _ expression: Expression, in scope: Scope
  ) throws(ChatTemplateError) -> Value {
    switch expression.kind {
    case .attribute(let holder, let name):
      let holder = try value(of: holder, in: scope)
      line = expression.line
      return try attribute(name, of: holder)
    case .item(let holder, let item):
      let holder = try value(of: holder, in: scope)
      let item = try value(of: item, in: scope)
      line = expression.line
      return try self.item(item, of: holder)
    case .slice(let holder, let from, let to, let step):
      let holder = try value(of: holder, in: scope)
      var bounds: [Value] = []
      for part in [from, to, step] {
        bounds.append(
          try part.map { part throws(ChatTemplateError) in
            try value(of: part, in: scope)
          } ?? .none)
      }
      line = expression.line
      return try slice(holder, bounds)
    case .call: return try value(of: expression, caller: nil, in: scope)
    default: preconditionFailure("not an access")
    }
  }

  func attribute(
    _ name: String, of holder: Value
  ) throws(ChatTemplateError) -> Value {
    // Python's own attributes; what else begins with _ can only be a key.
    if name.hasPrefix("__") {
      throw fault(.unsupported("the attribute \(excerpt(name)), which begins with __,"))
    }
    let missing = Value.undefined("\(holder.typeName) has no attribute '\(name)'")
    switch holder {
    case .undefined(let why): throw fault(.evaluation(why))
    case .mapping(let mapping):
      if PythonMethods.mapping.contains(name) { throw uncalled(name, holder) }
      return try place(of: .text(name), in: mapping).map { mapping.values[$0] } ?? missing
    case .namespace(let namespace): return namespace.attributes[name] ?? missing
    case .loop(let round): return try attribute(name, of: round)
    case .text:
      if PythonMethods.text.contains(name) { throw uncalled(name, holder) }
    case .markup:
      if PythonMethods.text.contains(name) || PythonMethods.markup.contains(name) {
        throw uncalled(name, holder)
      }
    case .list(let list) where list.kind == .list || list.kind == .tuple:
      if (list.kind == .tuple ? PythonMethods.tuple : PythonMethods.list).contains(name) {
        throw uncalled(name, holder)
      }
    case .integer, .number, .bool, .macro, .function, .iterator, .list:
      throw fault(.unsupported("an attribute of \(holder.typeName)"))
    case .none: break
    }
    return missing
  }

  private func uncalled(_ name: String, _ holder: Value) -> ChatTemplateError {
    fault(.unsupported("the method '\(name)' of \(holder.typeName) without a call"))
  }

  private func attribute(
    _ name: String, of round: LoopRound
  ) throws(ChatTemplateError) -> Value {
    let (index, count) = (round.index, round.items.count)
    switch name {
    case "index": return .integer(index + 1)
    case "index0": return .integer(index)
    case "revindex": return .integer(count - index)
    case "revindex0": return .integer(count - index - 1)
    case "first": return .bool(index == 0)
    case "last": return .bool(index == count - 1)
    case "length": return .integer(count)
    // Of recursive loops, which are left out.
    case "depth": return .integer(1)
    case "depth0": return .integer(0)
    case "previtem":
      return index > 0 ? round.items[index - 1] : .undefined("there is no previous item")
    case "nextitem":
      return index + 1 < count ? round.items[index + 1] : .undefined("there is no next item")
    default: throw fault(.unsupported("loop.\(name)"))
    }
  }

  func item(
    _ item: Value, of holder: Value
  ) throws(ChatTemplateError) -> Value {
    switch (holder, item) {
    case (.undefined(let why), _): throw fault(.evaluation(why))
    // What cannot be a key or a place has no item.
    case (_, .undefined), (.mapping, .list), (.mapping, .mapping): break
    case (.mapping(let mapping), _):
      if let place = try place(of: item, in: mapping) { return mapping.values[place] }
      guard let key = item.text else { return .undefined("a dict has no such key") }
      if PythonMethods.mapping.contains(key) { throw uncalled(key, holder) }
      return .undefined("a dict has no key \(excerpt(key))")
    case (.list(let list), _) where list.kind.isSequence:
      if let index = item.integer {
        let place = index < 0 ? index + list.items.count : index
        if list.items.indices.contains(place) { return list.items[place] }
        return .undefined("a list of \(list.items.count) has no item \(index)")
      }
    case (.text(let text), _), (.markup(let text), _):
      if let index = item.integer {
        let count = text.unicodeScalars.count
        try charge(bytes: text.utf8.count)
        let place = index < 0 ? index + count : index
        guard (0..<count).contains(place) else {
          return .undefined("a str of \(count) has no item \(index)")
        }
        return .str(
          String(text.unicodeScalars.dropFirst(place).prefix(1)), isMarkup: holder.isMarkup)
      }
    default: break
    }
    if let name = item.text, name.utf8.allSatisfy({ $0 < 0x80 }) {
      return try attribute(name, of: holder)
    }
    return .undefined("\(holder.typeName) has no such item")
  }

  /// Python's slice: bounds beyond the ends are moved to the ends, a negative one counts from the
  /// end, a negative step walks backwards.
  private func slice(
    _ holder: Value, _ bounds: [Value]
  ) throws(ChatTemplateError) -> Value {
    var numbers: [Int?] = []
    for bound in bounds {
      if case .none = bound {
        numbers.append(nil)
      } else if let integer = bound.integer {
        numbers.append(integer)
      } else {
        throw fault(.evaluation("a slice takes int, not \(bound.typeName)"))
      }
    }
    let step = numbers[2] ?? 1
    if step == 0 { throw fault(.evaluation("the step of a slice is zero")) }
    switch holder {
    case .list(let list) where list.kind.isSequence:
      let places = slicePlaces(count: list.items.count, numbers[0], numbers[1], step)
      try charge(list.items.count)
      return try self.list(places.map { list.items[$0] }, kind: list.kind)
    case .text(let text), .markup(let text):
      try charge(bytes: text.utf8.count * 4)
      let scalars = Array(text.unicodeScalars)
      var part = ""
      for place in slicePlaces(count: scalars.count, numbers[0], numbers[1], step) {
        part.unicodeScalars.append(scalars[place])
      }
      return .str(part, isMarkup: holder.isMarkup)
    case .undefined(let why): throw fault(.evaluation(why))
    default: throw fault(.evaluation("\(holder.typeName) cannot be sliced"))
    }
  }

  private func slicePlaces(count: Int, _ from: Int?, _ to: Int?, _ step: Int) -> [Int] {
    /// Into lowest...highest; adding count cannot overflow, since count >= 0 > place.
    func clamped(_ place: Int, _ range: ClosedRange<Int>) -> Int {
      min(max(place < 0 ? place + count : place, range.lowerBound), range.upperBound)
    }
    let range = step > 0 ? 0...count : -1...(count - 1)
    let start = from.map { clamped($0, range) } ?? (step > 0 ? 0 : count - 1)
    let end = to.map { clamped($0, range) } ?? (step > 0 ? count : -1)
    // No step is longer than the list: the sum start + step would overflow.
    let stride = Swift.stride(from: start, to: end, by: max(-count - 1, min(count + 1, step)))
    return Array(stride)
  }
}
