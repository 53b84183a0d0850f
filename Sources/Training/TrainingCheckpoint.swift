// A training run on disk: stopped at any moment, it goes on where it was.
//
// In:  the state of a run, after some step.
// Out: RUN/step-00001200/, a model's folder in the Hugging Face layout with two or three files more:
//
//        config.json, model.safetensors     the model, F32; with the tokenizer's files it can be run
//        moments.safetensors                the optimiser's two moments of every parameter
//        sum.safetensors                    of the weights that are averaged, once there are some
//        training.json                      step, stage, accuracies, and what run it is
//
// The folder is written under another name and renamed when it is whole, so a folder of this name
// is always complete, whenever the process was killed. The two newest are kept. A state that is
// read back is the state that was written, to the bit: all numbers are stored as they are, the
// accuracies too (shortest decimal text that reads back to the same Double).

import Foundation
public import Tensors
import Transformers

/// The folders of a run.
public struct TrainingCheckpoint: Sendable {
  /// The run's folder.
  public let run: String
  /// What run it is: a text that must be the same when it goes on (the recipe).
  public let identity: String
  /// Files that are copied into every checkpoint, as the tokenizer's.
  public let companions: [(name: String, bytes: [UInt8])]

  /// A run in the folder `run`.
  public init(run: String, identity: String, companions: [(name: String, bytes: [UInt8])] = []) {
    self.run = run
    self.identity = identity
    self.companions = companions
  }

  /// The complete checkpoints, oldest first.
  public func all() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: run)) ?? []
    return names.filter { $0.hasPrefix("step-") && Int($0.dropFirst(5)) != nil }.sorted()
      .map { "\(run)/\($0)" }
  }

  /// Saves the state; older checkpoints but one are removed.
  @discardableResult
  public func save(_ state: TrainingState, _ shape: ModelShape) throws -> String {
    let name =
      "step-" + String(repeating: "0", count: max(0, 8 - "\(state.step)".count))
      + "\(state.step)"
    let (part, whole) = ("\(run)/partial-\(name)", "\(run)/\(name)")
    try? FileManager.default.removeItem(atPath: part)
    try FileManager.default.createDirectory(atPath: part, withIntermediateDirectories: true)
    try writeModel(shape, state.parameters, format: .float32, companions: companions, to: part)
    var moments = SafetensorsWriter()
    for p in state.parameters {
      try moments.add("\(p.name).mean", Tensor(shape: p.shape, elements: p.mean), as: .float32)
      try moments.add("\(p.name).square", Tensor(shape: p.shape, elements: p.square), as: .float32)
    }
    try moments.write(to: "\(part)/moments.safetensors")
    if state.sum.count > 0 {
      var sum = SafetensorsWriter()
      for (p, values) in zip(state.parameters, state.sum.values) {
        try sum.add(p.name, Tensor(shape: p.shape, elements: values), as: .float32)
      }
      try sum.write(to: "\(part)/sum.safetensors")
    }
    try Data(description(of: state).utf8).write(to: URL(fileURLWithPath: "\(part)/training.json"))
    try? FileManager.default.removeItem(atPath: whole)
    try FileManager.default.moveItem(atPath: part, toPath: whole)
    for old in all().dropLast(2) { try FileManager.default.removeItem(atPath: old) }
    return whole
  }

  private func description(of state: TrainingState) -> String {
    """
    {"step": \(state.step), "stage": \(state.stage), "step_in_stage": \(state.stepInStage),
     "tokens": \(state.tokens), "seconds": \(state.seconds), "accuracies": \(state.accuracies),
     "copied": \(state.copied.map { "\($0)" } ?? "null"), "averaged": \(state.sum.count),
     "run": \(jsonQuoted(identity))}

    """
  }

  /// The newest state; nil where the run has not begun.
  ///
  /// Throws where it is of another run.
  public func load(_ shape: ModelShape, seed: UInt64) throws -> TrainingState? {
    guard let folder = all().last else { return nil }
    func fault(_ reason: String) -> TrainingError { .checkpoint(path: folder, reason) }
    let json = try JSONValue(
      parsing: try readFile(at: "\(folder)/training.json", limit: 1 << 24), depthLimit: 4)
    guard json["run"]?.stringValue == identity else {
      throw fault(
        "it belongs to another recipe; choose another folder, or the recipe it began with")
    }
    guard let step = json["step"]?.intValue, let stage = json["stage"]?.intValue,
      let stepInStage = json["step_in_stage"]?.intValue, let tokens = json["tokens"]?.intValue,
      let seconds = json["seconds"]?.doubleValue, let list = json["accuracies"]?.arrayValue,
      let averaged = json["averaged"]?.intValue, averaged >= 0
    else { throw fault("training.json is damaged; remove this folder") }
    var state = TrainingState(shape, seed: seed)
    (state.step, state.stage, state.stepInStage) = (step, stage, stepInStage)
    (state.tokens, state.seconds) = (tokens, seconds)
    state.accuracies = list.compactMap(\.doubleValue)
    state.copied = json["copied"]?.doubleValue
    let model = try SafetensorsFile(path: "\(folder)/model.safetensors")
    let moments = try SafetensorsFile(path: "\(folder)/moments.safetensors")
    let sum = averaged > 0 ? try SafetensorsFile(path: "\(folder)/sum.safetensors") : nil
    state.sum.count = averaged
    for n in state.parameters.indices {
      let (name, shape) = (state.parameters[n].name, state.parameters[n].shape)
      func read(_ file: SafetensorsFile, _ name: String) throws -> [Float] {
        let tensor: Tensor<Float> = try file.tensor(name)
        if tensor.shape != shape { throw fault("\(name) has shape \(tensor.shape), not \(shape)") }
        return tensor.elements
      }
      state.parameters[n].values = try read(model, name)
      state.parameters[n].mean = try read(moments, "\(name).mean")
      state.parameters[n].square = try read(moments, "\(name).square")
      if let sum { state.sum.values.append(try read(sum, name)) }
    }
    return state
  }
}

