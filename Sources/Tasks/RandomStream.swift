// Random choices, one after another, from a named stream.
//
// In:  a seed, and a name such as "ruler-like v1/niah_single_1/1024/7/positions".
// Out: integers, shuffles, samples without repetition. Other streams do not change them.
//
// A stream's number is the FNV-1a hash of its name. Its elements 0, 1, 2 ... are used one after
// another (Tensors' RandomNumbers). So a sample depends on its own name alone, and the samples and
// tasks before it change nothing.

import Tensors

/// One stream of choices.
package struct RandomStream: Sendable {
  private let numbers: RandomNumbers
  private var place = 0

  /// The stream `name` of `seed`.
  package init(seed: UInt64, name: String) {
    numbers = RandomNumbers(seed: seed, stream: fnv1a(name))
  }

  /// An integer uniform on 0 ..< bound.
  package mutating func below(_ bound: Int) -> Int {
    defer { place += 1 }
    return numbers.integer(below: bound, place)
  }

  /// An element of `list`.
  package mutating func pick<Element>(_ list: [Element]) -> Element { list[below(list.count)] }

  /// Puts `list` into a random order (Fisher and Yates).
  package mutating func shuffle<Element>(_ list: inout [Element]) {
    for i in stride(from: list.count - 1, to: 0, by: -1) { list.swapAt(i, below(i + 1)) }
  }

  /// `count` different integers of 0 ..< bound, ascending (Floyd's method: `count` draws).
  mutating func distinct(_ count: Int, below bound: Int) -> [Int] {
    precondition(count <= bound, "\(count) different integers below \(bound) do not exist")
    var chosen: Set<Int> = []
    for top in bound - count..<bound {
      let one = below(top + 1)
      chosen.insert(chosen.contains(one) ? top : one)
    }
    return chosen.sorted()
  }

  /// `count` letters from `first` on in ASCII.
  mutating func letters(_ count: Int, from first: Unicode.Scalar) -> String {
    var text = ""
    for _ in 0..<count {
      text.unicodeScalars.append(Unicode.Scalar(UInt8(first.value) + UInt8(below(26))))
    }
    return text
  }
}
