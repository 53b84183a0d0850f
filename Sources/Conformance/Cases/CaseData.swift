// What the tensors of cases hold.
//
// In:  a shape, a seed, the number of the tensor within its case.
// Out: numbers that F32 holds exactly, the same on every machine.
//
//   normals          what most cases have
//   small integers   −4 ... 4: sums of up to 2^18 of their products are exact in F32, in any order
//   of low rank      a product of two thin matrices of small integers: some rows are sums of others

import Tensors

/// Makes the tensors of one case; each has a stream of its own.
struct CaseData {
  let seed: UInt64
  private var stream: UInt64 = 0

  init(seed: UInt64) { self.seed = seed }

  private mutating func numbers() -> RandomNumbers {
    defer { stream += 1 }
    return RandomNumbers(seed: seed, stream: stream)
  }

  /// Normally distributed numbers times `scale`, rounded to Float.
  mutating func normals(
    _ name: String, _ axes: [(String, Int)], scale: Double = 1
  ) -> NamedTensor {
    let numbers = numbers()
    let count = axes.reduce(1) { $0 * $1.1 }
    return NamedTensor(
      name, axes, reals: (0..<count).map { Double(Float(scale * numbers.normal($0))) })
  }

  /// Integers from −4 to 4.
  mutating func smallIntegers(_ name: String, _ axes: [(String, Int)]) -> NamedTensor {
    let numbers = numbers()
    let count = axes.reduce(1) { $0 * $1.1 }
    return NamedTensor(
      name, axes, reals: (0..<count).map { Double(numbers.integer(below: 9, $0) - 4) })
  }

  /// `count` integers from 0 to `bound` − 1.
  mutating func integers(_ count: Int, below bound: Int) -> [Int] {
    let numbers = numbers()
    return (0..<count).map { numbers.integer(below: bound, $0) }
  }

  /// A matrix (rows, columns) of rank `rank`: a product of two of small integers, times 1/4.
  mutating func lowRank(_ name: String, _ axes: [(String, Int)], rank: Int) -> NamedTensor {
    let (rows, columns) = (axes[0].1, axes[1].1)
    let (left, right) = (numbers(), numbers())
    func entry(_ numbers: RandomNumbers, _ i: Int) -> Double {
      Double(numbers.integer(below: 5, i) - 2)
    }
    var product: [Double] = []
    for i in 0..<rows {
      for j in 0..<columns {
        var sum = 0.0
        for n in 0..<rank { sum += entry(left, i * rank + n) * entry(right, n * columns + j) }
        product.append(sum / 4)
      }
    }
    return NamedTensor(name, axes, reals: product)
  }

  /// `count` different integers below `bound`, ascending where asked.
  mutating func distinct(_ count: Int, below bound: Int, ascending: Bool) -> [Int] {
    let numbers = numbers()
    var all = Array(0..<bound)
    for i in 0..<count { all.swapAt(i, i + numbers.integer(below: bound - i, i)) }
    let chosen = Array(all[..<count])
    return ascending ? chosen.sorted() : chosen
  }
}

extension NamedTensor {
  /// All numbers times `factor`, rounded to Float.
  func times(_ factor: Double) -> NamedTensor {
    guard case .reals(let numbers) = values else { return self }
    return NamedTensor(
      name, Array(zip(axes, shape)), reals: numbers.map { Double(Float($0 * factor)) })
  }

  /// With row `row` of the last axis times `factor`, rounded to Float.
  func scaling(row: Int, by factor: Double) -> NamedTensor {
    guard case .reals(var numbers) = values else { return self }
    for i in row * width..<(row + 1) * width { numbers[i] = Double(Float(numbers[i] * factor)) }
    return NamedTensor(name, Array(zip(axes, shape)), reals: numbers)
  }
}
