// A Llama of random weights in a folder of its own, for benchmarks.
//
// In:  sizes and a format.
// Out: config.json, one safetensors file a layer and their index, as a published model has them.
//
// Weights of a matrix with c columns are normal numbers over √c, so that activations keep their
// size. Matrices of one shape have the same values, each with bytes of its own: drawing them would
// take longest, and what is timed does not depend on them.

import Foundation
import Tensors

/// The sizes of a Llama.
struct ModelSizes {
  var hidden = 1024
  var layers = 6
  var intermediate = 2816
  var queryHeads = 16
  var keyValueHeads = 4
  var vocabulary = 8192
  var format = StorageFormat.float32

  /// The matrices of a layer, (outputs, inputs).
  private var matrices: [(name: String, rows: Int, columns: Int)] {
    let keys = hidden / queryHeads * keyValueHeads
    return [
      ("self_attn.q_proj", hidden, hidden), ("self_attn.k_proj", keys, hidden),
      ("self_attn.v_proj", keys, hidden), ("self_attn.o_proj", hidden, hidden),
      ("mlp.gate_proj", intermediate, hidden), ("mlp.up_proj", intermediate, hidden),
      ("mlp.down_proj", hidden, intermediate),
    ]
  }

  /// Bytes of all matrices.
  var bytes: Int {
    let layer = matrices.reduce(0) { $0 + $1.rows * $1.columns }
    return (layers * layer + vocabulary * hidden) * format.byteWidth
  }

  /// Writes the model into the folder, which exists.
  func write(to folder: String, seed: UInt64) throws {
    let ones = Tensor<Float>(repeating: 1, shape: [hidden])
    var drawn: [[Int]: Tensor<Float>] = [:]
    func matrix(_ rows: Int, _ columns: Int) -> Tensor<Float> {
      if let known = drawn[[rows, columns]] { return known }
      let numbers: [Float] = normals(
        count: rows * columns, seed: seed, stream: UInt64(drawn.count))
      let scale = 1 / Float(columns).squareRoot()
      let scaled = Tensor(shape: [rows, columns], elements: numbers.map { $0 * scale })
      drawn[[rows, columns]] = scaled
      return scaled
    }

    var places: [String: String] = [:]
    func write(_ file: String, _ tensors: [(String, Tensor<Float>)]) throws {
      var writer = SafetensorsWriter()
      for (name, tensor) in tensors {
        try writer.add(name, tensor, as: format)
        places[name] = file
      }
      try writer.write(to: "\(folder)/\(file)")
    }
    try write(
      "model-head.safetensors",
      [
        ("model.embed_tokens.weight", matrix(vocabulary, hidden)), ("model.norm.weight", ones),
      ])
    for layer in 0..<layers {
      let prefix = "model.layers.\(layer)"
      try write(
        "model-layer-\(layer).safetensors",
        matrices.map { ("\(prefix).\($0.name).weight", matrix($0.rows, $0.columns)) } + [
          ("\(prefix).input_layernorm.weight", ones),
          ("\(prefix).post_attention_layernorm.weight", ones),
        ])
    }
    try objectJSON(["metadata": [String: Any](), "weight_map": places])
      .write(to: URL(fileURLWithPath: "\(folder)/model.safetensors.index.json"))
    try objectJSON([
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
      "num_hidden_layers": layers, "intermediate_size": intermediate,
      "num_attention_heads": queryHeads, "num_key_value_heads": keyValueHeads,
      "vocab_size": vocabulary, "tie_word_embeddings": true, "hidden_act": "silu",
      "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
    ])
    .write(to: URL(fileURLWithPath: "\(folder)/config.json"))
  }
}

/// Runs `body` with a new, empty folder that is gone afterwards, also when the run is interrupted.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-model-\(UUID().uuidString)")
  let sources = [SIGINT, SIGTERM].map { signal in
    // The default action must not come first; the source reports the signal all the same.
    _ = Foundation.signal(signal, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: signal, queue: .global())
    source.setEventHandler {
      try? FileManager.default.removeItem(at: folder)
      Foundation.exit(128 + signal)
    }
    source.resume()
    return source
  }
  defer {
    try? FileManager.default.removeItem(at: folder)
    for source in sources { source.cancel() }
    for signal in [SIGINT, SIGTERM] { _ = Foundation.signal(signal, SIG_DFL) }
  }
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
  return try body(folder.path)
}
