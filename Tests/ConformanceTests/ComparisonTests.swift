// Who passes, and who does not.
//
// Honest candidates that sum in another order pass everywhere; every planted fault is caught.

import Conformance
import Testing

private func kernel(_ name: String) throws -> any Kernel {
  try #require(kernels.first { $0.name == name })
}

private func reals(_ tensor: NamedTensor, _ change: (inout [Double]) -> Void) -> NamedTensor {
  guard case .reals(var numbers) = tensor.values else { return tensor }
  change(&numbers)
  return NamedTensor(tensor.name, Array(zip(tensor.axes, tensor.shape)), reals: numbers)
}

private func input(_ example: KernelCase, _ name: String) throws -> NamedTensor {
  try #require(example.inputs.first { $0.name == name })
}

@Suite struct ComparisonTests {
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
    for (kernel, example) in allCases where precision == .float32 || !example.isExact {
      // 16-bit inputs near 1e15 and 1e30 do not fit F16, and neither do sums of many squares.
      let plain = kernel.plain(example, precision)
      guard plain.allSatisfy({ numbers($0).allSatisfy(\.isFinite) }) else {
        #expect(precision == .float16)
        continue
      }
      for verdict in kernel.verdicts(example, candidate: plain, precision)
      where verdict.output != "selected" && verdict.output != "missed" {
        #expect(verdict.status != .failed, "\(verdict.path) \(verdict.output): \(verdict.reason)")
      }
    }
  }

  // Sums from the last element to the first, in Float: another order, the same right to round.
  @Test func `proxy scores in another order pass`() throws {
    let kernel = try kernel("proxy-scores")
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

  // One number moved away by a ten-thousandth of its row, in every real output of every case.
  @Test func `a wrong element is caught wherever it stands`() {
    for (kernel, example) in allCases {
      for tensor in kernel.reference(example) where tensor.name != "gap" && tensor.count > 0 {
        guard case .reals(let right) = tensor.values else { continue }
        let place = tensor.count / 2
        let row = place / tensor.width * tensor.width
        let size = right[row..<row + tensor.width].reduce(0) { max($0, abs($1)) }
        if size < 1e-37 { continue }  // a denormal row has no ten-thousandths
        let wrong = reals(tensor) { $0[place] = Double(Float($0[place] + size / 1000)) }
        let verdicts = kernel.verdicts(example, candidate: [wrong]).filter {
          $0.output == tensor.name
        }
        #expect(verdicts.first?.status == .failed, "\(example.path) \(tensor.name)")
        #expect(verdicts.first?.differences.count == 1, "\(example.path) \(tensor.name)")
      }
    }
  }

  @Test func `two tokens in each other's place are caught`() throws {
    let kernel = try kernel("proxy-scores")
    let example = kernel.cases[0]
    let swapped = reals(kernel.reference(example)[0]) { $0.swapAt(3, 4) }
    let verdict = kernel.verdicts(example, candidate: [swapped])[0]
    #expect(verdict.status == .failed)
    #expect(verdict.differences.map(\.place) == [[0, 3], [0, 4]])
  }

  @Test func `a set with one wrong token is caught, and its gap is named`() throws {
    let kernel = try kernel("decode-step")
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
    let kernel = try kernel("decode-step")
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
    let kernel = try kernel("dense-attention")
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

  // The buffer's fill value says that nobody wrote there: nothing is known of the kernel.
  @Test(arguments: [CandidatePrecision.float32, .bfloat16], [1, 48])
  func `the fill value is not trusted`(_ precision: CandidatePrecision, _ count: Int) throws {
    let kernel = try kernel("dense-attention")
    let example = kernel.cases[0]
    let right = kernel.plain(example, precision)[0]
    let wrong = reals(right) { numbers in for i in 0..<count { numbers[i] = unwritten } }
    let verdict = kernel.verdicts(example, candidate: [wrong], precision)[0]
    #expect(verdict.status == .mistrusted)
    #expect(verdict.reason == "\(count) of 48 numbers were never written")
    #expect(verdict.differences.count == min(count, 8))
  }

  // Keys that depend on each other make a system that BF16 hardly solves: the plain implementation is off
  // by as much as the numbers are large, and zeros are within the tolerance. Float tells them apart.
  @Test func `zeros that the tolerance lets pass are not trusted`() throws {
    let kernel = try kernel("sweep-gram")
    let example = try #require(kernel.cases.first { $0.name == "dependent-keys" })
    let right = try #require(kernel.reference(example).first { $0.name == "B_K" })
    let zeros = reals(right) { numbers in for i in numbers.indices { numbers[i] = 0 } }
    func verdict(_ precision: CandidatePrecision) throws -> Verdict {
      try #require(
        kernel.verdicts(example, candidate: [zeros], precision).first { $0.output == "B_K" })
    }
    let found = try verdict(.bfloat16)
    #expect(found.status == .mistrusted)
    #expect(found.reason == "60 of 60 numbers are 0 where the reference is not")
    #expect(found.differences.count == 8 && found.worst <= 1)
    #expect(try verdict(.float32).status == .failed)
  }

  // All zeros fail; six denormal scores of 222 as zeros are within the tolerance.
  @Test func `zeros fail where they can be told from the reference, and a few may pass`() throws {
    let kernel = try kernel("rms-norm")
    let example = try #require(kernel.cases.first { $0.name == "random" })
    let right = kernel.reference(example)[0]
    let half = reals(right) { numbers in for i in numbers.indices { numbers[i] = 0 } }
    #expect(kernel.verdicts(example, candidate: [half])[0].status == .failed)
    let denormal = try #require(
      try self.kernelCase("proxy-scores", "denormal-row"))
    let scores = reals(denormal.kernel.reference(denormal.example)[0]) { numbers in
      // Only the denormal candidate's scores: 6 of 222 numbers, too few to be mistrusted.
      for h in 0..<6 { numbers[h * 37 + 11] = 0 }
    }
    let verdict = denormal.kernel.verdicts(denormal.example, candidate: [scores])[0]
    #expect(verdict.status == .passed)
  }

  private func kernelCase(
    _ kernelName: String, _ name: String
  ) throws -> (kernel: any Kernel, example: KernelCase)? {
    let kernel = try kernel(kernelName)
    return kernel.cases.first { $0.name == name }.map { (kernel, $0) }
  }

  @Test func `where every bit is known the last one counts`() throws {
    let kernel = try kernel("proxy-scores")
    let example = try #require(kernel.cases.first { $0.isExact })
    let right = kernel.reference(example)[0]
    #expect(kernel.verdicts(example, candidate: [right])[0].status == .passed)
    let place = try #require(numbers(right).firstIndex { $0 != 0 })
    let wrong = reals(right) { $0[place] = Double(Float($0[place]).nextUp) }
    #expect(kernel.verdicts(example, candidate: [wrong])[0].status == .failed)
  }

  @Test func `a missing output is skipped, a wrong shape fails`() throws {
    let kernel = try kernel("rms-norm")
    let example = kernel.cases[0]
    #expect(kernel.verdicts(example, candidate: [])[0].status == .skipped)
    let flat = NamedTensor("y", [("token", 240)], reals: Array(repeating: 1, count: 240))
    let verdict = kernel.verdicts(example, candidate: [flat])[0]
    #expect(verdict.status == .failed)
    #expect(verdict.reason.contains("shape [240], not [5, 48]"))
  }
}
