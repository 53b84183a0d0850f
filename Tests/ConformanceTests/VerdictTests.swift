// Which candidates pass, and which do not.
//
// Honest candidates that sum in another order pass everywhere; every planted fault is caught.

import Conformance
import Testing

private func reals(_ tensor: NamedTensor, _ change: (inout [Double]) -> Void) -> NamedTensor {
  guard case .reals(var numbers) = tensor.values else { return tensor }
  change(&numbers)
  return NamedTensor(tensor.name, Array(zip(tensor.axes, tensor.shape)), reals: numbers)
}

private func input(_ example: KernelCase, _ name: String) throws -> NamedTensor {
  try #require(example.inputs.first { $0.name == name })
}

@Suite struct VerdictTests {
  @Test func `the package's own code passes every case`() {
    let verdicts = check(CPUBackend()) { _ in true }
    #expect(verdicts.count > 60)
    for verdict in verdicts {
      #expect(
        verdict.status == .passed, "\(verdict.path) \(verdict.output): \(verdict.reason)")
    }
  }

  @Test(arguments: CandidatePrecision.allCases)
  func `a plain implementation passes in its own precision`(precision: CandidatePrecision) {
    for (kernel, example) in allCases {
      // Exact in F32; of the others, the cases that say so are in every format.
      if example.isExact && precision != .float32 && example.name != "every-row-counts" { continue }
      for verdict in kernel.verdicts(
        example, candidate: kernel.plain(example, precision), precision)
      where verdict.output != "selected" && verdict.output != "missed" {
        if verdict.status == .skipped {
          #expect(precision == .float16 && example.misfit(precision) == verdict.reason)
        } else {
          #expect(verdict.status != .failed, "\(verdict.path) \(verdict.output): \(verdict.reason)")
        }
      }
    }
  }

  // Inputs near 1e15 and 1e30 do not fit F16.
  @Test(arguments: ["proxy-scores/large", "rms-norm/large", "sparse-attention/large-values"])
  func `a case that overflows a format is skipped there and says why`(_ path: String) throws {
    let (kernel, example) = try #require(allCases.first { $0.example.path == path })
    let nothing = kernel.reference(example).map { reals($0) { $0 = $0.map { _ in .infinity } } }
    let verdict = kernel.verdicts(example, candidate: nothing, .float16)[0]
    #expect(verdict.status == .skipped)
    #expect(verdict.reason.contains("F16 ends at 65504"), "\(verdict.reason)")
    #expect(kernel.verdicts(example, candidate: nothing, .bfloat16)[0].status == .failed)
  }

  // Every honest way of making sums; seeds that the allowances were not made from.
  @Test(arguments: CandidatePrecision.allCases)
  func `other orders of all sums pass`(_ precision: CandidatePrecision) {
    for (kernel, example) in allCases where !example.isExact && kernel != .decodeStep {
      for seed in UInt64(100)..<103 {
        let candidate = kernel.reordered(example, precision, seed: seed)
        for verdict in kernel.verdicts(example, candidate: candidate, precision) {
          #expect(
            verdict.status == .passed || verdict.status == .skipped
              || verdict.status == .mistrusted,
            "\(verdict.path) \(verdict.output), order \(seed): \(verdict.worst)")
        }
      }
    }
  }

  // One of 512 or 2,048 rows is its neighbour's, or has not been written.
  @Test(
    arguments: [Kernel.sparseAttention, .denseAttention], CandidatePrecision.allCases)
  func `one wrong row of many is caught in every precision`(
    _ kernel: Kernel, _ precision: CandidatePrecision
  ) throws {
    let example = try #require(kernel.cases.first { $0.name == "every-row-counts" })
    for (tensor, source) in [("V", 1), ("V", nil), ("K", nil)] as [(String, Int?)] {
      for row in [3, 100, 400] {
        let stale = example.changing(tensor) { numbers in
          for j in 0..<4 {
            numbers[4 * row + j] = source.map { numbers[4 * (row + $0) + j] } ?? 0
          }
        }
        // Where the slots leave the row out nothing changes.
        let candidate = kernel.plain(stale, precision)
        if candidate == kernel.plain(example, precision), kernel == .sparseAttention { continue }
        let verdict = kernel.verdicts(example, candidate: candidate, precision)[0]
        #expect(verdict.status == .failed, "\(tensor) of row \(row): \(verdict.status)")
      }
    }
  }

  @Test(arguments: CandidatePrecision.allCases)
  func `one alternation less is caught in every precision`(
    _ precision: CandidatePrecision
  ) throws {
    let kernel = Kernel.decodeCodes
    let example = try #require(kernel.cases.first { $0.name == "slow" })
    let less = kernel.plain(
      example.setting("alternations", to: 1), precision)
    let verdicts = kernel.verdicts(example, candidate: less, precision)
    for output in ["q_hat", "k_hat"] {
      #expect(verdicts.first { $0.output == output }?.status == .failed, "\(output)")
    }
  }

  // Sums from the last element to the first, in Float: another order, the same right to round.
  @Test func `proxy scores in another order pass`() throws {
    let kernel = Kernel.proxyScores
    for example in kernel.cases {
      let (A_K, q_hat) = (try input(example, "A_K"), try input(example, "q_hat"))
      let r = A_K.width
      let scores = (0..<q_hat.shape[0]).flatMap { h in
        (0..<A_K.shape[0]).map { t in
          var sum: Float = 0
          for j in (0..<r).reversed() {
            sum += Float(numbers(q_hat)[h * r + j]) * Float(numbers(A_K)[t * r + j])
          }
          return Double(sum)
        }
      }
      let candidate = NamedTensor(
        "scores", [("head", q_hat.shape[0]), ("candidate", A_K.shape[0])], reals: scores)
      for verdict in kernel.verdicts(example, candidate: [candidate]) {
        #expect(verdict.status == .passed, "\(verdict.path): \(verdict.reason)")
      }
    }
  }

  // One number moved away by a thousandth of its row, in every real output of every case.
  @Test func `a wrong element is caught wherever it stands`() {
    for (kernel, example) in allCases {
      let wrong = kernel.reference(example).compactMap { tensor -> NamedTensor? in
        guard case .reals(let right) = tensor.values, tensor.name != "gap", tensor.count > 0 else {
          return nil
        }
        let place = tensor.count / 2
        let row = place / tensor.width * tensor.width
        let size = right[row..<row + tensor.width].reduce(0) { max($0, abs($1)) }
        if size < 1e-37 { return nil }  // a denormal row has no thousandths
        return reals(tensor) { $0[place] = Double(Float($0[place] + size / 1000)) }
      }
      let verdicts = kernel.verdicts(example, candidate: wrong)
      for tensor in wrong {
        let found = verdicts.first { $0.output == tensor.name }
        #expect(found?.status == .failed, "\(example.path) \(tensor.name)")
        #expect(found?.differences.count == 1, "\(example.path) \(tensor.name)")
      }
    }
  }

  @Test func `two tokens in each other's place are caught`() throws {
    let kernel = Kernel.proxyScores
    let example = kernel.cases[0]
    let swapped = reals(kernel.reference(example)[0]) { $0.swapAt(3, 4) }
    let verdict = kernel.verdicts(example, candidate: [swapped])[0]
    #expect(verdict.status == .failed)
    #expect(verdict.differences.map(\.place) == [[0, 3], [0, 4]])
  }

  @Test func `a set with one wrong token is caught, and its gap is named`() throws {
    let kernel = Kernel.decodeStep
    let example = kernel.cases[0]
    let right = kernel.reference(example)
    guard case .integers(var tokens) = right[0].values else { return }
    tokens[2] += 1
    let wrong = NamedTensor(
      "selected", Array(zip(right[0].axes, right[0].shape)), integers: tokens)
    let verdict = kernel.verdicts(example, candidate: [wrong])[0]
    #expect(verdict.status == .failed)
    #expect(verdict.reason.contains("at the first wrong cut are"))
    #expect(verdict.reason.hasSuffix("this is no rounding"), "\(verdict.reason)")
  }

  // The cut whose scores are closest lies within BF16's rounding, and far outside of Float's.
  @Test func `a wrong set that rounding can explain is said to be one`() throws {
    let kernel = Kernel.decodeStep
    let example = kernel.cases[0]
    let right = kernel.reference(example)
    let gaps = numbers(try #require(right.first { $0.name == "gap" }))
    let closest = try #require(gaps.indices.min { gaps[$0] < gaps[$1] })
    guard case .integers(var tokens) = right[0].values else { return }
    tokens[closest * right[0].width] += 1
    let wrong = NamedTensor(
      "selected", Array(zip(right[0].axes, right[0].shape)), integers: tokens)
    for (precision, end) in [
      (CandidatePrecision.bfloat16, "rounding may have made this choice"),
      (.float32, "this is no rounding"),
    ] {
      let verdict = kernel.verdicts(example, candidate: [wrong], precision)[0]
      #expect(verdict.status == .failed)
      #expect(verdict.reason.hasSuffix(end), "\(verdict.reason)")
    }
  }

  @Test(arguments: CandidatePrecision.allCases)
  func `NaN and infinity fail, and are named`(_ precision: CandidatePrecision) throws {
    let kernel = Kernel.denseAttention
    let example = kernel.cases[0]
    let right = kernel.plain(example, precision)[0]
    for number in [Double.nan, .infinity] {
      let wrong = reals(right) { $0[5] = number }
      let verdict = kernel.verdicts(example, candidate: [wrong], precision)[0]
      #expect(verdict.status == .failed)
      #expect(verdict.reason.contains("NaN or infinite"))
      #expect(verdict.differences[0].place == [0, 5])
    }
  }

  // The buffer's fill value says that the kernel did not write there: nothing is known of it.
  @Test(arguments: [CandidatePrecision.float32, .bfloat16], [1, 48])
  func `the fill value is not trusted`(_ precision: CandidatePrecision, _ count: Int) throws {
    let kernel = Kernel.denseAttention
    let example = kernel.cases[0]
    let right = kernel.plain(example, precision)[0]
    let wrong = reals(right) { numbers in for i in 0..<count { numbers[i] = unwritten } }
    let verdict = kernel.verdicts(example, candidate: [wrong], precision)[0]
    #expect(verdict.status == .mistrusted)
    #expect(verdict.reason == "\(count) of 48 numbers were never written")
    #expect(verdict.differences.count == min(count, 8))
  }

  // Keys that depend on each other make a system that BF16 hardly solves: many of the numbers are
  // within the tolerance of 0. Float tells them apart.
  @Test func `zeros that the tolerance lets pass are not trusted`() throws {
    let kernel = Kernel.sweepGram
    let example = try #require(kernel.cases.first { $0.name == "dependent-keys" })
    let references = kernel.reference(example)
    let index = try #require(references.firstIndex { $0.name == "B_K" })
    let allowed = kernel.allowedErrors(example, references, .bfloat16)[index][0]
    let zeros = reals(references[index]) { numbers in
      for i in numbers.indices where abs(numbers[i]) <= allowed { numbers[i] = 0 }
    }
    let count = numbers(zeros).count { $0 == 0 }
    try #require(count > 6)
    func verdict(_ precision: CandidatePrecision) throws -> Verdict {
      try #require(
        kernel.verdicts(example, candidate: [zeros], precision).first { $0.output == "B_K" })
    }
    let found = try verdict(.bfloat16)
    #expect(found.status == .mistrusted)
    #expect(found.reason == "\(count) of 60 numbers are 0 where the reference is not")
    #expect(found.differences.count == min(count, 8) && found.worst <= 1)
    #expect(try verdict(.float32).status == .failed)
  }

  @Test func `zeros fail where they can be told from the reference`() throws {
    let kernel = Kernel.rmsNorm
    let example = try #require(kernel.cases.first { $0.name == "random" })
    let zeros = reals(kernel.reference(example)[0]) { $0 = $0.map { _ in 0 } }
    #expect(kernel.verdicts(example, candidate: [zeros])[0].status == .failed)
  }

  // 37 scores of one query are denormal: right, flushed, wrong, and flushed beside a fault.
  @Test func `a denormal row is judged by its own size, and flushing it is said`() throws {
    let kernel = Kernel.proxyScores
    let example = try #require(kernel.cases.first { $0.name == "denormal-row" })
    let right = kernel.reference(example)[0]
    func verdict(_ change: (inout [Double]) -> Void) -> Verdict {
      kernel.verdicts(example, candidate: [reals(right, change)])[0]
    }
    let row = 2 * 37..<3 * 37
    #expect(numbers(right)[row].allSatisfy { abs($0) < 0x1p-126 && $0 != 0 })
    #expect(verdict { $0 = $0.map { Double(Float($0)) } }.status == .passed)
    let flushed = verdict { for i in row { $0[i] = 0 } }
    #expect(flushed.status == .skipped)
    #expect(flushed.reason.contains("flushes denormal numbers"), "\(flushed.reason)")
    #expect(verdict { for i in row { $0[i] = 1e-7 } }.status == .failed)
    #expect(verdict { for i in row { $0[i] = 1.5 * $0[i] } }.status == .failed)
    let both = verdict {
      for i in row { $0[i] = 0 }
      $0[5] = 0
    }
    #expect(both.status == .failed)
  }

  @Test func `where every bit is known the last one counts`() throws {
    let kernel = Kernel.proxyScores
    let example = try #require(kernel.cases.first { $0.isExact })
    let right = kernel.reference(example)[0]
    #expect(kernel.verdicts(example, candidate: [right])[0].status == .passed)
    let place = try #require(numbers(right).firstIndex { $0 != 0 })
    let wrong = reals(right) { $0[place] = Double(Float($0[place]).nextUp) }
    #expect(kernel.verdicts(example, candidate: [wrong])[0].status == .failed)
  }

  @Test func `a missing output is skipped, a wrong shape fails`() throws {
    let kernel = Kernel.rmsNorm
    let example = kernel.cases[0]
    #expect(kernel.verdicts(example, candidate: [])[0].status == .skipped)
    let flat = NamedTensor("y", [("token", 240)], reals: Array(repeating: 1, count: 240))
    let verdict = kernel.verdicts(example, candidate: [flat])[0]
    #expect(verdict.status == .failed)
    #expect(verdict.reason.contains("shape [240], not [5, 48]"))
  }
}
