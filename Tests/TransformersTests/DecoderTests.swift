// The decoder against the library transformers, on tiny random checkpoints of every family and
// option (make_checkpoints.py); and against itself.

import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct DecoderTests {
  // Both sides compute in float32 and differ in the order of sums alone: a few roundings of 6e-8
  // for each of some 20 operations in a row, grown by the layers. 2e-4 of the largest logit leaves
  // a factor of 50 over what is seen; a wrong angle, mask or bias shows from 1e-2 upwards.
  @Test("logits of every position are those of the library", arguments: TinyCheckpoint.names)
  func logits(_ name: String) throws {
    let model = try TinyCheckpoint(name)
    let found = try model.decoder.prefill(model.tokens, logits: .all)
    let (error, scale) = difference(found, model.logits)
    #expect(error <= 2e-4 * scale, "\(name): \(error) of \(scale)")
  }

  // The fixtures were chosen so that no two best logits of a step are within 1 % of each other.
  @Test("greedy generation goes on as the library's does", arguments: TinyCheckpoint.names)
  func greedy(_ name: String) throws {
    let model = try TinyCheckpoint(name)
    var state = model.exactState()
    var logits = try model.decoder.prefill(model.tokens, state: state, logits: .last)
    var all = model.tokens
    for _ in model.generated {
      all.append(best(logits.row(0)))
      if model.decoder.configuration.needsNewPrompt(at: all.count) {
        state = model.exactState()
        logits = try model.decoder.prefill(all, state: state, logits: .last)
      } else {
        logits = try model.decoder.decode([all[all.count - 1]], states: [state])
      }
    }
    #expect(Array(all.dropFirst(model.tokens.count)) == model.generated, "\(name)")
  }
}
