// How much the loss of texts depends on W_K and W_V of each layer.
//
// In:  a model, texts.
// Out: F(W) = mean over W's entries of √(mean over texts of (∂loss/∂w)²), for keys and for values
//      of every layer; loss is the mean cross-entropy of a text's next tokens.
//
// The mean of squared gradients is the diagonal of the empirical Fisher information; ReCalKV shares
// out ranks by it (FisherRanks.swift in CacheMethods). Source: palu/rank_search.py of
// XIANGLONGYAN/ReCalKV at ea548d5; its texts are batches, these are stretches of one text.

import Tensors
import Transformers

/// Sums of squared gradients over texts.
package struct FisherInformation {
  private let model: TrainedModel<Float>
  private let folder: String
  /// Σ g² of W_K and W_V, layer by layer.
  private var squares: [(key: [Double], value: [Double])]
  private var texts = 0

  /// Of no texts yet; throws where the model's heads are not ordinary ones.
  package init(_ model: TrainedModel<Float>, _ folder: String) throws {
    guard case .grouped(let M) = model.shape.attention else {
      throw TrainingError.checkpoint(
        path: folder, "its heads are not ordinary ones; take the model that it was made of")
    }
    self.model = model
    self.folder = folder
    let count = M * model.shape.headWidth * model.shape.hiddenSize
    let none = [Double](repeating: 0, count: count)
    squares = Array(repeating: (none, none), count: model.shape.layers)
  }

  /// Adds a text of two tokens or more.
  package mutating func add(_ tokens: [Int]) throws {
    let vocabulary = model.shape.vocabulary
    if let place = tokens.firstIndex(where: { !(0..<vocabulary).contains($0) }) {
      throw DecoderError.tokenOutsideVocabulary(
        token: tokens[place], place: place, vocabulary: vocabulary)
    }
    let text = TrainingSequence(text: tokens, weights: Array(repeating: 1, count: tokens.count))
    let found = try gradients(model.shape, model.parameters, [text], shards: 1)
    guard found.loss.isFinite, found.gradients.allSatisfy({ $0.allSatisfy(\.isFinite) }) else {
      throw TrainingError.checkpoint(
        path: folder, "the loss of text \(texts + 1) or its gradient is not finite")
    }
    for (parameter, gradient) in zip(model.parameters, found.gradients) {
      let parts = parameter.name.split(separator: ".")
      guard parts.count == 6, let layer = Int(parts[2]) else { continue }
      switch parts[4] {
      case "k_proj": add(gradient, to: &squares[layer].key)
      case "v_proj": add(gradient, to: &squares[layer].value)
      default: break
      }
    }
    texts += 1
  }

  /// F of keys and of values of every layer.
  package var layers: [(key: Double, value: Double)] {
    func mean(_ squares: [Double]) -> Double {
      squares.reduce(0) { $0 + ($1 / Double(max(texts, 1))).squareRoot() } / Double(squares.count)
    }
    return squares.map { (mean($0.key), mean($0.value)) }
  }

  private func add(_ gradient: [Float], to sum: inout [Double]) {
    for i in sum.indices { sum[i] += Double(gradient[i]) * Double(gradient[i]) }
  }
}
