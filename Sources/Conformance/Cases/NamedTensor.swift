// A tensor as cases, references and candidates exchange it.
//
// In:  a name, axes with their sizes, and elements.
// Out: the same, checked: as many elements as the sizes say.

/// A tensor with a name and named axes; row-major.
package struct NamedTensor: Sendable, Equatable {
  /// Real numbers, or integers that fit 32 bits.
  package enum Values: Sendable, Equatable {
    case reals([Double])
    case integers([Int])
  }

  /// The name, such as "A_K".
  package let name: String
  /// Names of the axes, such as ["head", "token", "rank"].
  package let axes: [String]
  /// The size of each axis.
  package let shape: [Int]
  /// The elements, the last axis fastest.
  package let values: Values

  /// A tensor of real numbers.
  package init(_ name: String, _ axes: [(String, Int)], reals: [Double]) {
    self.init(name, axes, .reals(reals), count: reals.count)
  }

  /// A tensor of integers.
  package init(_ name: String, _ axes: [(String, Int)], integers: [Int]) {
    self.init(name, axes, .integers(integers), count: integers.count)
  }

  private init(_ name: String, _ axes: [(String, Int)], _ values: Values, count: Int) {
    (self.name, self.axes, shape, self.values) = (name, axes.map(\.0), axes.map(\.1), values)
    precondition(
      shape.reduce(1, *) == count, "\(name): \(count) elements for a shape of \(shape)")
  }

  /// The number of elements.
  package var count: Int { shape.reduce(1, *) }
  /// The size of the last axis; 1 where there are no axes.
  package var width: Int { shape.last ?? 1 }
}
