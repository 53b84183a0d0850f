// Macros, their calls with a body, and the statements that are left out.
//
// In:  the parser, standing behind the word that begins the statement.
// Out: the statement; what is left out becomes `refused`, an error where it is reached.
//
//   {% macro name(a, b=1) %} {% endmacro %}
//   {% call(a, b=1) name(arguments) %} {% endcall %}
//   {% include %} {% import %} {% from %} {% extends %}: other templates, of which there are none
//   {% block name %} {% endblock %}, {% autoescape on %} {% endautoescape %}
//
// The next file, Value.swift, is what expressions become.

extension Macro {
  /// Names that a macro's body may use without a parameter: the body of a call block, and the
  /// arguments beyond the parameters.
  static let extraNames: Set = ["caller", "varargs", "kwargs"]
}

extension Parser {
  mutating func macro() throws(ChatTemplateError) -> Statement {
    let start = line
    let name = try expectName()
    let parameters = try parameters()
    return .macro(try macro(name: name, parameters, until: "endmacro", line: start))
  }

  mutating func callBlock() throws(ChatTemplateError) -> Statement {
    let start = line
    let parameters = token == .symbol("(") ? try parameters() : []
    let call = try expression()
    guard case .call = call.kind else { throw fault(.syntax("expected a call")) }
    let caller = try macro(name: "caller", parameters, until: "endcall", line: start)
    return .call(call, caller: caller, line: start)
  }

  private mutating func parameters() throws(ChatTemplateError) -> [(
    name: String, fallback: Expression?
  )] {
    var parameters: [(name: String, fallback: Expression?)] = []
    let known = unknown.count
    try expect(.symbol("("))
    while !take(.symbol(")")) {
      if !parameters.isEmpty { try expect(.symbol(",")) }
      let parameter = try expectName()
      if parameters.contains(where: { $0.name == parameter }) {
        throw fault(.syntax("the parameter '\(parameter)' stands twice"))
      }
      if Macro.extraNames.contains(parameter) {
        throw fault(.unsupported("a parameter with the name '\(parameter)'"))
      }
      let fallback = take(.symbol("=")) ? try expression() : nil
      if fallback == nil, parameters.last?.fallback != nil {
        throw fault(.syntax("a parameter without a default behind one with a default"))
      }
      parameters.append((parameter, fallback))
    }
    try checkUnknown(since: known)
    return parameters
  }

  /// The body behind the parameters.
  private mutating func macro(
    name: String, _ parameters: [(name: String, fallback: Expression?)],
    until end: String, line: Int
  ) throws(ChatTemplateError) -> Macro {
    let around = extras
    extras = []
    // As in Jinja a name inside an inner macro counts for the outer one too.
    defer { extras.formUnion(around) }
    let body = try closedBlock(until: end)
    return Macro(
      name: name, parameters: parameters, body: body, extras: extras, line: line)
  }

  /// Reads over a statement that is left out.
  mutating func refused(
    _ word: String, line: Int
  ) throws(ChatTemplateError) -> Statement {
    while token != .blockEnd, token != .end { position += 1 }
    if word == "block" || word == "autoescape" {
      _ = try closedBlock(until: "end" + word)
      // {% endblock name %}
      if word == "block", case .name = token { position += 1 }
    }
    return .refused("the statement '\(word)'", line: line)
  }
}
