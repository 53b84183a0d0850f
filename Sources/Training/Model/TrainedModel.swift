// A checkpoint that training goes on from, or that a student learns from.
//
// In:  a folder: a Llama or a Mistral, one that was trained here, or one of these after
//      `lrqk convert` with narrow or joined heads.
// Out: its shape and its parameters, in the order of ModelShape; config.json and the files beside
//      it, which the trained model keeps.
//
// What the pass on a tape does not compute is refused: biases, norms of queries and keys, sliding
// windows, RoPE that changes with the length. So are low-rank conversions: LoRC and ReCalKV are
// made for models that nobody trains again.

package import Tensors
import Transformers

/// A model's shape and its numbers.
package struct TrainedModel<E: Scalar>: Sendable {
  /// What it computes.
  package let shape: ModelShape
  /// Its parameters, in the order of the shape.
  package let parameters: [Parameter<E>]

  /// A model of these parameters.
  package init(_ shape: ModelShape, _ parameters: [Parameter<E>]) {
    self.shape = shape
    self.parameters = parameters
  }
}

extension TrainedModel<Float> {
  /// The checkpoint in `folder`.
  ///
  /// Throws where it cannot be read, and where it computes something that training does not.
  package init(folder: String) throws {
    // The decoder compares names and shapes of all tensors with config.json.
    let shape = try ModelShape(of: try Decoder(folder: folder).configuration, folder)
    let stored = try StoredTensors(folder: folder)
    let parameters = try shape.parameterPlans.map { plan in
      let tensor = try stored.tensor(plan.name).tensor
      if tensor.shape != plan.shape {
        throw TrainingError.checkpoint(
          path: folder, "\(plan.name) has shape \(tensor.shape), not \(plan.shape)")
      }
      if tensor.firstNonFinite != nil {
        throw TrainingError.checkpoint(
          path: folder, "\(plan.name) holds NaN or infinity; take a model that is whole")
      }
      return Parameter(name: plan.name, shape: plan.shape, values: tensor.elements)
    }
    self.init(shape, parameters)
  }
}

extension ModelShape {
  /// The shape of the checkpoint in `folder`; throws where training does not compute it.
  fileprivate init(of c: ModelConfiguration, _ folder: String) throws {
    func fault(_ what: String) -> TrainingError {
      .checkpoint(path: folder, "\(what), which lrqk train does not compute; take another model")
    }
    switch c.rotary.scaling {
    case .none, .linear, .llama3, .resampled: break
    case .dynamic, .yarn, .longRope: throw fault("its RoPE is of another kind")
    }
    if c.window != nil { throw fault("it has sliding windows") }
    if c.hasQueryKeyValueBias || c.hasAttentionOutputBias || c.hasFeedForwardBias {
      throw fault("it has biases")
    }
    if c.hasQueryKeyNorm { throw fault("it has norms of queries and keys") }
    if case .phi3 = c.family { throw fault("it is a Phi-3") }
    let (kind, d): (AttentionKind, Int)
    switch c.attention {
    case .ordinary: (kind, d) = (.grouped(keyValueHeads: c.keyValueHeads), c.headWidth)
    case .lrkv(let width, let rank, .rotated): (kind, d) = (.lowRank(rank: rank), width)
    case .lrkv: throw fault("its positions are not those of whole keys")
    case .latent(let sizes, isInterleaved: false) where sizes.plainWidth == sizes.valueWidth:
      (kind, d) = (
        .latent(latent: sizes.latentWidth, rotary: sizes.rotaryWidth), sizes.plainWidth
      )
    case .latent: throw fault("its MLA has widths or pairs of another kind")
    case .converted(let attention):
      d = attention.sourceWidth
      switch attention.layers[0] {
      case .narrowHeads(let sizes): kind = .narrow(sizes)
      case .joinedHeads(let sizes):
        kind = .joined(keyValueHeads: attention.sourceHeads, sizes)
      case .lowRank: throw fault("its keys and values are products of thin matrices")
      }
    }
    self.init(
      vocabulary: c.vocabulary, layers: c.layers, hiddenSize: c.hiddenSize,
      queryHeads: c.queryHeads, headWidth: d, intermediateSize: c.intermediateSize,
      attention: kind)
    givenRotary = c.rotary
    tiesEmbeddings = c.tiesEmbeddings
    contextLength = c.longestSequence
    normEpsilon = c.normEpsilon
  }
}

/// A checkpoint's folder as a run starts from it.
package struct StartingFolder: Sendable {
  /// The model that the folder holds.
  package let model: TrainedModel<Float>
  private let configuration: [UInt8]
  private let companions: [(name: String, bytes: [UInt8])]

  /// Reads the checkpoint in `folder`.
  package init(_ folder: String) throws {
    model = try TrainedModel(folder: folder)
    configuration = try readFile(at: "\(folder)/config.json", limit: 4_000_000)
    companions = try companionFiles(in: folder)
  }

  /// config.json, which says as many heads as `shape` has, and the files beside it: the trained
  /// model keeps them.
  package func files(for shape: ModelShape) throws -> [(name: String, bytes: [UInt8])] {
    if shape == model.shape { return [("config.json", configuration)] + companions }
    return [("config.json", try shape.configuration(from: configuration))] + companions
  }
}
