// What a tensor is.
//
// In:  a shape and a flat array of elements.
// Out: a value that owns them, row-major: the last axis is contiguous. A matrix (l, d) stores
//      token 0's d numbers, then token 1's, and so on.
//
// What is left out on purpose: strides, views, broadcasting. The algorithm works on one head's
// matrices at a time, and a reader always knows where element [i, j] lies: at i * d + j.

/// A dense row-major array with any number of axes.
///
/// A tensor is a plain value: copying it is cheap until one of the copies is changed.
public struct Tensor<Element: Sendable>: Sendable {
  /// The size of each axis, outermost first.
  public let shape: [Int]

  /// All elements, row-major; `elements.count` is the product of `shape`.
  public internal(set) var elements: [Element]

  /// Wraps a flat row-major array.
  public init(shape: [Int], elements: [Element]) {
    precondition(shape.allSatisfy { $0 >= 0 }, "axis sizes are not negative: \(shape)")
    precondition(
      elements.count == shape.reduce(1, *),
      "shape \(shape) needs \(shape.reduce(1, *)) elements, not \(elements.count)")
    self.shape = shape
    self.elements = elements
  }

  /// A tensor that holds one value everywhere.
  public init(repeating value: Element, shape: [Int]) {
    precondition(shape.allSatisfy { $0 >= 0 }, "axis sizes are not negative: \(shape)")
    self.shape = shape
    self.elements = Array(repeating: value, count: shape.reduce(1, *))
  }

  /// A matrix given row by row.
  public init(rows: [[Element]]) {
    let columns = rows.first?.count ?? 0
    precondition(
      rows.allSatisfy { $0.count == columns }, "every row of a matrix has the same width")
    // Row by row: an iterator over all of them is slow where it is not specialised.
    var elements: [Element] = []
    elements.reserveCapacity(rows.count * columns)
    for row in rows { elements += row }
    self.init(shape: [rows.count, columns], elements: elements)
  }

  /// Number of axes.
  public var axisCount: Int { shape.count }

  /// Number of elements.
  public var count: Int { elements.count }

  /// Size of the last axis but one: rows of a matrix.
  public var rows: Int {
    precondition(axisCount >= 2, "rows: a tensor of shape \(shape) is no matrix")
    return shape[axisCount - 2]
  }

  /// Size of the last axis: columns of a matrix.
  public var columns: Int {
    precondition(axisCount >= 1, "columns: a scalar has none")
    return shape[axisCount - 1]
  }

  /// The element of a matrix at row `i`, column `j`.
  public subscript(i: Int, j: Int) -> Element {
    get {
      precondition(axisCount == 2, "[i, j] needs a matrix, not shape \(shape)")
      precondition(j >= 0 && j < shape[1], "column \(j) of shape \(shape)")
      return elements[i * shape[1] + j]
    }
    set {
      precondition(axisCount == 2, "[i, j] needs a matrix, not shape \(shape)")
      precondition(j >= 0 && j < shape[1], "column \(j) of shape \(shape)")
      elements[i * shape[1] + j] = newValue
    }
  }

  /// The part of the tensor at fixed leading indices, as a tensor of the remaining axes (a copy).
  ///
  /// For `q` of shape (batch, head, token, width), `q.slice(0, 3)` is head 3's (token, width).
  public func slice(_ leading: Int...) -> Tensor {
    precondition(leading.count <= axisCount, "\(leading.count) indices into shape \(shape)")
    let inner = Array(shape.dropFirst(leading.count))
    let size = inner.reduce(1, *)
    var index = 0
    for (axis, i) in leading.enumerated() {
      precondition(i >= 0 && i < shape[axis], "index \(i) on axis \(axis) of shape \(shape)")
      index = index * shape[axis] + i
    }
    return Tensor(shape: inner, elements: Array(elements[index * size..<(index + 1) * size]))
  }

  /// Row `i` of a matrix, as an array (a copy).
  public func row(_ i: Int) -> [Element] {
    precondition(axisCount == 2 && i >= 0 && i < shape[0], "row \(i) of shape \(shape)")
    return Array(elements[i * shape[1]..<(i + 1) * shape[1]])
  }

