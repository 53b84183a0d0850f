// The scores that `key-bits` chooses by are those of the conformance suite's kernel, bit for bit.

import CacheMethods
import Conformance
import Tensors
import Testing
import TieredMemory

@Suite struct CodeScoresCaseTests {
  @Test func `coded keys have the scores of every case`() throws {
    for example in Kernel.codeScores.cases {
      let x = Inputs<Float>(example)
      let (q_hat, codes) = (x.tensor("q_hat"), x.integers("codes"))
      let rows = KeyCode.Rows(
        bytes: codes.elements.map { UInt8($0) },
        scales: x.integers("scales").elements.map { UInt16($0) })
      var device = DeviceTier()
      let keys = try CodedKeys(
        rows, KeyCode(bits: x.count("bits"), width: q_hat.columns), label: "codes", on: &device)
      var out = Outputs(of: .codeScores)
      out.write("scores", Tensor(rows: keys.scores(q_hat, of: 0..<keys.count)))
      #expect(try out.tensors == CPUBackend().outputs(of: example), "\(example.path)")
    }
  }
}
