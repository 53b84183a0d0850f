// Choosing the next token: what each filter leaves, and how often each survivor is drawn.

import Foundation
import Testing
import Transformers

@Suite struct SamplerTests {
  /// Probabilities 0.5, 0.3, 0.15, 0.05 for tokens 2, 0, 3, 1.
  let probabilities: [Double] = [0.3, 0.05, 0.5, 0.15]
  var logits: [Float] { probabilities.map { Float(log($0)) } }

  private func sampling(_ change: (inout Sampling) -> Void) -> Sampling {
    var sampling = Sampling()
    sampling.temperature = 1
    change(&sampling)
    return sampling
  }

  /// How often each token comes, of `count` draws.
  private func counts(_ sampling: Sampling, _ count: Int = 4000) throws -> [Int] {
    var sampler = Sampler(sampling)
    var counts = [Int](repeating: 0, count: probabilities.count)
    for _ in 0..<count { counts[try sampler.next(logits, after: [])] += 1 }
    return counts
  }

  @Test func `greedy takes the largest logit, of equal ones the lowest token`() throws {
    var sampler = Sampler(Sampling())
    #expect(try sampler.next(logits, after: []) == 2)
    #expect(try sampler.next([1, 5, 5, 2], after: []) == 1)
  }

  @Test func `draws follow the probabilities`() throws {
    let n = 4000
    let found = try counts(sampling { _ in }, n)
    for (count, p) in zip(found, probabilities) {
      // Five standard deviations of a binomial count; the seed is fixed, so this never flickers.
      let deviation = (Double(n) * p * (1 - p)).squareRoot()
      #expect(abs(Double(count) - Double(n) * p) < 5 * deviation, "\(count) of \(n) at \(p)")
    }
  }

  @Test func `a low temperature leaves the best token, a high one all alike`() throws {
    #expect(try counts(sampling { $0.temperature = 0.01 }, 200) == [0, 0, 200, 0])
    for count in try counts(sampling { $0.temperature = 1000 }) { #expect(abs(count - 1000) < 150) }
  }

  @Test func `top-k, top-p and min-p keep the tokens that they say`() throws {
    func survivors(_ change: (inout Sampling) -> Void) throws -> [Int] {
      let found = try counts(sampling(change))
      return found.indices.filter { found[$0] > 0 }
    }
    #expect(try survivors { $0.topK = 2 } == [0, 2])
    #expect(try survivors { $0.topK = 99 } == [0, 1, 2, 3])
    #expect(try survivors { $0.topP = 0.45 } == [2])
    #expect(try survivors { $0.topP = 0.75 } == [0, 2])
    #expect(try survivors { $0.topP = 0.85 } == [0, 2, 3])
    #expect(try survivors { $0.topP = 1 } == [0, 1, 2, 3])
    #expect(try survivors { $0.minP = 0.25 } == [0, 2, 3])
    #expect(try survivors { $0.minP = 1 } == [2])
    // top-p looks at what top-k left: 0.5 of 0.8 is above 0.6 of it.
    #expect(
      try survivors {
        $0.topK = 2
        $0.topP = 0.6
      } == [2])
  }

  @Test func `the repetition penalty pushes seen tokens down, whatever their sign`() throws {
    var penalized = Sampling()
    penalized.repetitionPenalty = 2
    var sampler = Sampler(penalized)
    #expect(try sampler.next([3, 2, 1], after: []) == 0)
    #expect(try sampler.next([3, 2, 1], after: [0, 0]) == 1)
    #expect(try sampler.next([-1, -1.5, -3], after: [0]) == 1)
  }

  @Test func `the draws depend on seed, sequence and step alone`() throws {
    func draws(seed: UInt64, sequence: Int) throws -> [Int] {
      var sampler = Sampler(sampling { $0.seed = seed }, sequence: sequence)
      return try (0..<50).map { _ in try sampler.next(logits, after: []) }
    }
    #expect(try draws(seed: 1, sequence: 0) == draws(seed: 1, sequence: 0))
    #expect(try draws(seed: 1, sequence: 0) != draws(seed: 2, sequence: 0))
    #expect(try draws(seed: 1, sequence: 0) != draws(seed: 1, sequence: 1))
  }

  @Test func `choices without sense and logits without a largest are errors`() {
    for change: (inout Sampling) -> Void in [
      { $0.temperature = 0 }, { $0.temperature = .nan }, { $0.topK = 0 }, { $0.topP = 0 },
      { $0.topP = 1.5 }, { $0.minP = -1 }, { $0.repetitionPenalty = 0 },
      {
        $0.temperature = nil
        $0.topK = 5
      },
    ] {
      #expect(throws: SamplingError.self) { try sampling(change).check() }
    }
    var sampler = Sampler(Sampling())
    for logits: [Float] in [[1, .nan], [-.infinity, -.infinity], [1, .infinity], []] {
      #expect(throws: SamplingError.self) { try sampler.next(logits, after: []) }
    }
  }
}
