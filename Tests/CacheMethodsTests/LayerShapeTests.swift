import Testing
import Transformers

@Test("a window hides older tokens, never the newest")
func visibleTokens() {
  let rotary = RotaryEmbedding(rotatedWidth: 4, base: 10_000)
  let shape = LayerShape(
    layer: 0, queryHeads: 2, keyValueHeads: 1, width: 4, window: 8, rotary: rotary)
  #expect(shape.visible(length: 3) == 0..<3)
  #expect(shape.visible(length: 9) == 1..<9)
}
