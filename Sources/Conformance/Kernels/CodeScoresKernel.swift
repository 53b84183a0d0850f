// Kernel: scores by codes of few bits, what the method `key-bits` chooses rows by.
//
// In:  q_hat (H, r) codes of the queries that share a key/value head; codes (l, ⌈r b / 8⌉), bytes;
//      scales (l), the 16 bits of a BF16; b = bits = 8, 4, 3, 2 or 1.
// Out: scores (H, l):   s[h, t] = (Σ_j q_hat[h, j] c[t, j]) scales[t]
//
// Code j of a token is bits j b ... j b + b − 1 of its bytes, the lowest bit of the first byte
// first; a code may lie in two bytes. It stands for the integer c = gap · code − n:
//
//     b = 8, 4, 3   gap 1, n = 2^(b - 1) - 1: as many integers below zero as above it
//     b = 2         gap 2, n = 3: -3, -1, 1, 3
//     b = 1         gap 2, n = 1: -1, 1
//
// One chain of fused multiply-adds over j from 0 on, then the scale: a kernel in this order has the
// bits of the package, and may be compared with ==. The tolerance is for other orders, and for
// scales that are multiplied first. Source: ours (Docs/Methods/key-bits.md).

/// s = (q_hat cᵀ) ⊙ scales.
struct CodeScoresKernel: KernelDefinition {
  let kernel = Kernel.codeScores
  let summary = "scores (H, l) = q_hat (H, r) cᵀ scales (l), integers c (l, r) packed in bits"
  let outputs: [KernelOutput] = [.reals("scores", "head", "token")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (q_hat, codes, b) = (x["q_hat"], x.integers("codes"), x.count("bits"))
    let scales = x.integers("scales").elements.map { bits in
      N(rounding: Double(Float(bitPattern: UInt32(bits) << 16)))
    }
    let (H, r, l) = (q_hat.shape[0], q_hat.shape[1], codes.shape[0])
    var scores = Grid([H, l], filledWith: N.zero)
    for t in 0..<l {
      let c = (0..<r).map { N(rounding: Double(codedInteger(codes, t, $0, bits: b))) }
      for h in 0..<H {
        var sum = N.zero
        for j in 0..<r { sum += q_hat[h, j] * c[j] }
        scores[h, t] = (sum * scales[t]).stored
      }
    }
    out.write("scores", scores)
  }

  var cases: [KernelCase] {
    let widths = [8, 4, 3, 2, 1]
    let normals = widths.map { b in
      make("bits-\(b)", "normals times integers of \(words(b))", seed: UInt64(b), bits: b)
    }
    let integers = widths.map { b in
      make(
        "integers-\(b)", "small integers times those of \(words(b)): every order is exact",
        seed: UInt64(10 + b), bits: b, isExact: true)
    }
    return normals + integers
      + [
        make("whole-bytes", "3 bits, and rows that fill their last byte", seed: 21, bits: 3, r: 16),
        // Exact: a tolerance from one score of each query would refuse honest orders.
        make(
          "one-token", "a single token, small integers: every order is exact", seed: 22, bits: 4,
          l: 1, isExact: true),
        make("zero-scales", "every third scale is 0, and so are its scores", seed: 23, bits: 2) {
          $0 % 3 == 0 ? 0 : $1
        },
      ]
  }

  /// "1 bit", "2 bits".
  private func words(_ b: Int) -> String { b == 1 ? "1 bit" : "\(b) bits" }

  /// Queries, random integers of `b` bits, and positive scales, each changed by `scale`.
  private func make(
    _ name: String, _ purpose: String, seed: UInt64, bits b: Int, l: Int = 37, r: Int = 21,
    isExact: Bool = false, scale: (Int, Double) -> Double = { $1 }
  ) -> KernelCase {
    var data = CaseData(seed: seed)
    let axes = [("head", 5), ("rank", r)]
    let q_hat = isExact ? data.smallIntegers("q_hat", axes) : data.normals("q_hat", axes)
    // The code that would stand for n + 1 is left out where the integers are symmetric.
    let codes = data.integers(l * r, below: b > 2 ? 1 << b - 1 : 1 << b)
    let bytes = (r * b + 7) / 8
    let rows = (0..<l).flatMap { t in
      packedCodes(Array(codes[t * r..<(t + 1) * r]), bits: b, bytes: bytes)
    }
    // From 1/64 on in steps of 1/64: a BF16 has eight bits for 1 ... 128.
    let scales = data.integers(l, below: 128).enumerated().map { t, size in
      Int(Float(scale(t, Double(size + 1) / 64)).bitPattern >> 16)
    }
    return KernelCase(
      kernel, name, purpose, seed: seed, isExact: isExact, parameters: ["bits": Double(b)],
      [
        q_hat, NamedTensor("codes", [("token", l), ("byte", bytes)], integers: rows),
        NamedTensor("scales", [("token", l)], integers: scales),
      ])
  }
}

/// The integer that code j of row t stands for, read bit by bit.
func codedInteger(_ codes: Grid<Int>, _ t: Int, _ j: Int, bits b: Int) -> Int {
  var code = 0
  for i in 0..<b {
    let place = j * b + i
    code += (codes[t, place / 8] >> (place % 8) & 1) << i
  }
  return b > 2 ? code - (1 << (b - 1) - 1) : 2 * code - (1 << b - 1)
}

/// The bytes of a row of codes, written bit by bit.
private func packedCodes(_ codes: [Int], bits b: Int, bytes: Int) -> [Int] {
  var row = Array(repeating: 0, count: bytes)
  for (j, code) in codes.enumerated() {
    for i in 0..<b {
      let place = j * b + i
      row[place / 8] += (code >> i & 1) << (place % 8)
    }
  }
  return row
}
