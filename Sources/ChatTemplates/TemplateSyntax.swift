// Step 2 of a chat template: what it says, as a tree.
//
// In:  nothing; these are the nodes.
// Out: expressions and statements, which the parser builds and the renderer walks.
//
// Trees are bounded where they are made. `height` of an expression is one more than the greatest
// height below it, so that a chain such as a+a+a+..., which no nested call of the parser notices,
// cannot become deeper than the renderer's stack. The next files are the parsers,
// TemplateExpressionParser.swift and TemplateStatementParser.swift.

/// An expression: what stands in {{ }} and after `if`, `in`, `=`.
final class TemplateExpression: Sendable {
  enum Kind: Sendable {
    case literal(ChatValue)
    case name(String)
    case list([TemplateExpression])
    case tuple([TemplateExpression])
    case mapping([(key: TemplateExpression, value: TemplateExpression)])
    /// value.name
    case attribute(TemplateExpression, String)
    /// value[item]
    case item(TemplateExpression, TemplateExpression)
    /// value[from:to:step]
    case slice(
      TemplateExpression, from: TemplateExpression?, to: TemplateExpression?,
      step: TemplateExpression?)
    case call(TemplateExpression, TemplateArguments)
    /// Names are looked up when the filter or the test is reached, as Jinja's are inside an `if`.
    case filter(TemplateExpression, String, TemplateArguments)
    case test(TemplateExpression, String, TemplateArguments)
    case negative(TemplateExpression)
    case positive(TemplateExpression)
    case not(TemplateExpression)
    case and(TemplateExpression, TemplateExpression)
    case or(TemplateExpression, TemplateExpression)
    case arithmetic(TemplateOperator, TemplateExpression, TemplateExpression)
    /// a ~ b ~ c
    case concatenation([TemplateExpression])
    /// a < b < c is a < b and b < c.
    case comparison(
      TemplateExpression, [(relation: TemplateRelation, operand: TemplateExpression)])
    /// value if condition else otherwise
    case choice(TemplateExpression, condition: TemplateExpression, otherwise: TemplateExpression?)
    /// Jinja that we leave out, in the words of the error that it becomes when it is reached.
    case refused(String)
  }

  let kind: Kind
  let line: Int
  /// 1 for a leaf.
  let height: Int

  init(_ kind: Kind, line: Int, height: Int) {
    self.kind = kind
    self.line = line
    self.height = height
  }
}

/// What stands in the brackets of a call.
struct TemplateArguments: Sendable {
  var positional: [TemplateExpression] = []
  var named: [(name: String, value: TemplateExpression)] = []
  /// *list and **dict, behind the others.
  var rest: TemplateExpression?
  var namedRest: TemplateExpression?
}

/// + - * / // % **
enum TemplateOperator: String, CaseIterable, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case floorDivide = "//"
  case modulo = "%"
  case power = "**"
}

/// A comparison: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`.
enum TemplateRelation: String, CaseIterable, Sendable {
  case equal = "=="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case isIn = "in"
  case notIn = "not in"
}

/// What stands between tags, and what the tags {% %} do.
indirect enum TemplateStatement: Sendable {
  case text(String)
  case output(TemplateExpression)
  /// if, elif, else: the first branch whose condition holds; no condition always holds.
  case branches([(condition: TemplateExpression?, body: [TemplateStatement])])
  case loop(TemplateLoop)
  case set(TemplateTarget, TemplateExpression, line: Int)
  /// {% set target %}body{% endset %}; a filter is applied to the text of the body.
  case capture(TemplateTarget, TemplateExpression?, body: [TemplateStatement], line: Int)
  case macro(TemplateMacro)
  /// {% call(parameters) m(arguments) %}: the body is a macro that m knows as `caller`.
  case call(TemplateExpression, caller: TemplateMacro, line: Int)
  /// {% filter name %}: the filters are applied to the text of the body.
  case filtered(TemplateExpression, body: [TemplateStatement])
  /// {% with a = 1, b = 2 %}: the values are computed before any name is set.
  case with([(target: TemplateTarget, value: TemplateExpression)], body: [TemplateStatement])
  /// {% generation %}: transformers marks what the assistant wrote; the text is the same.
  case generation([TemplateStatement])
  case leaveLoop
  case nextRound
  /// A statement that we leave out: an error when it is reached.
  case refused(String, line: Int)
}

/// for target in sequence if condition: body; without any round, otherwise.
struct TemplateLoop: Sendable {
  let target: TemplateTarget
  let sequence: TemplateExpression
  let condition: TemplateExpression?
  let body: [TemplateStatement]
  let otherwise: [TemplateStatement]
  let line: Int
}

/// What `set` and `for` assign to.
indirect enum TemplateTarget: Sendable {
  case name(String)
  /// a, b: as many targets as the value has items; (a, b), c is one inside another.
  case targets([TemplateTarget])
  /// namespace.attribute
  case attribute(String, String)
}

/// A macro: `macro name(parameters)` and its body.
final class TemplateMacro: Sendable {
  let name: String
  let parameters: [(name: String, fallback: TemplateExpression?)]
  let body: [TemplateStatement]
  /// Of `caller`, `varargs` and `kwargs` those that the body names: only they may be handed over.
  let extras: Set<String>
  let line: Int

  init(
    name: String, parameters: [(name: String, fallback: TemplateExpression?)],
    body: [TemplateStatement], extras: Set<String>, line: Int
  ) {
    self.name = name
    self.parameters = parameters
    self.body = body
    self.extras = extras
    self.line = line
  }
}

/// What a template can call by name.
enum TemplateFunction: String, CaseIterable, Sendable {
  case dict, namespace, range
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
}
