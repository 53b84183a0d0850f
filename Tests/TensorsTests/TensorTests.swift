// Shapes, slices, gathers, and the sentence that a wrong shape gets.

import Tensors
import Testing

@Suite struct TensorTests {
  let counting = Tensor(shape: [2, 3, 4], elements: Array(0..<24))

  @Test func `elements lie row-major`() {
    #expect(counting.slice(1, 2).elements == [20, 21, 22, 23])
    #expect(counting.slice(1).shape == [3, 4])
    #expect(counting.slice(1)[2, 3] == 23)
    #expect(counting.slice(0).row(1) == [4, 5, 6, 7])
  }

  @Test func `gathers copy rows and columns in the order asked for`() {
    let matrix = counting.slice(0)
    #expect(matrix.gather(rows: [2, 0, 2]).elements == [8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11])
    #expect(matrix.gather(columns: [3, 1]).elements == [3, 1, 7, 5, 11, 9])
    #expect(matrix.rows(1..<3).elements == Array(4..<12))
  }

  @Test func `stacking and joining put parts behind one another`() {
    let (a, b) = (counting.slice(0), counting.slice(1))
    #expect(Tensor(stacking: [a, b]) == counting)
    #expect(Tensor(joiningRows: [a, b]).shape == [6, 4])
    #expect(Tensor(joiningRows: [a, b]).elements == counting.elements)
  }

  @Test func `a wrong shape is named with its axes`() {
    let error = #expect(throws: ShapeError.self) {
      try counting.slice(0).require("Q", [("token", 96), ("width", 32)])
    }
    #expect(error?.description == "Q has shape (3, 4), expected (token 96, width 32)")
  }

  @Test func `a changed copy leaves the original alone`() {
    var copy = counting.slice(0)
    let before = copy
    copy[0, 0] = 99
    #expect(before[0, 0] == 0)
    #expect(copy[0, 0] == 99)
  }

  @Test func `an index outside the shape is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      _ = Tensor(shape: [2, 2], elements: [1, 2, 3, 4])[0, 2]
    }
    await #expect(processExitsWith: .failure) { _ = Tensor(shape: [2, 2], elements: [1, 2, 3]) }
  }

  @Test func `NaN and infinity are found wherever they are`() {
    for n in [1, 4, 7, 64] {
      for place in 0..<n {
        for bad in [Float.nan, .infinity, -.infinity] {
          var elements = [Float](repeating: .greatestFiniteMagnitude, count: n)
          #expect(Tensor(shape: [n], elements: elements).firstNonFinite == nil)
          elements[place] = bad
          #expect(Tensor(shape: [n], elements: elements).firstNonFinite == place)
        }
      }
    }
  }
}
