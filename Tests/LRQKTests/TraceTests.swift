// The names that a trace holds, and that they mean what they say.

import LRQK
import Tensors
import Testing

private let data = Synthetic<Double>(
  tokens: 32, width: 8, queryHeads: 2, keyValueHeads: 1, decay: 0.8, seed: 101)

private func traced(_ preset: Preset) throws -> (trace: Trace, run: Run<Double>) {
  let trace = Trace()
  let parameters = try Parameters(preset, rank: 3, selected: 6, recent: 4)
  return (trace, try Run(data, parameters, prompt: 30, trace: trace))
}

@Suite struct TraceTests {
  @Test
  func `a released prompt and step have these names`() throws {
    let (trace, run) = try traced(.paper)
    let names = Set(trace.names)
    for head in 0..<2 {
      for name in ["sweep1/B_Q", "sweep1/W_K", "sweep2/B_K", "sweep2/W_Q", "selected"] {
        #expect(names.contains("prefill/head\(head)/\(name)"), "\(name)")
      }
      #expect(!names.contains("prefill/head\(head)/sweep3/B_Q"))
      for step in 1...2 {
        for name in [
          "omega", "q K_Omega^T", "A_Omega^T A_Omega", "k_hat_0", "q_hat", "k_hat", "B_Q", "B_K",
          "scores", "selected",
        ] {
          #expect(names.contains("step\(step)/head\(head)/\(name)"), "\(name)")
        }
      }
      #expect(trace["step1/head\(head)/q_hat"] == run.steps[0].queryCodes[head])
      #expect(trace["step1/head\(head)/k_hat"] == run.steps[0].keyCodes[head])
      #expect(trace["step2/head\(head)/B_K"] == run.cache.matrices[head].keys)
      #expect(
        trace["step2/head\(head)/selected"]?.elements
          == run.steps[1].selected[head].map(Double.init))
      // Released: candidates end one token before the ring; 31 tokens, 4 recent, 1 left out.
      #expect(trace["step1/head\(head)/scores"]?.count == 26)
    }
    #expect(!names.contains { $0.hasPrefix("step3") || $0.contains("head2") })
    #expect(trace.names == trace.names.sorted())
    #expect(trace["no such name"] == nil)
  }

  @Test
  func `a recommended run sweeps nothing and needs no Omega`() throws {
    let (trace, run) = try traced(.recommended)
    #expect(!trace.names.contains { $0.contains("sweep") || $0.contains("omega") })
    // One group of two query heads: codes by group, scores by query head.
    #expect(trace["step1/head0/q_hat"] == run.steps[0].queryCodes[0])
    #expect(trace["step1/head1/q_hat"] == nil)
    for head in 0..<2 {
      #expect(trace["step1/head\(head)/scores"]?.count == 27)
      #expect(
        trace["prefill/head\(head)/selected"]?.elements
          == run.firstSelected[head].map(Double.init))
    }
  }

  @Test
  func `the rows of the cache lie where it says`() throws {
    for preset in Preset.allCases {
      let (_, run) = try traced(preset)
      for head in 0..<2 {
        let slots = run.cache.slots(ofQueryHead: head)
        #expect(Set(slots.keys) == Set(run.cache.selected[head] + Array(28..<32)))
        #expect(Set(slots.values).count == slots.count)
        #expect(run.cache.recentTokens == 28..<32)
        #expect((28..<32).allSatisfy { (0..<4).contains(slots[$0] ?? -1) })
      }
    }
  }
}
