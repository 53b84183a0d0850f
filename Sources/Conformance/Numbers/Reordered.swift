// The plain implementation in other orders of its sums: every kernel may choose its own.
//
// In:  the loops of a kernel, run in `Reordered` numbers, and a seed that says how sums are made.
// Out: what an honest implementation computes that sums in that way.
//
// A sum is kept as a list of its terms until its number is needed: written to memory, compared,
// divided. Then the terms are put in some order and added up in one of four ways: one after the
// other, in pairs, in lanes that are added up at the end, or in blocks. Products are fused into the
// sum or rounded first; a division may be one by the reciprocal; a power of e may be the next
// number. All sums of a length have the same order, as a kernel's have. AllowedErrors.swift takes
// the largest error of a few of them.

import Tensors

/// How sums are made.
package struct SummationOrder: Sendable {
  /// The order that `Reordered` numbers take.
  @TaskLocal package static var current = SummationOrder(seed: 0)

  private enum Way: Int, CaseIterable { case sequence, pairs, lanes, blocks }

  private let numbers: RandomNumbers
  private let way: Way
  private let isPermuted: Bool
  private let isFused: Bool
  private let size: Int
  fileprivate let multipliesByReciprocal: Bool
  /// By how many places powers of e are off, at most: 0 or 1.
  fileprivate let powersAreOff: Bool

  /// The order number `seed`.
  package init(seed: UInt64) {
    let choices = RandomNumbers(seed: seed, stream: 0)
    numbers = RandomNumbers(seed: seed, stream: 1)
    way = Way.allCases[choices.integer(below: Way.allCases.count, 0)]
    isPermuted = choices.integer(below: 2, 1) == 1
    isFused = choices.integer(below: 2, 2) == 1
    size = 2 << choices.integer(below: 5, 3)
    multipliesByReciprocal = choices.integer(below: 2, 4) == 1
    powersAreOff = choices.integer(below: 2, 5) == 1
  }

  /// Σ a b over the terms.
  fileprivate func sum(_ terms: [Term]) -> Float {
    var terms = terms
    let n = terms.count
    if isPermuted {
      for i in 0..<max(n - 1, 0) { terms.swapAt(i, i + numbers.integer(below: n - i, i)) }
    }
    switch way {
    case .sequence: return chain(terms)
    case .pairs: return pairs(terms[...])
    case .lanes:
      let lanes = (0..<min(size, n)).map { lane in
        chain(stride(from: lane, to: n, by: size).map { terms[$0] })
      }
      return pairs(lanes.map { Term($0) }[...])
    case .blocks:
      let blocks = stride(from: 0, to: n, by: size).map {
        chain(Array(terms[$0..<min($0 + size, n)]))
      }
      return chain(blocks.map { Term($0) })
    }
  }

  private func chain(_ terms: [Term]) -> Float {
    terms.reduce(0) { isFused ? $1.added(to: $0) : $0 + $1.value }
  }

  private func pairs(_ terms: ArraySlice<Term>) -> Float {
    if terms.count <= 2 { return chain(Array(terms)) }
    let middle = (terms.startIndex + terms.endIndex) / 2
    return pairs(terms[..<middle]) + pairs(terms[middle...])
  }

  /// eˣ as this order's implementation has it.
  fileprivate func exponential(_ x: Float) -> Float {
    let power = x.exponential()
    if !powersAreOff || x == 0 { return power }
    switch numbers.bits(Int(x.bitPattern)) % 3 {
    case 0: return power.nextUp
    case 1: return power.nextDown
    default: return power
    }
  }
}

/// A product or a number, as part of a sum.
private struct Term: Sendable {
  var a: Float
  /// Nil for a number.
  var b: Float?

  init(_ a: Float, times b: Float? = nil) { (self.a, self.b) = (a, b) }

  var value: Float { b.map { a * $0 } ?? a }

  /// The sum with this, rounded once.
  func added(to sum: Float) -> Float { b.map { sum.addingProduct(a, $0) } ?? sum + a }
}

/// A number whose sums are in the order `SummationOrder.current`; stored as `Format` stores.
package struct Reordered<Format: StoredFormat>: KernelNumber {
  private enum Content {
    case number(Float)
    case product(Float, Float)
    case sum([Term])
  }
  private var content: Content

  private init(_ float: Float) { content = .number(float) }

  package init(rounding value: Double) { self.init(Format.stored(value)) }

  private var float: Float {
    switch content {
    case .number(let a): a
    case .product(let a, let b): a * b
    case .sum(let terms): SummationOrder.current.sum(terms)
    }
  }

  private var terms: [Term] {
    switch content {
    case .number(let a): a == 0 ? [] : [Term(a)]
    case .product(let a, let b): [Term(a, times: b)]
    case .sum(let terms): terms
    }
  }

  private static func appended(_ sum: inout Reordered, _ next: Reordered, sign: Float) {
    var terms = sum.terms
    sum.content = .number(0)  // so that the list has one holder and grows in place
    switch next.content {
    case .number(let a): terms.append(Term(sign * a))
    case .product(let a, let b): terms.append(Term(sign * a, times: b))
    case .sum(let more): terms += more.map { Term(sign * $0.a, times: $0.b) }
    }
    sum.content = .sum(terms)
  }

  package var value: Double { Double(float) }
  package var stored: Reordered { Reordered(Format.stored(value)) }
  package static var zero: Reordered { Reordered(0) }
  package static func == (a: Reordered, b: Reordered) -> Bool { a.float == b.float }
  package static func < (a: Reordered, b: Reordered) -> Bool { a.float < b.float }
  package static func += (a: inout Reordered, b: Reordered) { appended(&a, b, sign: 1) }
  package static func -= (a: inout Reordered, b: Reordered) { appended(&a, b, sign: -1) }
  package static func + (a: Reordered, b: Reordered) -> Reordered {
    var sum = a
    sum += b
    return sum
  }
  package static func - (a: Reordered, b: Reordered) -> Reordered {
    var sum = a
    sum -= b
    return sum
  }
  package static func * (a: Reordered, b: Reordered) -> Reordered {
    var product = a
    product.content = .product(a.float, b.float)
    return product
  }
  package static func / (a: Reordered, b: Reordered) -> Reordered {
    SummationOrder.current.multipliesByReciprocal
      ? Reordered(a.float * (1 / b.float)) : Reordered(a.float / b.float)
  }
  package func squareRoot() -> Reordered { Reordered(float.squareRoot()) }
  package func exponential() -> Reordered {
    Reordered(SummationOrder.current.exponential(float))
  }
}

extension Kernel {
  /// What an implementation in this precision computes that sums in the order number `seed`.
  package func reordered(
    _ example: KernelCase, _ precision: CandidatePrecision, seed: UInt64
  ) -> [NamedTensor] {
    SummationOrder.$current.withValue(SummationOrder(seed: seed)) {
      switch precision {
      case .float32: run(Inputs<Reordered<Float32Format>>(example))
      case .bfloat16: run(Inputs<Reordered<BFloat16>>(example))
      case .float16: run(Inputs<Reordered<Float16Format>>(example))
      }
    }
  }
}
