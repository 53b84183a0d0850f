// Operators.
//
// In:  operands.
// Out: their sum, product, join, comparison, as Python has them.
//
//   + - *     int with int is an int (an error beyond 64 bits), otherwise a float; str + str,
//             list + list, str * int
//   /         always a float
//   // %      round down: -7 // 2 = -4, -7 % 2 = 1, so that a = (a // b) b + a % b
//   **        an int where both are and the right one is not negative, otherwise a float
//   ~         the texts of both sides, side by side, marked safe or not
//   safe + str, str + safe: the str is escaped and the sum is safe
//
// The next file, Renderer+Comparison.swift, has == and <.

import Foundation

extension Renderer {
  func operation(
    _ expression: Expression, in scope: Scope
  ) throws(ChatTemplateError) -> Value {
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

  private func words(_ operation: String, _ operands: Value...) -> String {
    for case .undefined(let why) in operands { return why }
    return "'\(operation)' cannot be applied to "
      + operands.map(\.typeName).joined(separator: " and ")
  }

  private func negated(_ value: Value) throws(ChatTemplateError) -> Value {
    if case .number(let number) = value { return .number(-number) }
    guard let integer = value.integer else { throw fault(.evaluation(words("-", value))) }
    return try combine(0, .subtract, integer)
  }

  func combine(
    _ left: Value, _ operation: Operator, _ right: Value
  ) throws(ChatTemplateError) -> Value {
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
    case (.text, .add, .markup), (.markup, .add, .text), (.markup, .add, .markup):
      let (a, b) = (try escaped(left), try escaped(right))
      try charge(bytes: a.utf8.count + b.utf8.count)
      return .markup(a + b)
    case (.list(let a), .add, .list(let b))
    where a.kind == b.kind && (a.kind == .list || a.kind == .tuple):
      try charge(a.items.count + b.items.count)
      return try list(a.items + b.items, kind: a.kind)
    case (.text(let text), .multiply, _), (.markup(let text), .multiply, _):
      if let count = right.integer {
        return .str(try repeated(text, count), isMarkup: left.isMarkup)
      }
    case (_, .multiply, .text(let text)), (_, .multiply, .markup(let text)):
      if let count = left.integer {
        return .str(try repeated(text, count), isMarkup: right.isMarkup)
      }
    case (.text(let format), .modulo, _), (.markup(let format), .modulo, _):
      // A number without a place for it in the text is an error in Python too.
      if right.number != nil, !format.utf8.contains(UInt8(ascii: "%")) { break }
      throw fault(.unsupported("formatting with %"))
    case (.list(let list), .multiply, _):
      if let count = right.integer { return try repeated(list, count) }
    case (_, .multiply, .list(let list)):
      if let count = left.integer { return try repeated(list, count) }
    default: break
    }
    throw fault(.evaluation(words(operation.rawValue, left, right)))
  }

  private func repeated(_ text: String, _ count: Int) throws(ChatTemplateError) -> String {
    let (bytes, overflow) = text.utf8.count.multipliedReportingOverflow(by: max(count, 0))
    try charge(bytes: overflow ? .max : bytes)
    return bytes == 0 ? "" : String(repeating: text, count: count)
  }

  private func repeated(
    _ list: ListValue, _ count: Int
  ) throws(ChatTemplateError) -> Value {
    if list.kind != .list && list.kind != .tuple {
      throw fault(.evaluation("\(list.kind.rawValue) cannot be repeated"))
    }
    let (size, overflow) = list.items.count.multipliedReportingOverflow(by: max(count, 0))
    try charge(overflow ? .max : size)
    // One copy after the other of the bounded size; none of an empty list.
    var items: [Value] = []
    if size > 0 { for _ in 0..<count { items += list.items } }
    return try self.list(items, kind: list.kind)
  }

  private func combine(
    _ a: Int, _ operation: Operator, _ b: Int
  ) throws(ChatTemplateError) -> Value {
    if b == 0, [.divide, .floorDivide, .modulo].contains(operation) {
      throw fault(.evaluation("division by zero"))
    }
    let (result, overflow): (Int, Bool)
    switch operation {
    case .add: (result, overflow) = a.addingReportingOverflow(b)
    case .subtract: (result, overflow) = a.subtractingReportingOverflow(b)
    case .multiply: (result, overflow) = a.multipliedReportingOverflow(by: b)
    case .divide: return .number(Double(a) / Double(b))
    case .power: return try power(a, b)
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

  /// By squaring: exponents have at most 63 binary digits.
  private func power(_ base: Int, _ exponent: Int) throws(ChatTemplateError) -> Value {
    if exponent < 0 { return .number(try combine(Double(base), .power, Double(exponent))) }
    var (result, square, rest) = (1, base, exponent)
    while rest > 0 {
      var tooLarge = false
      if rest % 2 == 1 { (result, tooLarge) = result.multipliedReportingOverflow(by: square) }
      if tooLarge { throw fault(.limit("an int of more than 64 bits")) }
      rest /= 2
      if rest > 0 { (square, tooLarge) = square.multipliedReportingOverflow(by: square) }
      if tooLarge { throw fault(.limit("an int of more than 64 bits")) }
    }
    return .integer(result)
  }

  private func combine(
    _ a: Double, _ operation: Operator, _ b: Double
  ) throws(ChatTemplateError) -> Double {
    if b == 0, [.divide, .floorDivide, .modulo].contains(operation) {
      throw fault(.evaluation("division by zero"))
    }
    switch operation {
    case .add: return a + b
    case .subtract: return a - b
    case .multiply: return a * b
    case .divide: return a / b
    case .power:
      if a == 0, b < 0 { throw fault(.evaluation("zero to a negative power")) }
      if a < 0, b.isFinite, b != b.rounded() { throw fault(.unsupported("a complex number")) }
      let result = pow(a, b)
      if result.isInfinite, a.isFinite, b.isFinite {
        throw fault(.evaluation("a float beyond its range"))
      }
      return result
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
