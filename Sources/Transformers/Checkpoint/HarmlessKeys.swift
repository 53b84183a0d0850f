// Keys of config.json that change nothing here, each with the reason.
//
// In:  nothing.
// Out: a table: keys, the values under which they change nothing, why.
//
// Sources of the list: the base class of configurations in the library transformers (versions 4 and
// 5), its model classes, what training and conversion tools write, and the published configurations
// of the families. A key belongs here only if no class of these families computes anything else
// because of it. Many keys pass under every value. The others pass with the values that mean "as
// built here", and are refused with any other.
//
// ConfigurationKeys.swift applies the table. The keys that ModelConfiguration.swift reads are not
// in it. Any other key is an error, because it may change what the model computes.

/// The table of keys that change nothing.
package let harmlessKeys: [HarmlessKeys] = [
  HarmlessKeys(
    [
      "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "auto_map",
      "tokenizer_class", "transformers.js_config", "unsloth_fixed", "unsloth_version",
      "is_llama_config", "model_name", "custom_pipelines",
    ], .any, "where the file came from, and which program wrote or reads it"),
  HarmlessKeys(
    [
      "dtype", "torch_dtype", "use_bfloat16", "fp16", "bf16", "fp32", "torchscript", "xla_device",
      "tf_legacy_loss",
    ], .any, "how weights were stored; the weights' own files say it, and arithmetic is float32"),
  HarmlessKeys(
    [
      "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
      "attn_implementation", "_experts_implementation", "experts_implementation",
      "_flash_attn_2_enabled", "_use_flash_attention_2", "use_flash_attention_2",
      "use_flash_attention", "use_flash_attn", "flash_attn", "use_sdpa",
    ], .any, "which kernel computes attention; all compute the same"),
  HarmlessKeys(
    ["attention_softmax_in_fp32", "softmax_in_fp32"], .any,
    "the precision of the softmax, which is float32 here"),
  HarmlessKeys(
    ["pretraining_tp"], .any,
    "splits the same matrix products into parts, and the library no longer reads it"),
  HarmlessKeys(
    [
      "max_sequence_length", "model_max_length", "seq_length", "seq_len", "max_seq_len",
      "max_seq_length", "n_ctx", "n_positions",
    ], .any, "a length that some tool noted; the library reads max_position_embeddings"),
  HarmlessKeys(
    [
      "initializer_range", "initializer_factor", "neftune_noise_alpha", "attention_dropout",
      "attention_probs_dropout_prob", "attn_pdrop", "attn_dropout_prob", "hidden_dropout",
      "hidden_dropout_prob", "resid_pdrop", "residual_dropout", "embd_pdrop", "emb_dropout_prob",
      "dropout", "classifier_dropout", "gradient_checkpointing", "loss_type",
    ], .any, "training only"),
  HarmlessKeys(
    [
      "finetuning_task", "problem_type", "task_specific_params", "num_labels", "id2label",
      "label2id",
    ], .any, "heads for classification, which a language model has not"),
  HarmlessKeys(
    [
      "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states",
      "output_scores", "output_logits", "output_router_logits", "output_past", "use_cache",
      "keys_to_ignore_at_inference", "chunk_size_feed_forward",
    ], .any, "what a call returns, or keeps, or computes in pieces"),
  HarmlessKeys(
    ["is_decoder", "tie_encoder_decoder", "prefix"], .any,
    "about encoders and decoders; these families are causal decoders whatever it says"),
  HarmlessKeys(
    [
      "bos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
      "unk_token_id", "decoder_start_token_id",
    ], .any, "the tokenizer adds special tokens; of these ids the end of text alone is read"),
  HarmlessKeys(
    ["bos_token", "eos_token", "pad_token", "unk_token"], .any,
    "names of special tokens; the library takes ids from here and names from the tokenizer"),
  HarmlessKeys(
    [
      "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
      "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
      "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens", "min_length",
      "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
      "num_return_sequences", "penalty_alpha", "remove_invalid_values", "renormalize_logits",
      "repetition_penalty", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
    ], .any, "defaults of sampling, which are the caller's business"),

  HarmlessKeys(
    ["hidden_act", "hidden_activation", "activation_function"],
    .only([.text("silu"), .text("swish")]),
    "the activation: SiLU, which is also called swish, in all these families"),
  HarmlessKeys(
    ["activation"], .only([.text("silu"), .text("swish"), .text("swiglu")]),
    "the feed-forward: SwiGLU in all these families"),
  HarmlessKeys(
    ["num_experts", "num_local_experts"], .only([.integer(0)]),
    "layers of experts, which dense models have not"),
  HarmlessKeys(["mlp_only_layers"], .only([.nothing]), "layers of experts again"),
  HarmlessKeys(
    ["pruned_heads", "per_layer_config"], .only([.nothing]), "layers that differ from the others"),
  HarmlessKeys(
    ["is_encoder_decoder", "add_cross_attention"], .only([.flag(false)]),
    "an encoder beside the decoder"),
  HarmlessKeys(
    ["cross_attention_hidden_size"], .only([.nothing]), "an encoder beside the decoder"),
  HarmlessKeys(["is_causal"], .only([.flag(true)]), "a token sees those before it"),
  HarmlessKeys(
    ["rope_interleaved", "use_mrope", "use_dynamic_ntk", "use_logn_attn"], .only([.flag(false)]),
    "other ways to rotate queries and keys, or to scale them"),
  HarmlessKeys(
    ["rotary_pct", "rotary_percent"], .only([.number(1)]),
    "the part of a head that is rotated; partial_rotary_factor is read"),
  HarmlessKeys(["lm_head_bias"], .only([.flag(false)]), "a bias of the output matrix"),
  HarmlessKeys(
    ["interpolate_factor", "full_attn_mod"], .only([.number(1)]),
    "Phi-4-mini's file has them, and its class does not read them"),
  HarmlessKeys(
    [
      "attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling",
      "logit_scale",
    ], .only([.number(1)]), "factors on parts of the sum; 1 is none"),
]