  /// Rows `range` of a matrix, as a matrix (a copy).
  public func rows(_ range: Range<Int>) -> Tensor {
    precondition(
      axisCount == 2 && range.lowerBound >= 0 && range.upperBound <= shape[0],
      "rows \(range) of shape \(shape)")
    let width = shape[1]
    return Tensor(
      shape: [range.count, width],
      elements: Array(elements[range.lowerBound * width..<range.upperBound * width]))
  }

  /// Gather: row `indices[n]` of this matrix becomes row n of the result.
  public func gather(rows indices: [Int]) -> Tensor {
    precondition(axisCount == 2, "gather(rows:) needs a matrix, not shape \(shape)")
    var gathered: [Element] = []
    gathered.reserveCapacity(indices.count * shape[1])
    for i in indices {
      precondition(i >= 0 && i < shape[0], "row \(i) of shape \(shape)")
      gathered += elements[i * shape[1]..<(i + 1) * shape[1]]
    }
    return Tensor(shape: [indices.count, shape[1]], elements: gathered)
  }

  /// Gather: column `indices[n]` of this matrix becomes column n of the result.
  public func gather(columns indices: [Int]) -> Tensor {
    precondition(axisCount == 2, "gather(columns:) needs a matrix, not shape \(shape)")
    precondition(
      indices.allSatisfy { $0 >= 0 && $0 < shape[1] }, "columns \(indices) of shape \(shape)")
    var gathered: [Element] = []
    gathered.reserveCapacity(indices.count * shape[0])
    for i in 0..<shape[0] {
      for j in indices { gathered.append(elements[i * shape[1] + j]) }
    }
    return Tensor(shape: [shape[0], indices.count], elements: gathered)
  }

  /// The same elements under another shape of the same size.
  public func reshaped(_ newShape: [Int]) -> Tensor { Tensor(shape: newShape, elements: elements) }

  /// Tensors of one shape joined along a new first axis.
  public init(stacking parts: [Tensor]) {
    let inner = parts.first?.shape ?? []
    precondition(parts.allSatisfy { $0.shape == inner }, "stacked tensors share one shape")
    self.init(shape: [parts.count] + inner, elements: parts.flatMap(\.elements))
  }

  /// Matrices of one width joined along their rows: (m, d) over (n, d) is (m + n, d).
  public init(joiningRows parts: [Tensor]) {
    let width = parts.first?.columns ?? 0
    precondition(
      parts.allSatisfy { $0.axisCount == 2 && $0.columns == width }, "joined rows share one width")
    self.init(
      shape: [parts.reduce(0) { $0 + $1.rows }, width], elements: parts.flatMap(\.elements))
  }

  /// Every element through `transform`.
  public func map<Other: Sendable>(_ transform: (Element) -> Other) -> Tensor<Other> {
    Tensor<Other>(shape: shape, elements: elements.map(transform))
  }
}

extension Tensor: Equatable where Element: Equatable {}

extension Tensor {
  /// Throws unless the shape is exactly the named one.
  ///
  /// `try q.require("Q", [("token", l), ("width", d)])` fails with a line such as
  /// "Q has shape (96, 31), expected (token 96, width 32)".
  public func require(_ name: String, _ axes: [(name: String, size: Int)]) throws(ShapeError) {
    if shape != axes.map(\.size) {
      throw ShapeError(
        tensor: name, found: shape, expected: axes.map { "\($0.name) \($0.size)" })
    }
  }
}

/// A tensor whose shape is not the one that its use needs.
public struct ShapeError: Error, Equatable, CustomStringConvertible {
  /// Name of the tensor.
  public let tensor: String
  /// The shape that it has.
  public let found: [Int]
  /// The axes that were needed, each "name size".
  public let expected: [String]

  /// Describes a mismatch of `tensor`.
  public init(tensor: String, found: [Int], expected: [String]) {
    self.tensor = tensor
    self.found = found
    self.expected = expected
  }

  /// One line: what, found, expected.
  public var description: String {
    let shape = found.map(String.init).joined(separator: ", ")
    return "\(tensor) has shape (\(shape)), expected (\(expected.joined(separator: ", ")))"
  }
}
