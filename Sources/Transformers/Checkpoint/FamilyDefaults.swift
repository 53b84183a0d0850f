// What a key of config.json means where it is absent.
//
// In:  a family.
// Out: the defaults of its configuration class in the library transformers (5.24).
//
// Tools write only what differs from these defaults, so a file without a key means its default. The
// sizes that say how large the model is (vocabulary, width, layers, heads) have defaults in the
// library, too: those of one particular model. They are not taken here, with one exception: the
// number of key/value heads, which the shapes of the weights confirm or refute.
//
//              rms_norm_eps   max_position_embeddings   num_key_value_heads   eos_token_id
//   Llama      1e-6           2048                      as many as heads      2
//   Mistral    1e-6           131072                    8                     2
//   Qwen2      1e-6           32768                     32                    none
//   Qwen3      1e-6           32768                     32                    none
//   Phi-3      1e-5           4096                      as many as heads      32000
//   DeepSeek   1e-6           4096                      as many as heads      1
//   LRKV       none           none                      as many as heads      none
//
// Everywhere: rope_theta 10,000, no scaling of RoPE, no biases but Qwen2's, embeddings not tied.

extension ModelConfiguration.Family {
  /// The defaults of a family's keys; nil where the key has to be there.
  package struct Defaults: Sendable {
    /// The default of rms_norm_eps.
    package var normEpsilon: Double?
    /// The default of max_position_embeddings.
    package var longestSequence: Int?
    /// The default of num_key_value_heads; nil means as many as query heads.
    package var keyValueHeads: Int?
    /// The default of eos_token_id; nil means that no token ends a text.
    package var endOfText: Int?
  }

  /// The row of the table above.
  package var defaults: Defaults {
    switch self {
    case .llama: Defaults(normEpsilon: 1e-6, longestSequence: 2048, endOfText: 2)
    case .mistral:
      Defaults(normEpsilon: 1e-6, longestSequence: 131_072, keyValueHeads: 8, endOfText: 2)
    case .qwen2, .qwen3:
      Defaults(normEpsilon: 1e-6, longestSequence: 32_768, keyValueHeads: 32)
    case .phi3: Defaults(normEpsilon: 1e-5, longestSequence: 4096, endOfText: 32_000)
    case .deepseekV3: Defaults(normEpsilon: 1e-6, longestSequence: 4096, endOfText: 1)
    case .lrkv: Defaults()
    }
  }
}
