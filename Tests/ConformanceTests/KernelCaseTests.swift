// Cases and references: what they must be before anything is compared with them.

import Conformance
import Testing

/// Every case of every kernel.
let allCases = Kernel.allCases.flatMap { kernel in
  kernel.cases.map { (kernel: kernel, example: $0) }
}

/// The real numbers of a tensor; integers as such.
func numbers(_ tensor: NamedTensor) -> [Double] {
  switch tensor.values {
  case .reals(let numbers): numbers
  case .integers(let numbers): numbers.map(Double.init)
  }
}

@Suite struct KernelCaseTests {
  @Test func `names are unique, and every case says why it is there`() {
    #expect(Set(allCases.map(\.example.path)).count == allCases.count)
    for (kernel, example) in allCases {
      #expect(example.kernel == kernel)
      #expect(!example.purpose.isEmpty)
    }
  }

  @Test func `inputs are numbers that F32 holds exactly`() {
    for (_, example) in allCases {
      for tensor in example.inputs {
        if case .reals(let numbers) = tensor.values {
          #expect(numbers.allSatisfy { Double(Float($0)) == $0 }, "\(example.path) \(tensor.name)")
        }
      }
    }
  }

  // exp(−40), 22 times, is less than 2^-53: no rounding of a score, in F32, counts.
  @Test func `where attention is peaked the best score is 40 ahead`() throws {
    let example = try #require(
      allCases.first { $0.example.path == "sparse-attention/peaked" }?.example)
    func input(_ name: String) throws -> [Double] {
      numbers(try #require(example.inputs.first { $0.name == name }))
    }
    let (q, K, slots) = (try input("q"), try input("K"), try input("slots"))
    for h in 0..<6 {
      var scores: [Double] = []
      for slot in slots[h * 23..<(h + 1) * 23] {
        let row = (h / 3 * 41 + Int(slot)) * 8
        var sum = 0.0
        for i in 0..<8 { sum += q[h * 8 + i] * K[row + i] }
        scores.append(sum / 8.0.squareRoot())
      }
      scores.sort(by: >)
      #expect(scores[0] - scores[1] > 40 && scores[0] > 100, "head \(h)")
    }
  }

  @Test func `the reference has the outputs that the kernel declares`() {
    for (kernel, example) in allCases {
      let reference = kernel.reference(example)
      #expect(reference.map(\.name) == kernel.outputs.map(\.name), "\(example.path)")
      #expect(reference.map(\.axes) == kernel.outputs.map(\.axes), "\(example.path)")
    }
  }

  @Test func `references are finite`() {
    for (kernel, example) in allCases {
      for tensor in kernel.reference(example) {
        #expect(numbers(tensor).allSatisfy { $0.isFinite }, "\(example.path) \(tensor.name)")
      }
    }
  }

  // Every kernel has a case whose axes all differ, so that a transposed layout cannot fit.
  @Test func `axes of a tensor have different sizes in at least one case`() {
    for kernel in Kernel.allCases {
      let hasOne = kernel.cases.contains { example in
        example.inputs.allSatisfy { tensor in
          // Grams and tables of one size twice cannot differ.
          tensor.axes.contains("column") || Set(tensor.shape).count == tensor.shape.count
        }
      }
      #expect(hasOne, "\(kernel.name)")
    }
  }

  // Integers up to 4 with sums of a few dozen products stay below 2^24: no order rounds.
  @Test func `exact cases have one result in Float and in Double`() {
    for (kernel, example) in allCases where example.isExact {
      let pairs = zip(kernel.reference(example), kernel.plain(example, .float32))
      for (double, float) in pairs {
        #expect(
          numbers(double).map { Float($0) } == numbers(float).map { Float($0) }, "\(example.path)")
      }
    }
  }

  // The scores at each cut lie far apart, so that rounding does not decide which tokens are chosen.
  @Test func `sets of decode steps are well posed`() throws {
    let kernel = Kernel.decodeStep
    for example in kernel.cases {
      let (double, float) = (kernel.reference(example), kernel.plain(example, .float32))
      func tensor(_ tensors: [NamedTensor], _ name: String) throws -> [Double] {
        numbers(try #require(tensors.first { $0.name == name }))
      }
      #expect(try tensor(double, "selected") == tensor(float, "selected"), "\(example.path)")
      for (exact, plain) in zip(try tensor(double, "gap"), try tensor(float, "gap")) {
        #expect(abs(exact - plain) <= exact / 8, "\(example.path): a gap of \(exact)")
      }
      // So a verdict on a Float candidate never says that rounding may have made a choice.
      let index = try #require(double.firstIndex { $0.name == "gap" })
      let (R, allowed) = (double[index], kernel.allowedErrors(example, double, .float32)[index])
      for (n, gap) in numbers(R).enumerated() {
        #expect(gap > allowed[n / R.width], "\(example.path): a gap of \(gap)")
      }
    }
  }
}
