// The engine's face: everything that the rest of the module asks of Jinja.
//
// In:  a template's source; then variables and a date.
// Out: a parsed template; then its text.
//
//   source --Lexer--> tokens --Parser--> statements --Renderer--> text
//
// Two functions, parse and render. Another engine can take this one's place behind them: it has to
// know a ChatValue, end within bounds whatever the template says, and throw ChatTemplateErrors.
// The next file, Lexer.swift, is where a source begins.

/// A parsed template.
struct JinjaTemplate: Sendable {
  /// What error messages call it.
  private let name: String
  private let statements: [Statement]

  /// Parses `source`; throws where it is no Jinja or goes beyond the subset.
  init(parsing source: String, name: String) throws(ChatTemplateError) {
    self.name = name
    statements = try Parser.statements(of: source, template: name)
  }

  /// The text that the template makes of `variables`; `date` is what it prints as today's date.
  func render(
    _ variables: [String: ChatValue], date: ChatDate
  ) throws(ChatTemplateError) -> String {
    let renderer = Renderer(template: name, date: date)
    let scope = Scope()
    for (key, value) in variables { scope.variables[key] = try renderer.value(value) }
    return try renderer.render(statements, in: scope)
  }
}
