import LRQK
import Tensors
import Testing

struct CodeRoundingTests {
  @Test func `rounded codes have eight leading bits`() throws {
    let data = Synthetic<Float>(tokens: 40, width: 8)
    var parameters = try Parameters(.paper, rank: 3, selected: 8, recent: 4)
    let exact = try Run(data, parameters, prompt: 30).cache.keyCodes
    parameters.codeRounding = .bfloat16
    let rounded = try Run(data, parameters, prompt: 30).cache.keyCodes
    for (a, b) in zip(exact, rounded) {
      #expect(b.elements.allSatisfy { $0.bitPattern & 0xFFFF == 0 } && a != b)
    }
  }
}
