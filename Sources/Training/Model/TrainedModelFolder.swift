// A trained model as a folder in the Hugging Face layout.
//
// In:  parameters; config.json and the tokenizer's files.
// Out: model.safetensors and the files beside it, which Transformers and the transformers library
//      read.

package import Tensors

/// Writes a model's folder: model.safetensors, and the files beside it, config.json among them.
///
/// Each file is there completely or not at all.
package func writeModel(
  _ parameters: [Parameter<Float>], format: StorageFormat,
  companions: [(name: String, bytes: [UInt8])], to folder: String
) throws {
  try makeFolder(folder)
  var weights = SafetensorsWriter(metadata: ["format": "pt"])
  for parameter in parameters {
    do { try weights.add(parameter.name, parameter.tensor, as: format) } catch {
      throw FileError(
        path: "\(folder)/model.safetensors",
        reason: "\(parameter.name) does not fit into \(format.rawValue); take another format")
    }
  }
  try weights.write(to: "\(folder)/model.safetensors")
  for file in companions { try writeFile(file.bytes, to: "\(folder)/\(file.name)") }
}

extension ModelShape {
  /// config.json in the Hugging Face layout, of a model that begins here.
  ///
  /// One that goes on keeps the file that it has.
  package var configuration: String {
    var lines = [
      "\"vocab_size\": \(vocabulary)", "\"hidden_size\": \(hiddenSize)",
      "\"num_hidden_layers\": \(layers)", "\"num_attention_heads\": \(queryHeads)",
      "\"intermediate_size\": \(intermediateSize)", "\"rms_norm_eps\": \(normEpsilon)",
      "\"rope_theta\": \(rotaryBase)", "\"max_position_embeddings\": \(contextLength)",
      "\"bos_token_id\": \(ModelTokenizer.beginID)", "\"eos_token_id\": \(ModelTokenizer.endID)",
      "\"tie_word_embeddings\": true", "\"hidden_act\": \"silu\"", "\"torch_dtype\": \"float32\"",
    ]
    switch attention {
    case .narrow, .joined: preconditionFailure("a converted model has a config.json")
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
