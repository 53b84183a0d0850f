// Expressions into values.
//
// In:  an expression, and the scope that its names are looked up in.
// Out: a Value, or an error where Python would raise one.
//
// Undefined is Jinja's default kind: it prints as nothing, is false, has no items and is equal to
// another undefined; anything else done with it is an error. The next files say what the operators
// (Renderer+Arithmetic.swift), items and calls (Renderer+Access.swift), filters and tests do.

extension Renderer {
  func value(
    of expression: Expression, in scope: Scope
  ) throws(ChatTemplateError) -> Value {
    try descend()
    defer { ascend() }
    try charge()
    line = expression.line
    switch expression.kind {
    case .literal(let literal): return try value(literal)
    case .name(let name): return try value(named: name, in: scope)
    case .list(let parts): return try list(try values(of: parts, in: scope))
    case .tuple(let parts): return try list(try values(of: parts, in: scope), kind: .tuple)
    case .mapping(let members): return try mapping(members, in: scope)
    case .attribute, .item, .slice, .call: return try access(expression, in: scope)
    case .filter(let operand, let name, let arguments):
      let operand = try value(of: operand, in: scope)
      let given = try self.arguments(arguments, in: scope)
      line = expression.line
      return try apply(try filter(named: name), to: operand, given)
    case .test(let operand, let name, let arguments):
      let operand = try value(of: operand, in: scope)
      let given = try self.arguments(arguments, in: scope)
      line = expression.line
      return .bool(try ask(try test(named: name), of: operand, given))
    case .refused(let what): throw fault(.unsupported(what))
    case .negative, .positive, .arithmetic, .concatenation, .comparison:
      return try operation(expression, in: scope)
    case .not(let operand): return .bool(!(try value(of: operand, in: scope).isTrue))
    case .and(let left, let right):
      let value = try value(of: left, in: scope)
      return value.isTrue ? try self.value(of: right, in: scope) : value
    case .or(let left, let right):
      let value = try value(of: left, in: scope)
      return value.isTrue ? value : try self.value(of: right, in: scope)
    case .choice(let positive, let condition, let otherwise):
      if try value(of: condition, in: scope).isTrue { return try value(of: positive, in: scope) }
      guard let otherwise else {
        return .undefined("an if-expression without 'else' has no value here")
      }
      return try value(of: otherwise, in: scope)
    }
  }

  private func values(
    of parts: [Expression], in scope: Scope
  ) throws(ChatTemplateError) -> [Value] {
    var values: [Value] = []
    for part in parts { values.append(try value(of: part, in: scope)) }
    return values
  }

  private func value(
    named name: String, in scope: Scope
  ) throws(ChatTemplateError) -> Value {
    if let value = scope.value(of: name) { return value }
    if let function = NamedFunction(rawValue: name) { return .function(function) }
    if ["cycler", "joiner", "lipsum"].contains(name) {
      throw fault(.unsupported("the function '\(name)'"))
    }
    return .undefined("'\(name)' is undefined")
  }

  private func mapping(
    _ members: [(key: Expression, value: Expression)], in scope: Scope
  ) throws(ChatTemplateError) -> Value {
    var pairs: [(key: Value, value: Value)] = []
    for member in members {
      let key = try value(of: member.key, in: scope)
      pairs.append((key, try value(of: member.value, in: scope)))
    }
    return try mapping(pairs)
  }

  // MARK: Arguments

  func arguments(
    _ arguments: CallArguments, in scope: Scope
  ) throws(ChatTemplateError) -> GivenArguments {
    var given = GivenArguments(positional: try values(of: arguments.positional, in: scope))
    for (name, expression) in arguments.named {
      given.named.append((name, try value(of: expression, in: scope)))
    }
    if let rest = arguments.rest {
      let items = try items(of: try value(of: rest, in: scope))
      try charge(items.count)
      given.positional += items
    }
    if let rest = arguments.namedRest {
      guard case .mapping(let mapping) = try value(of: rest, in: scope) else {
        throw fault(.evaluation("what stands behind ** is no dict"))
      }
      for (key, value) in zip(mapping.keys, mapping.values) {
        guard let name = key.text else {
          throw fault(.evaluation("the name of an argument is \(key.typeName)"))
        }
        try charge(given.named.count)
        if given.named.contains(where: { isSameText($0.name, name) }) {
          throw fault(.evaluation("the argument \(excerpt(name)) is given twice"))
        }
        given.named.append((name, value))
      }
    }
    return given
  }

  /// One place per parameter, nil where no argument was given; an argument too many, unknown or
  /// given twice is an error, and so is one of the first `required` that is missing.
  func bind(
    _ arguments: GivenArguments, to parameters: [String], required: Int = 0, of what: String
  ) throws(ChatTemplateError) -> [Value?] {
    if arguments.caller != nil {
      throw fault(.unsupported("the body of a call block for \(what)"))
    }
    if arguments.positional.count > parameters.count {
      throw fault(.evaluation("\(what) takes at most \(parameters.count) arguments"))
    }
    var places: [Value?] = arguments.positional
    while places.count < parameters.count { places.append(nil) }
    for (name, value) in arguments.named {
      guard let place = parameters.firstIndex(where: { isSameText($0, name) }) else {
        throw fault(.evaluation("\(what) has no argument \(excerpt(name))"))
      }
      if places[place] != nil {
        throw fault(.evaluation("\(what) was given the argument '\(name)' twice"))
      }
      places[place] = value
    }
    for (parameter, place) in zip(parameters, places).prefix(required) where place == nil {
      throw fault(.evaluation("\(what) needs the argument '\(parameter)'"))
    }
    return places
  }
}

/// The values of a call's arguments.
struct GivenArguments {
  var positional: [Value] = []
  var named: [(name: String, value: Value)] = []
  /// The body of the call block that makes the call.
  var caller: MacroClosure?
}
