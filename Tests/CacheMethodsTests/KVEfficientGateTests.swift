// KV-Efficient VLA with a gate of a file: what an LSTM decides, and what has no meaning.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// An LSTM gate in a file, for the layers of `Layer`.
func withChunkGate<Result>(
  _ layer: Layer, chunk: Int, input: GateInput = .keysAndValues, hidden: Int = 5,
  _ body: (String, LSTMGate<Double>) throws -> Result
) throws -> Result {
  let path =
    FileManager.default.temporaryDirectory
    .appendingPathComponent("chunks-\(UUID().uuidString).safetensors").path
  defer { try? FileManager.default.removeItem(atPath: path) }
  let gate = LSTMGate(seed: 3, layer: 3, LSTMSizes(input: input.width(layer.d), hidden: hidden))
  var writer = SafetensorsWriter(metadata: [
    "schema": CalibrationFile.schema, "method": "kv-efficient-vla", "model": "0", "layers": "4",
    "option.hidden": "\(hidden)", "option.chunk": "\(chunk)",
    "option.input": input == .keys ? "keys" : "keys-and-values",
  ])
  for part in LSTMGate<Double>.parts(gate.sizes) {
    try writer.add(
      "layers.3.\(part.name)", Tensor(shape: part.shape, elements: gate[keyPath: part.path]),
      as: .float32)
  }
  try writer.write(to: path)
  return try body(path, gate)
}

@Suite struct KVEfficientGateTests {
  @Test(arguments: GateInput.allCases)
  func `an LSTM's decisions do not depend on where the prompt ends`(_ input: GateInput) throws {
    for layer in [Layer(4, 2, 8), Layer(3, 3, 16, window: 23), Layer(4, 1, 20)] {
      try withChunkGate(layer, chunk: 4, input: input) { path, gate in
        let rows = Rows(layer, tokens: 60)
        let text = "kv-efficient-vla:w=5,chunk=4,alpha=0.5,gate=\(path)"
        let runs = try [1, 2, 20, 43, 58].map { try Run(text, rows, prompt: $0) }
        for run in runs {
          let (found, whole) = (run.steps.suffix(2), runs[0].steps.suffix(2))
          #expect(found.map(\.attention) == whole.map(\.attention))
          #expect(found.map(\.attended) == whole.map(\.attended))
        }
        // One pass over all chunks of a head, in Double, says which are there.
        for m in 0..<layer.M {
          var (state, kept) = (LSTMState<Double>(hidden: 5), [Int]())
          for c in 0..<(60 - 5) / 4 {
            func part(_ x: Tensor<Float>) -> Tensor<Double> {
              x.rows(c * 4..<c * 4 + 4).converted()
            }
            let x = input.rows(keys: part(rows.keys[m]), values: part(rows.values[m]))
            let isInSight = c * 4 >= rows.visible(59).lowerBound
            if gate.value(x, state: &state) >= 0.5 && isInSight { kept.append(c) }
          }
          let h = m * layer.H / layer.M
          let older = runs[0].steps.last?.attended[h].filter { $0 < (60 - 5) / 4 * 4 } ?? []
          #expect(older == kept.flatMap { $0 * 4..<$0 * 4 + 4 })
        }
        // A gate, and two states of 5 numbers a head.
        let method = try cacheMethod("kv-efficient-vla:w=5,chunk=4,alpha=0,gate=\(path)")
        let run = try Run(method.makeCache(for: layer.shape), rows, prompt: 40)
        let bytes = method.bytes(tokens: 40, layer: layer.shape)
        #expect(run.residentBytes[0] == bytes.device && !bytes.isUpperBound)
        let gateBytes = run.liveBuffers.filter { $0.label == "gate" }.map(\.bytes)
        #expect(gateBytes == [4 * (4 * 5 * (input.width(layer.d) + 5 + 2) + 5 + 1)])
      }
    }
  }

  @Test func `what has no meaning is refused in one line`() throws {
    try withChunkGate(Layer(4, 2, 8), chunk: 4) { path, _ in
      for (text, words) in [
        ("w=5,budget=7", "budget and w say the same"), ("alpha=-1", "0 or larger"),
        ("alpha=nan", "finite"), ("chunk=0", "from 1"), ("w=0", "from 1"),
        ("gate=/nowhere", "/nowhere"), ("merge=sum", "none of: corrected, plain"),
        ("gate=\(path)", "chunk=4"), ("gate=\(path),chunk=8", "not of 8"),
        ("gate=keep-all,alpha=0.7", "alpha has no effect with gate=keep-all; drop one of them"),
        ("gate=keep-all,alpha=2", "alpha has no effect with gate=keep-all; drop one of them"),
        ("alpha=1.1,merge=plain", "merge has no effect with alpha above 1: no chunk stays"),
      ] {
        let line = methodError { _ = try cacheMethod("kv-efficient-vla:\(text)") }
        #expect(line.contains(words) && !line.contains("\n"), "\(line)")
      }
      // A file that says too little of itself.
      try withCalibration("kv-efficient-vla", [:], options: ["hidden": "5", "chunk": "4"]) { path in
        let line = methodError { _ = try cacheMethod("kv-efficient-vla:chunk=4,gate=\(path)") }
        #expect(
          line == "kv-efficient-vla: \(path): option.input is missing; it has to be one of: keys, "
            + "keys-and-values")
      }
      try withCalibration("kv-efficient-vla", [:], options: ["hidden": "0"]) { path in
        let line = methodError { _ = try cacheMethod("kv-efficient-vla:gate=\(path)") }
        #expect(
          line.contains("option.hidden is \"0\"; it has to be a whole number from 1 to 65536"))
      }
      // What has no effect is not stated either, so every text makes its method again.
      for text in [
        "gate=keep-all,merge=plain", "alpha=1.5", "alpha=1,merge=plain", "gate=\(path),chunk=4",
      ] {
        let method = try cacheMethod("kv-efficient-vla:\(text)")
        #expect(try cacheMethod(method.description).description == method.description)
        let names = method.options.map(\.name)
        #expect(names.contains("alpha") == !text.contains("keep-all"))
        #expect(names.contains("merge") == (text != "alpha=1.5"))
      }
      // Made for heads of another width.
      let line = methodError {
        _ = try cacheMethod("kv-efficient-vla:chunk=4,gate=\(path)")
          .makeCache(for: Layer(3, 3, 16).shape)
      }
      #expect(line.contains("shape") && !line.contains("\n"))
    }
  }
}
