// Statements into text.
//
// In:  statements, and the scope that their names are looked up in.
// Out: text appended to `output`.
//
// What Jinja says about scopes: each round of a loop, a captured block and a macro's body have
// their own variables, which end with them; an `if` has none of its own. A macro sees the variables
// of the place where it is written. To carry something out of a loop a template needs namespace().
// The next file, Renderer+Macros.swift, calls macros.

extension Renderer {
  /// How a list of statements ended.
  enum Ending {
    case atTheEnd, leaveLoop, nextRound
  }

  func run(
    _ statements: [Statement], in scope: Scope, output: inout String
  ) throws(ChatTemplateError) -> Ending {
    try descend()
    defer { ascend() }
    for statement in statements {
      try charge()
      switch statement {
      case .text(let text): try append(text, to: &output)
      case .output(let expression):
        try append(try string(try value(of: expression, in: scope)), to: &output)
      case .branches(let branches):
        let ending = try run(branches, in: scope, output: &output)
        if ending != .atTheEnd { return ending }
      case .loop(let loop):
        let ending = try run(loop, in: scope, output: &output)
        if ending != .atTheEnd { return ending }
      case .set(let target, let expression, let line):
        let value = try value(of: expression, in: scope)
        self.line = line
        try assign(value, to: target, in: scope)
      case .capture(let target, let filters, let body, let line):
        let text = Value.text(try render(body, in: Scope(in: scope)))
        let value =
          try filters.map { filters throws(ChatTemplateError) in
            try self.value(of: filters, in: Scope(["": text], in: scope))
          } ?? text
        self.line = line
        try assign(value, to: target, in: scope)
      case .macro(let macro):
        scope.variables[macro.name] = .macro(MacroClosure(macro, scope: scope))
      case .generation(let body):
        try append(try render(body, in: Scope(in: scope)), to: &output)
      case .call(let call, let caller, let line):
        self.line = line
        let closure = MacroClosure(caller, scope: scope)
        try append(try string(try value(of: call, caller: closure, in: scope)), to: &output)
      case .filtered(let filters, let body):
        let text = Value.text(try render(body, in: Scope(in: scope)))
        let value = try value(of: filters, in: Scope(["": text], in: scope))
        try append(try string(value), to: &output)
      case .with(let targets, let body):
        let ending = try run(with: targets, body, in: scope, output: &output)
        if ending != .atTheEnd { return ending }
      case .refused(let what, let line):
        self.line = line
        throw fault(.unsupported(what))
      case .leaveLoop: return .leaveLoop
      case .nextRound: return .nextRound
      }
    }
    return .atTheEnd
  }

  /// The text of `statements` in a scope of their own, which ends with them.
  func render(
    _ statements: [Statement], in scope: Scope
  ) throws(ChatTemplateError) -> String {
    // A macro holds its scope and the scope the macro.
    defer { scope.variables = [:] }
    var text = ""
    _ = try run(statements, in: scope, output: &text)
    return text
  }

  private func append(_ text: String, to output: inout String) throws(ChatTemplateError) {
    try charge(bytes: text.utf8.count)
    output += text
  }

  private func run(
    _ branches: [(condition: Expression?, body: [Statement])],
    in scope: Scope, output: inout String
  ) throws(ChatTemplateError) -> Ending {
    for branch in branches {
      if let condition = branch.condition, !(try value(of: condition, in: scope).isTrue) {
        continue
      }
      return try run(branch.body, in: scope, output: &output)
    }
    return .atTheEnd
  }

  private func run(
    with targets: [(target: Target, value: Expression)],
    _ body: [Statement], in scope: Scope, output: inout String
  ) throws(ChatTemplateError) -> Ending {
    let inner = Scope(in: scope)
    defer { inner.variables = [:] }
    for (target, expression) in targets {
      try assign(try value(of: expression, in: scope), to: target, in: inner)
    }
    return try run(body, in: inner, output: &output)
  }

  private func run(
    _ loop: Loop, in scope: Scope, output: inout String
  ) throws(ChatTemplateError) -> Ending {
    let sequence = try value(of: loop.sequence, in: scope)
    var items = try items(of: sequence)
    if let condition = loop.condition {
      // `loop` counts what is left, so all items are asked first; it is not there while they are.
      var kept: [Value] = []
      for item in items {
        try charge()
        let round = Scope(in: scope)
        round.variables["loop"] = .undefined("'loop' in the condition of a loop is undefined")
        try assign(item, to: loop.target, in: round)
        if try value(of: condition, in: round).isTrue { kept.append(item) }
      }
      items = kept
    }
    if items.isEmpty {
      let inner = Scope(in: scope)
      defer { inner.variables = [:] }
      return try run(loop.otherwise, in: inner, output: &output)
    }
    for index in items.indices {
      try charge()
      line = loop.line
      let round = Scope(in: scope)
      defer { round.variables = [:] }
      try assign(items[index], to: loop.target, in: round)
      round.variables["loop"] = .loop(LoopRound(items, index: index))
      if try run(loop.body, in: round, output: &output) == .leaveLoop {
        if case .iterator(let iterator) = sequence { iterator.isUncertain = true }
        break
      }
    }
    return .atTheEnd
  }

  private func assign(
    _ value: Value, to target: Target, in scope: Scope
  ) throws(ChatTemplateError) {
    switch target {
    case .name(let name): scope.variables[name] = value
    case .targets(let targets):
      let items = try items(of: value)
      if items.count != targets.count {
        throw fault(.evaluation("\(targets.count) names for \(items.count) values"))
      }
      for (target, item) in zip(targets, items) { try assign(item, to: target, in: scope) }
    case .attribute(let name, let attribute):
      guard case .namespace(let namespace) = scope.value(of: name) else {
        throw fault(.evaluation("'\(name)' is no namespace, so '\(attribute)' cannot be set"))
      }
      try checkItem(value)
      namespace.attributes[attribute] = value
    }
  }
}
