// Calls of macros.
//
// In:  a macro with the scope in which it is written, and arguments.
// Out: the text of its body.
//
// Arguments beyond the parameters go into `varargs` and `kwargs`, the body of a call block into
// `caller`, if the macro's body names them; otherwise they are an error, as in Jinja. The next
// file, Renderer+Expressions.swift, computes expressions.

extension Renderer {
  /// The text that a macro makes of `arguments`.
  func call(
    _ closure: MacroClosure, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let macro = closure.macro
    let names = macro.parameters.map(\.name)
    let scope = Scope(in: closure.scope)
    let given = try bind(
      try withoutExtras(arguments, of: macro, parameters: names, in: scope), to: names,
      of: "the macro '\(macro.name)'")
    for (parameter, argument) in zip(macro.parameters, given) {
      // A default may use the parameters before it.
      if let argument {
        scope.variables[parameter.name] = argument
      } else if let fallback = parameter.fallback {
        scope.variables[parameter.name] = try value(of: fallback, in: scope)
      } else {
        scope.variables[parameter.name] = .undefined(
          "parameter '\(parameter.name)' was not provided")
      }
    }
    return .text(try render(macro.body, in: scope))
  }

  /// The arguments for the parameters; the others go into the scope.
  private func withoutExtras(
    _ arguments: GivenArguments, of macro: Macro, parameters: [String],
    in scope: Scope
  ) throws(ChatTemplateError) -> GivenArguments {
    var rest = arguments
    rest.caller = nil
    if macro.extras.contains("caller") {
      scope.variables["caller"] =
        arguments.caller.map { .macro($0) } ?? .undefined("no caller is defined")
    } else if arguments.caller != nil {
      throw fault(.evaluation("the macro '\(macro.name)' has no use for the body of a call block"))
    }
    if macro.extras.contains("kwargs") {
      let isExtra = { (name: String) in !parameters.contains(name) }
      scope.variables["kwargs"] = try mapping(
        rest.named.filter { isExtra($0.name) }.map { (.text($0.name), $0.value) })
      rest.named.removeAll { isExtra($0.name) }
    }
    if macro.extras.contains("varargs") {
      let extra = Array(rest.positional.dropFirst(parameters.count))
      scope.variables["varargs"] = try list(extra, kind: .tuple)
      rest.positional.removeLast(extra.count)
    }
    return rest
  }
}
