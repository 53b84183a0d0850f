// LRQK with ranks=by-model: all layers share out the columns of their codes.
//
// In:  the layers of one sequence, each with its whole prompt.
// Out: a rank for every group of every layer; then each layer ends its prompt.
//
//     Σ ranks over all groups of all layers = r · groups, the largest σ² first
//                                                           (LRQK's SpectrumRanks.swift)
//
// A layer knows its σ when its prompt is there, and its rank when the last layer's is. Until then K
// and V of the prompt lie on the device, in every layer: that is the price, a peak as high as that
// of methods that decide on rows jointly (KVzipMethod.swift). ranks=by-layer has no such price.
// Ties go to the lower layer, group and index. A prompt shorter than max(k, r) waits for the decode
// step that makes it as long, in all layers.

import LRQK
import TieredMemory
import Tensors
import Transformers

extension LRQKLayer {
  /// Ends the prompts of all layers, as soon as all are long enough; once.
  static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {
    var layers = caches.compactMap { $0 as? LRQKLayer }
    precondition(layers.count == caches.count, "every layer has the same method")
    guard layers.allSatisfy(\.cache.hasWholePrompt) else { return }
    guard case .spectrum(_, let energy) = layers[0].cache.parameters.ranks else { return }
    let spectra = try layers.map { try $0.cache.promptSpectra() ?? [] }
    let widths = layers.map(\.layer.width)
    guard Set(widths).count == 1 else {
      throw MethodError(
        "\(LRQKMethod.name): ranks=by-model compares spectra of one width, and these layers have "
          + "\(Set(widths).sorted().map(String.init).joined(separator: " and ")); use by-layer")
    }
    let ranks = try spectrumRanks(
      Array(spectra.joined()), rank: layers[0].cache.parameters.rank, energy: energy)
    var first = 0
    for i in layers.indices {
      let own = first..<first + spectra[i].count
      try layers[i].completePrompt(ranks: Array(ranks[own]), tiers: &tiers)
      caches[i] = layers[i]
      first = own.upperBound
    }
  }
}
