// Numbers with axes, as a kernel's loops read and write them.
//
// In:  sizes and elements.
// Out: elements by index, and slices of the first axis. SmallMatrices.swift adds the products.

/// Numbers in a shape; row-major.
package struct Grid<N: Sendable>: Sendable {
  /// Sizes of the axes.
  package let shape: [Int]
  /// The numbers, the last axis fastest.
  package var elements: [N]

  /// `elements` in this shape.
  package init(_ shape: [Int], _ elements: [N]) {
    precondition(shape.reduce(1, *) == elements.count, "\(elements.count) elements for \(shape)")
    (self.shape, self.elements) = (shape, elements)
  }

  /// The same number everywhere.
  package init(_ shape: [Int], filledWith number: N) {
    self.init(shape, Array(repeating: number, count: shape.reduce(1, *)))
  }

  /// Element (i, j).
  package subscript(i: Int, j: Int) -> N {
    get { elements[i * shape[1] + j] }
    set { elements[i * shape[1] + j] = newValue }
  }

  /// Element (i, j, n).
  package subscript(i: Int, j: Int, n: Int) -> N {
    get { elements[(i * shape[1] + j) * shape[2] + n] }
    set { elements[(i * shape[1] + j) * shape[2] + n] = newValue }
  }

  /// Slice i of the first axis.
  package subscript(slice i: Int) -> Grid {
    get {
      let size = elements.count / max(shape[0], 1)
      return Grid(Array(shape.dropFirst()), Array(elements[i * size..<(i + 1) * size]))
    }
    set {
      let size = elements.count / max(shape[0], 1)
      elements.replaceSubrange(i * size..<(i + 1) * size, with: newValue.elements)
    }
  }
}
