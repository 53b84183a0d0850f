// Step 8 of a chat template: operators.
//
// In:  operands.
// Out: their sum, product, join, comparison, as Python has them.
//
//   + - *     int with int is an int (an error beyond 64 bits), otherwise a float; str + str,
//             list + list, str * int
//   /         always a float
//   // %      round down: -7 // 2 = -4, -7 % 2 = 1, so that a = (a // b) b + a % b
//   ~         the texts of both sides, side by side
//
// The next file, TemplateComparison.swift, has == and <.

extension TemplateRenderer {
  func operation(
    _ expression: TemplateExpression, in scope: TemplateScope
  ) throws(ChatTemplateError) -> TemplateValue {
    switch expression.kind {
    case .negative(let operand):
      return try negated(try value(of: operand, in: scope))
    case .positive(let operand):
      let value = try value(of: operand, in: scope)
      if let integer = value.integer { return .integer(integer) }
      if case .number = value { return value }
      throw fault(.evaluation(words("+", value)))
    case .arithmetic(let operation, let left, let right):
      let left = try value(of: left, in: scope)
      let right = try value(of: right, in: scope)
      line = expression.line
      return try combine(left, operation, right)
    case .concatenation(let parts):
      var text = ""
      for part in parts {
        let piece = try string(try value(of: part, in: scope))
        try charge(bytes: piece.utf8.count)
        text += piece
      }
      return .text(text)
    case .comparison(let first, let rest):
      var left = try value(of: first, in: scope)
      for (relation, operand) in rest {
        let right = try value(of: operand, in: scope)
        line = expression.line
        if !(try holds(left, relation, right)) { return .bool(false) }
        left = right
      }
      return .bool(true)
    default: preconditionFailure("not an operation")
    }
  }

  private func words(_ operation: String, _ operands: TemplateValue...) -> String {
    for case .undefined(let why) in operands { return why }
    return "'\(operation)' cannot be applied to "
      + operands.map(\.typeName).joined(separator: " and ")
  }

  private func negated(_ value: TemplateValue) throws(ChatTemplateError) -> TemplateValue {
    if case .number(let number) = value { return .number(-number) }
    guard let integer = value.integer else { throw fault(.evaluation(words("-", value))) }
    return try combine(0, .subtract, integer)
  }

  func combine(
    _ left: TemplateValue, _ operation: TemplateOperator, _ right: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    if let a = left.integer, let b = right.integer {
      return try combine(a, operation, b)
    }
    if let a = left.number, let b = right.number {
      return .number(try combine(a, operation, b))
    }
    switch (left, operation, right) {
    case (.text(let a), .add, .text(let b)):
      try charge(bytes: a.utf8.count + b.utf8.count)
      return .text(a + b)
    case (.list(let a), .add, .list(let b)) where a.isTuple == b.isTuple:
      try charge(a.items.count + b.items.count)
      return try list(a.items + b.items, isTuple: a.isTuple)
    case (.text(let text), .multiply, _):
      if let count = right.integer { return .text(try repeated(text, count)) }
    case (_, .multiply, .text(let text)):
      if let count = left.integer { return .text(try repeated(text, count)) }
    case (.text(let format), .modulo, _):
      // A number without a place for it in the text is an error in Python too.
      if right.number != nil, !format.utf8.contains(UInt8(ascii: "%")) { break }
      throw fault(.unsupported("formatting with %"))
    case (.list, .multiply, _), (_, .multiply, .list):
      throw fault(.unsupported("a list times a number"))
    default: break
    }
    throw fault(.evaluation(words(operation.rawValue, left, right)))
  }

  private func repeated(_ text: String, _ count: Int) throws(ChatTemplateError) -> String {
    let (bytes, overflow) = text.utf8.count.multipliedReportingOverflow(by: max(count, 0))
    try charge(bytes: overflow ? .max : bytes)
    return bytes == 0 ? "" : String(repeating: text, count: count)
  }

  private func combine(
    _ a: Int, _ operation: TemplateOperator, _ b: Int
  ) throws(ChatTemplateError) -> TemplateValue {
    if b == 0, [.divide, .floorDivide, .modulo].contains(operation) {
      throw fault(.evaluation("division by zero"))
    }
    let (result, overflow): (Int, Bool)
    switch operation {
    case .add: (result, overflow) = a.addingReportingOverflow(b)
    case .subtract: (result, overflow) = a.subtractingReportingOverflow(b)
    case .multiply: (result, overflow) = a.multipliedReportingOverflow(by: b)
    case .divide: return .number(Double(a) / Double(b))
    case .floorDivide, .modulo:
      let (quotient, tooLarge) = a.dividedReportingOverflow(by: b)
      let remainder = tooLarge ? 0 : a % b
      let roundsUp = remainder != 0 && (remainder < 0) != (b < 0)
      if operation == .modulo { return .integer(roundsUp ? remainder + b : remainder) }
      (result, overflow) = (roundsUp ? quotient - 1 : quotient, tooLarge)
    }
    if overflow { throw fault(.limit("an int of more than 64 bits")) }
    return .integer(result)
  }

  private func combine(
    _ a: Double, _ operation: TemplateOperator, _ b: Double
  ) throws(ChatTemplateError) -> Double {
    if b == 0, [.divide, .floorDivide, .modulo].contains(operation) {
      throw fault(.evaluation("division by zero"))
    }
    switch operation {
    case .add: return a + b
    case .subtract: return a - b
    case .multiply: return a * b
    case .divide: return a / b
    case .floorDivide, .modulo:
      // As CPython: from the remainder, which is exact, and with the sign of b.
      var remainder = a.truncatingRemainder(dividingBy: b)
      if remainder != 0, (remainder < 0) != (b < 0) { remainder += b }
      if remainder == 0 { remainder = b.sign == .minus ? -0.0 : 0.0 }
      if operation == .modulo { return remainder }
      return ((a - remainder) / b).rounded()
    }
  }
}
