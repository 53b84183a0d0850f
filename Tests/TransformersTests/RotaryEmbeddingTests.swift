import Tensors
import Testing
import Transformers

@Test("position 0 turns nothing")
func positionZero() {
  let rotary = RotaryEmbedding(rotatedWidth: 4, base: 10_000)
  let rows = Tensor<Float>(rows: [[1, 2, 3, 4]])
  #expect(rotary.turns(positions: [0], length: 1).turn(rows) == rows)
}
