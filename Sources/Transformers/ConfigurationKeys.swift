// Keys of config.json that are known, beside those that ModelConfiguration.swift reads.
//
// In:  nothing.
// Out: keys that do not change what a forward pass computes, and keys that must have one value.
//
// The lists are the base class of configurations in the library transformers (versions 4 and 5),
// the five model classes, and the extra keys of the checkpoints that their makers published. A key
// that stands nowhere is an error: better to ask than to compute something else.

import Tensors

/// Keys that change nothing here: bookkeeping, training, defaults of sampling and of output.
let harmlessKeys: Set<String> = [
  // Where it came from.
  "_name_or_path", "_commit_hash", "transformers_version", "auto_map", "tokenizer_class",
  "transformers.js_config", "unsloth_fixed", "unsloth_version", "is_llama_config",
  // How the weights were stored and loaded; what is stored is read from the weights.
  "dtype", "torch_dtype", "use_bfloat16", "torchscript", "tf_legacy_loss", "_attn_implementation",
  "_attn_implementation_autoset", "attn_implementation", "_flash_attn_2_enabled",
  // What an older library kept here; the positions that were trained are max_position_embeddings.
  "max_sequence_length", "model_max_length", "pad_token",
  // Training.
  "initializer_range", "neftune_noise_alpha", "attention_dropout", "resid_pdrop", "embd_pdrop",
  "gradient_checkpointing",
  "finetuning_task", "problem_type", "task_specific_params", "num_labels", "id2label", "label2id",
  // What a call returns; how it is computed without changing it.
  "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states",
  "output_scores", "use_cache", "chunk_size_feed_forward", "prefix", "tie_encoder_decoder",
  // Special tokens (end of text is read).
  "bos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id",
  // Sampling, which is the caller's business.
  "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
  "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
  "forced_eos_token_id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
  "num_beam_groups", "num_beams", "num_return_sequences", "remove_invalid_values",
  "repetition_penalty", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
]

/// A value that a key must have if it is there at all.
enum FixedValue {
  case text(String)
  case integer(Int)
  case flag(Bool)
  /// null, {} or [].
  case nothing

  func matches(_ json: JSONValue) -> Bool {
    switch self {
    case .text(let text): json.stringValue?.utf8.elementsEqual(text.utf8) ?? false
    case .integer(let integer): json.intValue == integer
    case .flag(let flag): json.boolValue == flag
    case .nothing: json.objectValue?.isEmpty ?? json.arrayValue?.isEmpty ?? false
    }
  }

  var description: String {
    switch self {
    case .text(let text): shown(text)
    case .integer(let integer): "\(integer)"
    case .flag(let flag): "\(flag)"
    case .nothing: "null"
    }
  }
}

/// Keys that would change what the model computes, with the one value that is built here.
let fixedKeys: [(key: String, value: FixedValue)] = [
  ("hidden_act", .text("silu")),
  ("pretraining_tp", .integer(1)),
  ("quantization_config", .nothing),
  ("pruned_heads", .nothing),
  ("per_layer_config", .nothing),
  ("is_decoder", .flag(false)),
  ("is_encoder_decoder", .flag(false)),
  ("add_cross_attention", .flag(false)),
  ("cross_attention_hidden_size", .nothing),
  ("rope_interleaved", .flag(false)),
  ("use_mrope", .flag(false)),
  // Phi-4-mini.
  ("lm_head_bias", .flag(false)),
  ("interpolate_factor", .integer(1)),
  ("full_attn_mod", .integer(1)),
]

extension ConfigurationReader {
  /// Refuses a fixed key of another value.
  mutating func checkFixedKeys() throws(ConfigurationError) {
    for (key, fixed) in fixedKeys {
      guard let json = value(key) else { continue }
      if !fixed.matches(json) {
        throw fault(
          key, .unsupported(value: json.brief, supported: "it has to be \(fixed.description)"))
      }
    }
  }
}

extension JSONValue {
  /// The value as an error message shows it: scalars in full, others by their kind.
  var brief: String {
    switch self {
    case .object: "an object"
    case .array: "a list"
    case .string(let text): shown(text)
    case .integer(let integer): "\(integer)"
    case .number(let text): String(text.prefix(80))
    case .bool(let flag): "\(flag)"
    case .null: "null"
    }
  }
}
