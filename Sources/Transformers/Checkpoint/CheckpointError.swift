// What can be wrong with a model's weights.
//
// In:  a fault, met while shards, index or tensors were read.
// Out: one line for the user: which file, which tensor, what is wrong, what to do.
//
// One case per fault, so that a test can ask for exactly the fault that it made.

public import Tensors

/// Weights that do not fit their configuration, or cannot be found.
public struct CheckpointError: Error, Equatable, CustomStringConvertible {
  /// The path of the file or folder.
  public let file: String
  /// What is wrong.
  public let problem: Problem

  /// The kinds of fault.
  public enum Problem: Equatable, Sendable {
    /// Neither model.safetensors nor model.safetensors.index.json; says what is there instead and
    /// what to do.
    case noWeights(String)
    /// The index cannot be read.
    case unreadable(FileError)
    /// The index is not strict JSON.
    case syntax(JSONSyntaxError)
    /// The index is not an object of metadata and weight_map.
    case badIndex(String)
    /// A shard's name in the index is not the plain name of a .safetensors file.
    case badShardName(tensor: String, shard: String)
    /// A tensor that the index puts into a shard that does not have it.
    case notInShard(tensor: String, shard: String)
    /// A tensor of a shard that the index does not mention, or puts elsewhere.
    case notInIndex(tensor: String, shard: String)
    /// A tensor that the model needs.
    case missingTensor(String)
    /// A tensor that the model has no place for.
    case extraTensor(String)
    /// A tensor of another shape than the configuration says.
    case wrongShape(tensor: String, found: [Int], expected: [Int])
    /// A tensor that is not F32, F16 or BF16; `dtype` is what the file calls its format.
    case unsupportedFormat(tensor: String, dtype: String)
    /// A matrix that is there in quantised form only; `part` is one of the tensors that hold it.
    case quantised(tensor: String, part: String)
    /// tie_word_embeddings is true, but the stored output matrix is not the embedding.
    case notTied
  }

  /// One line: which file, what, what to do.
  public var description: String {
    switch problem {
    case .noWeights(let reason):
      "\(file): neither model.safetensors nor model.safetensors.index.json there; \(reason)"
    case .unreadable(let error): error.description
    case .syntax(let error): "\(file): \(error); it has to be strict JSON"
    case .badIndex(let reason): "\(file): \(reason)"
    case .badShardName(let tensor, let shard):
      "\(file): tensor \(shown(tensor)) is said to be in \(shown(shard)); "
        + "a shard is a .safetensors file in the same folder, named without a path"
    case .notInShard(let tensor, let shard):
      "\(file): tensor \(shown(tensor)) is not in \(shown(shard)), where the index puts it"
    case .notInIndex(let tensor, let shard):
      "\(file): tensor \(shown(tensor)) of \(shown(shard)) is not there according to the index"
    case .missingTensor("lm_head.weight"):
      "\(file): no tensor \"lm_head.weight\"; the model needs it, unless config.json says "
        + "\"tie_word_embeddings\": true"
    case .missingTensor(let name): "\(file): no tensor \(shown(name)); the model needs it"
    case .extraTensor(let name):
      "\(file): tensor \(shown(name)) has no place in a model of this config.json"
    case .wrongShape(let tensor, let found, let expected):
      "\(file): tensor \(shown(tensor)) has shape \(found), config.json asks for \(expected)"
    case .unsupportedFormat(let tensor, let dtype):
      "\(file): tensor \(shown(tensor)) is \(shown(dtype)); weights have to be F32, F16 or BF16"
        + (Self.isNarrow(dtype) ? " (\(dtype) is how quantised weights are stored)" : "")
    case .quantised(let tensor, let part):
      "\(file): no tensor \(shown(tensor)) but \(shown(part)): these weights were quantised; "
        + "take the model in F32, F16 or BF16"
    case .notTied:
      "\(file): lm_head.weight differs from model.embed_tokens.weight, but config.json says "
        + "tie_word_embeddings; set that to false to use the stored matrix"
    }
  }
}

extension CheckpointError {
  /// Whether a format of the files is one that quantised weights are stored in.
  fileprivate static func isNarrow(_ dtype: String) -> Bool {
    ["I8", "U8", "I32", "U32"].contains(dtype) || dtype.hasPrefix("F8_") || dtype.hasPrefix("F4")
      || dtype.hasPrefix("F6_")
  }
}