/// Writes a model's folder: config.json, model.safetensors, and the files beside them.
public func writeModel(
  _ shape: ModelShape, _ parameters: [Parameter<Float>], format: StorageFormat,
  companions: [(name: String, bytes: [UInt8])], to folder: String
) throws {
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  var weights = SafetensorsWriter(metadata: ["format": "pt"])
  for parameter in parameters { try weights.add(parameter.name, parameter.tensor, as: format) }
  try weights.write(to: "\(folder)/model.safetensors")
  try Data(shape.configuration.utf8).write(to: URL(fileURLWithPath: "\(folder)/config.json"))
  for file in companions {
    try Data(file.bytes).write(to: URL(fileURLWithPath: "\(folder)/\(file.name)"))
  }
}

extension ModelShape {
  /// config.json in the Hugging Face layout.
  public var configuration: String {
    var lines = [
      "\"vocab_size\": \(vocabulary)", "\"hidden_size\": \(hiddenSize)",
      "\"num_hidden_layers\": \(layers)", "\"num_attention_heads\": \(queryHeads)",
      "\"intermediate_size\": \(intermediateSize)", "\"rms_norm_eps\": \(normEpsilon)",
      "\"rope_theta\": \(rotaryBase)", "\"max_position_embeddings\": \(contextLength)",
      "\"bos_token_id\": \(ModelTokenizer.beginID)", "\"eos_token_id\": \(ModelTokenizer.endID)",
      "\"tie_word_embeddings\": true", "\"hidden_act\": \"silu\"", "\"torch_dtype\": \"float32\"",
    ]
    switch attention {
    case .grouped(let M):
      lines =
        [
          "\"architectures\": [\"LlamaForCausalLM\"]", "\"model_type\": \"llama\"",
          "\"head_dim\": \(headWidth)", "\"num_key_value_heads\": \(M)",
        ] + lines
    case .lowRank(let rank):
      lines =
        [
          "\"architectures\": [\"LRKVForCausalLM\"]", "\"model_type\": \"lrkv\"",
          "\"head_dim\": \(headWidth)", "\"residual_rank\": \(rank)",
          "\"lrkv_positions\": \"rotated\"",
        ] + lines
    case .latent(let latent, let rotary):
      lines =
        [
          "\"architectures\": [\"DeepseekV3ForCausalLM\"]", "\"model_type\": \"deepseek_v3\"",
          "\"num_key_value_heads\": \(queryHeads)", "\"kv_lora_rank\": \(latent)",
          "\"qk_rope_head_dim\": \(rotary)", "\"qk_nope_head_dim\": \(headWidth)",
          "\"v_head_dim\": \(headWidth)", "\"q_lora_rank\": null", "\"rope_interleave\": false",
          "\"first_k_dense_replace\": \(layers)", "\"attention_bias\": false",
        ] + lines
    }
    return "{\n  " + lines.joined(separator: ",\n  ") + "\n}\n"
  }
}
