// Weights in a file against the sentences that define them: striped chains and panels bit for bit
// at every instruction-set level, both products against Double, slices, rows, tensors at odd bytes.

import Tensors
import Testing

/// The striped chain of two rows, as CFusedChains.h defines it.
private func stripedChain(_ x: [Float], _ w: [Float]) -> Float {
  let padded = (x.count + 15) / 16 * 16
  let (x, w) = (x + zeros(padded - x.count), w + zeros(padded - w.count))
  var s: [Float] = zeros(16)
  for i in 0..<padded { s[i % 16] = s[i % 16].addingProduct(x[i], w[i]) }
  for h in [8, 4, 2, 1] {
    for j in 0..<h { s[j] += s[j + h] }
  }
  return s[0]
}

/// A file of one matrix "w" whose data starts `shift` bytes beyond a multiple of 8.
private func file(
  _ w: [Float], rows: Int, columns: Int, _ format: StorageFormat, shift: Int = 0
) throws -> SafetensorsFile {
  var data: [UInt8] = []
  for value in w {
    switch format {
    case .float16, .bfloat16:
      let bits = (format == .float16 ? SixteenBitFloat.float16 : .bfloat16).bits(of: value)
      data += [UInt8(bits & 255), UInt8(bits >> 8)]
    default:
      data += (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
    }
  }
  var header =
    "{\"w\":{\"dtype\":\"\(format.rawValue)\",\"shape\":[\(rows),\(columns)],"
    + "\"data_offsets\":[0,\(data.count)]}}"
  while header.utf8.count % 8 != shift { header += " " }
  let bytes = littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + data
  return try SafetensorsFile(bytes: bytes, name: "test")
}

/// The bits of every element, so that == tells -0 from 0; all NaNs count as one.
private func bits(_ values: [Float]) -> [UInt32] {
  values.map { $0.isNaN ? Float.nan.bitPattern : $0.bitPattern }
}

private let weightFormats: [StorageFormat] = [.float32, .float16, .bfloat16]

@Suite("A matrix that stays in the file")
struct StoredMatrixTests {
  @Test(arguments: weightFormats)
  func `a product of few rows is the striped chain of each pair of rows, at every level`(
    format: StorageFormat
  ) throws {
    var random = TestRandom(11)
    for columns in Array(1...49) + [63, 64, 65, 100, 127, 128, 200] {
      let (rows, n) = (columns % 7 + 3, columns % 6 + 1)
      let w = try file(
        random.values(rows * columns), rows: rows, columns: columns, format,
        shift: columns % 8)
      let matrix = try w.matrix("w")
      let values: Tensor<Float> = try w.tensor("w")
      let x = Tensor<Float>(shape: [n, columns], elements: random.values(n * columns))
      var expected: [Float] = []
      for i in 0..<n {
        for j in 0..<rows { expected.append(stripedChain(x.row(i), values.row(j))) }
      }
      expectAtEveryLevel(expected, "\(n) rows of x, W (\(rows), \(columns)) in \(format)") {
        matrix.product(x).elements
      }
    }
  }

  // Rows of x around the six of a tile, rows of W around a vector, a panel (16 to 64) and a group
  // (128), columns around the 512 after which a chain goes on from memory.
  @Test(arguments: weightFormats)
  func `a product of many rows is one chain of each pair of rows, at every level`(
    format: StorageFormat
  ) throws {
    var random = TestRandom(17)
    let sizes = [
      (32, 1, 1), (33, 17, 15), (35, 64, 16), (36, 65, 33), (37, 130, 40), (38, 259, 7),
      (32, 20, 511), (32, 20, 513), (34, 3, 1030),
    ]
    for (n, rows, columns) in sizes {
      let w = try file(
        random.values(rows * columns), rows: rows, columns: columns, format, shift: n % 8)
      let matrix = try w.matrix("w")
      let values: Tensor<Float> = try w.tensor("w")
      let x = Tensor<Float>(shape: [n, columns], elements: random.values(n * columns))
      var expected: [Float] = []
      for i in 0..<n {
        for j in 0..<rows { expected.append(chain(columns, { x[i, $0] }, { values[j, $0] })) }
      }
      expectAtEveryLevel(expected, "\(n) rows of x, W (\(rows), \(columns)) in \(format)") {
        matrix.product(x).elements
      }
    }
  }

  @Test
  func `products side by side have the bits of each alone, also of large matrices`() throws {
    var random = TestRandom(18)
    let columns = 227
    for sizes in [[5, 1, 12], [600, 3, 150]] {
      let matrices = try zip(sizes, weightFormats).map { rows, format in
        try file(random.values(rows * columns), rows: rows, columns: columns, format).matrix("w")
      }
      for n in [1, 3, StoredMatrix.manyRows] {
        let x = Tensor<Float>(shape: [n, columns], elements: random.values(n * columns))
        let alone = matrices.map { $0.product(x) }
        let expected = (0..<n).flatMap { i in alone.flatMap { $0.row(i) } }
        let found = StoredMatrix.product(x, matrices)
        #expect(found.shape == [n, sizes.reduce(0, +)])
        #expect(sameBits(found.elements, expected), "\(n) rows, matrices of \(sizes) rows")
      }
    }
  }

  // A striped chain of c columns rounds each product's way to the sum at most c / 16 + 1 times in
  // its chain and 4 times in the tree; one more for c = 0. A chain alone rounds c times. With
  // u = 2^-24 and m roundings the error is at most m u / (1 - m u) times the sum of |x w|.
  @Test(arguments: weightFormats)
  func `both products are within their rounding bounds of the product in Double`(
    format: StorageFormat
  ) throws {
    var random = TestRandom(12)
    for (rows, columns) in [(1, 1), (5, 31), (70, 65), (130, 200), (67, 300)] {
      for shift in [0, 1, 2] {
        let w = try file(
          random.values(rows * columns), rows: rows, columns: columns, format, shift: shift)
        let matrix = try w.matrix("w")
        let exact: Tensor<Double> = try w.tensor("w")
        for n in [1, 3, 31, 32, 37] {
          let x = Tensor<Float>(shape: [n, columns], elements: random.values(n * columns))
          let found = matrix.product(x)
          #expect(found.shape == [n, rows])
          let roundings = Double(n < StoredMatrix.manyRows ? columns / 16 + 6 : columns + 1)
          let unit = roundings * 0x1p-24 / (1 - roundings * 0x1p-24)
          var worst = 0.0
          for i in 0..<n {
            for j in 0..<rows {
              var (sum, size) = (0.0, 0.0)
              for t in 0..<columns {
                sum += Double(x[i, t]) * exact[j, t]
                size += abs(Double(x[i, t]) * exact[j, t])
              }
              worst = max(worst, abs(Double(found[i, j]) - sum) / (unit * size))
            }
          }
          #expect(worst <= 1, "\(format), \(n) rows, W (\(rows), \(columns)), shift \(shift)")
        }
      }
    }
  }

  @Test(arguments: weightFormats)
  func `a row of few has the same bits whatever the other rows are`(
    format: StorageFormat
  ) throws {
    var random = TestRandom(13)
    let (rows, columns) = (11, 77)
    let matrix = try file(
      random.values(rows * columns), rows: rows, columns: columns, format
    ).matrix("w")
    let most = StoredMatrix.manyRows - 1
    let x = Tensor<Float>(shape: [most, columns], elements: random.values(most * columns))
    let alone = (0..<most).map { matrix.product(x.rows($0..<$0 + 1)).elements }
    for n in 1...most {
      for first in [0, most - n] {
        expectAtEveryLevel(Array(alone[first..<first + n].joined()), "rows \(first) + \(n)") {
          matrix.product(x.rows(first..<first + n)).elements
        }
      }
    }
  }

  /// 900 KiB and more: large enough to be cut into groups of rows, some of them on other threads.
  @Test(arguments: weightFormats)
  func `a large matrix has the bits of its slices, whichever threads they ran on`(
    format: StorageFormat
  ) throws {
    var random = TestRandom(14)
    let (rows, columns) = (format == .float32 ? 1021 : 2039, 227)
    let matrix = try file(
      random.values(rows * columns), rows: rows, columns: columns, format, shift: 3
    ).matrix("w")
    let x = Tensor<Float>(shape: [3, columns], elements: random.values(3 * columns))
    // Thirteen rows at a time: too small to be cut.
    var expected: [Float] = zeros(3 * rows)
    for first in stride(from: 0, to: rows, by: 13) {
      let slice = matrix.rows(first..<min(first + 13, rows))
      let part = slice.product(x)
      for i in 0..<3 {
        for j in 0..<slice.rows { expected[i * rows + first + j] = part[i, j] }
      }
    }
    // Level plain calls fmaf for each element; the fast levels are the ones that threads serve.
    for level in ChainLevel.available where level > .plain || ChainLevel.best == .plain {
      #expect(sameBits(level.run { matrix.product(x).elements }, expected), "level \(level)")
    }
  }

  @Test(arguments: weightFormats)
  func `rows and slices are the rows of the tensor`(format: StorageFormat) throws {
    var random = TestRandom(15)
    let (rows, columns) = (9, 37)
    for shift in 0..<4 {
      let w = try file(
        random.values(rows * columns), rows: rows, columns: columns, format, shift: shift)
      let tensor: Tensor<Float> = try w.tensor("w")
      let matrix = try w.matrix("w")
      #expect(matrix.bytes == rows * columns * format.byteWidth && matrix.format == format)
      for i in 0..<rows { #expect(bits(matrix.row(i)) == bits(tensor.row(i))) }
      let slice = matrix.rows(2..<8)
      let inner = slice.rows(1..<4)
      #expect(slice.rows == 6 && inner.rows == 3 && inner.columns == columns)
      #expect(inner.row(2) == tensor.row(5))
      for n in [1, StoredMatrix.manyRows] {
        let x = Tensor<Float>(shape: [n, columns], elements: random.values(n * columns))
        let whole = matrix.product(x)
        let part = inner.product(x)
        for i in 0..<n {
          for j in 0..<3 { #expect(part[i, j] == whole[i, 3 + j]) }
        }
      }
    }
  }

  @Test(arguments: [StorageFormat.float16, .bfloat16])
  func `every pattern of 16 bits becomes its value, at every level`(
    format: StorageFormat
  ) throws {
    let patterns = (0...UInt16.max).map { $0 }
    let header =
      "{\"w\":{\"dtype\":\"\(format.rawValue)\",\"shape\":[256,256],\"data_offsets\":[0,131072]}} "
    let data = patterns.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
    let matrix = try SafetensorsFile(
      bytes: littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + data, name: "test"
    ).matrix("w")
    let kind = format == .float16 ? SixteenBitFloat.float16 : .bfloat16
    let expected = bits(patterns.map { kind.value(of: $0) })
    for level in ChainLevel.available {
      let found = level.run { (0..<256).flatMap { matrix.row($0) } }
      #expect(bits(found) == expected, "level \(level)")
      // The products widen in registers: a one-hot x picks column 37, whose row neighbours are
      // finite only where the exponent field (of the high byte, one row for each) is not full.
      var x: [Float] = zeros(256)
      x[37] = 1
      let product = level.run { matrix.product(Tensor(shape: [1, 256], elements: x)) }
      for row in 0..<256 {
        let neighbours = (0..<256).map { kind.value(of: UInt16(row * 256 + $0)) }
        let value: Float = neighbours.allSatisfy(\.isFinite) ? neighbours[37] + 0 : .nan
        #expect(bits([product[0, row]]) == bits([value]), "level \(level), row \(row)")
      }
    }
  }

  @Test
  func `infinities and NaNs of the weights reach the result`() throws {
    for format in weightFormats {
      for place in [0, 15, 16, 40] {  // in a whole stripe and in the padded one
        var w = [Float](repeating: 1, count: 3 * 41)
        w[place] = .infinity
        w[41 + place] = .nan
        let matrix = try file(w, rows: 3, columns: 41, format).matrix("w")
        for n in [1, StoredMatrix.manyRows] {
          let product = matrix.product(Tensor(repeating: 1, shape: [n, 41]))
          #expect(product[n - 1, 0] == .infinity && product[n - 1, 1].isNaN)
          #expect(product[n - 1, 2] == 41)
        }
      }
    }
  }

  @Test
  func `empty axes give zeros or nothing`() throws {
    for n in [0, 1, StoredMatrix.manyRows] {
      let noColumns = try file([], rows: 3, columns: 0, .float32).matrix("w")
      #expect(noColumns.product(Tensor(shape: [n, 0], elements: [])).elements == zeros(3 * n))
      #expect(noColumns.row(2) == [])
      let noRows = try file([], rows: 0, columns: 5, .bfloat16).matrix("w")
      #expect(noRows.product(Tensor(repeating: 1, shape: [n, 5])).shape == [n, 0])
    }
  }

  @Test
  func `other formats and ranks are refused`() throws {
    var writer = SafetensorsWriter()
    try writer.add("wide", sixReals, as: .float64)
    try writer.add("list", Tensor<Float>(shape: [6], elements: zeros(6)), as: .float32)
    try writer.add("cube", Tensor<Float>(shape: [1, 2, 3], elements: zeros(6)), as: .float16)
    try writer.add("counts", integers: Tensor(shape: [1, 1], elements: [7]), as: .int32)
    try writer.add("long", Tensor<Float>(shape: [1 << 31, 0], elements: []), as: .float32)
    let file = try SafetensorsFile(bytes: writer.bytes(), name: "test")
    func fault(_ name: String) -> SafetensorsError.Problem? {
      problem { () throws(SafetensorsError) in _ = try file.matrix(name) }
    }
    #expect(fault("wide") == .notWeights(tensor: "wide", format: .float64))
    #expect(fault("counts") == .notWeights(tensor: "counts", format: .int32))
    #expect(fault("list") == .notAMatrix(tensor: "list", shape: [6]))
    #expect(fault("cube") == .notAMatrix(tensor: "cube", shape: [1, 2, 3]))
    #expect(fault("long") == .notAMatrix(tensor: "long", shape: [1 << 31, 0]))
    #expect(fault("none") == .noSuchTensor("none", present: file.names))
  }

  @Test
  func `a mapped file serves its matrices after the file value is gone`() throws {
    try withDirectory { directory in
      let path = directory + "/weights.safetensors"
      var random = TestRandom(16)
      let w = Tensor<Float>(shape: [40, 33], elements: random.values(40 * 33))
      var writer = SafetensorsWriter()
      try writer.add("w", w, as: .float32)
      try writer.write(to: path)
      let matrix = try SafetensorsFile(path: path).matrix("w")
      let x = Tensor<Float>(shape: [1, 33], elements: random.values(33))
      let expected = (0..<40).map { stripedChain(x.elements, w.row($0)) }
      #expect(sameBits(matrix.product(x).elements, expected))
      #expect(matrix.row(39) == w.row(39))
    }
  }

  @Test
  func `a product of the wrong width stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let matrix = try file([1, 2], rows: 1, columns: 2, .float32).matrix("w")
      _ = matrix.product(Tensor(repeating: 1, shape: [1, 3]))
    }
    await #expect(processExitsWith: .failure) {
      _ = try file([1, 2], rows: 1, columns: 2, .float32).matrix("w").row(1)
    }
  }
}
