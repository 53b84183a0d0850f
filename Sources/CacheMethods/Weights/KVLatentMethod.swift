// KV-Latent as a weight method: every head keeps one channel of r, and RoPE other frequencies.
//
// Kept:   keys of d / r_qk numbers and values of d / r_vo for each key/value head.
// A step: ordinary attention of narrow heads; scores are divided by √d_qk.
// Bytes:  l · 4 · M (d_qk + d_vo) a layer under `factored`; other methods hold rows of one width,
//         zeros included: l · 4 · 2 M max(d_qk, d_vo) under `full`.
//
// The slices and the frequencies are KVLatentSlices.swift and RotaryScaling.swift; what runs them
// is NarrowHeads.swift. Biases of queries, keys and values are sliced with their rows; that of the
// output stays. Norms of queries and keys (Qwen 3) are over all channels of a head, so a model that
// has them is refused.
//
// With ratio 1 and standard frequencies the folder is the model. With ratio 2 and resampled ones,
// the paper's, what it says is noise until it is trained on, which is how it is meant.
//
// Source: arXiv 2507.11273; ShiLuohe/KV-Latent at 5adc336, modelcodes/modeling_llama3.py.

import Tensors
package import Transformers

/// Fewer channels in every head.
package struct KVLatentMethod: WeightMethod {
  package static let name = "kvlatent"
  package static let summary = "KV-Latent: every head keeps one channel of a few; to be trained on"
  package static let paper = "arXiv 2507.11273"
  package static let optionList = [
    MethodOption("key", "one of so many channels of queries and keys is kept", defaultValue: "2"),
    MethodOption("value", "one of so many channels of values is kept", defaultValue: "2"),
    MethodOption(
      "frequencies", "of the pairs that are left: resampled (the paper's), standard (their own)",
      defaultValue: "resampled"),
  ]

  /// One of so many channels of queries and keys is kept, r_qk.
  package let key: Int
  /// One of so many channels of values is kept, r_vo.
  package let value: Int
  package let frequencies: NarrowHeadSizes.Frequencies

  package init(_ given: MethodOptions) throws(MethodError) {
    key = try given.integer("key", in: 1...4096) ?? 2
    value = try given.integer("value", in: 1...4096) ?? 2
    frequencies =
      try given.choice("frequencies", of: NarrowHeadSizes.Frequencies.self) ?? .resampled
  }

  package var options: [(name: String, value: String)] {
    [("key", "\(key)"), ("value", "\(value)"), ("frequencies", frequencies.rawValue)]
  }

  /// The widths of a layer's heads.
  package func sizes(of layer: AttentionWeights) throws(MethodError) -> NarrowHeadSizes {
    let d = layer.shape.width
    for (name, ratio) in [("key", key), ("value", value)] where d % ratio != 0 {
      throw MethodError("kvlatent: \(name)=\(ratio) does not divide the width \(d) of a head")
    }
    if layer.keyNorm != nil || layer.queryNorm != nil {
      throw MethodError(
        "kvlatent: this model has norms of queries and keys over all channels of a head, and "
          + "leaving some out is not defined for them")
    }
    let sizes = NarrowHeadSizes(
      heads: layer.shape.keyValueHeads, keyWidth: d / key, valueWidth: d / value,
      frequencies: frequencies)
    if case .failure(let error) = sizes.rotary(layer.shape.rotary, width: d) {
      // Where standard frequencies would do, they are named.
      var standard = sizes
      standard.frequencies = .standard
      let isWayOut =
        frequencies == .resampled
        && (try? standard.rotary(layer.shape.rotary, width: d).get()) != nil
      throw MethodError(
        "kvlatent: \(error.sentence)" + (isWayOut ? "; use frequencies=standard" : ""))
    }
    return sizes
  }

  package func gatherer(of layer: AttentionWeights) throws(MethodError) -> (any RowGatherer)? {
    _ = try sizes(of: layer)
    return nil
  }

  package func prepare(_ source: ConversionSource) throws -> any LayerConversion {
    ChannelSlices(source: source, method: self)
  }
}

/// The layers of a model and the channels that they keep.
private struct ChannelSlices: LayerConversion {
  let source: ConversionSource
  let method: KVLatentMethod

  func convert(_ layer: Int) throws -> ConvertedLayer {
    let weights = source.layers[layer]
    let (rqk, rvo) = (method.key, method.value)
    var tensors: [(name: String, tensor: Tensor<Double>)] = []
    for (name, part, ratio) in [
      ("q_proj", weights.query, rqk), ("k_proj", weights.key, rqk), ("v_proj", weights.value, rvo),
    ] {
      tensors.append(("\(name).weight", everyRow(ratio, of: part.widened)))
      if let bias = part.bias {
        let kept = stride(from: 0, to: bias.count, by: ratio).map { Double(bias[$0]) }
        tensors.append(("\(name).bias", Tensor(shape: [kept.count], elements: kept)))
      }
    }
    tensors.append(("o_proj.weight", everyColumn(rvo, of: weights.output.widened)))
    if let bias = weights.output.bias {
      tensors.append(
        ("o_proj.bias", Tensor(shape: [bias.count], elements: bias.map(Double.init))))
    }
    return ConvertedLayer(
      .narrowHeads(try method.sizes(of: weights)), kept: [], tensors: tensors,
      keyError: leftOut(weights.key.widened, rqk), valueError: leftOut(weights.value.widened, rvo))
  }

  /// ‖rows that are left out‖ / ‖W‖; 0 for W = 0.
  private func leftOut(_ weight: Tensor<Double>, _ ratio: Int) -> Double {
    let all = weight.squaredNorm
    let kept = everyRow(ratio, of: weight).squaredNorm
    return ratio == 1 || all == 0 ? 0 : max(0, 1 - kept / all).squareRoot()
  }
}
