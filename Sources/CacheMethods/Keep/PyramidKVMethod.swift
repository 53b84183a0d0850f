// PyramidKV: SnapKV's rows, more of them in early layers and fewer in late ones.
//
// Kept:   of every holder in layer x the last w rows and the best older ones, n_x in all; on the
//         device; nothing on the host.
// A step: nothing is dropped any more; the new row is added.
// Bytes:  Σ_x holders · min(l, n_x) · 2 d · 4 after the prompt, a row a holder and layer more at
//         each step.
//
// Scores, pooling and groups are SnapKV's (SnapKVMethod.swift). The budget B is a mean over the L
// layers, and n_x falls along a line from `most` to `least`:
//
//     rule=official   C = B − w,  least = C div β,  most = 2C − least          whole numbers
//                     if most >= l − w:  most = l − w,  least = 2C − most
//                     n_x = most − x ((most − least) div (L − 1)),  and w window rows on top
//                     l < 2C: every layer B rows;   l <= B: all rows
//     rule=kvpress    C = (w + B) − w,  least = C / β,  the same clamp         doubles
//                     n_x = round(most − x (most − least) / (L − 1)), half to even, window inside
//                     unless l >= most >= least >= w: every layer round(B) rows
//
// The official slope is cut to a whole number, so the mean of its rows is above B, by less than
// (L − 1) / 2. kvpress's mean is B within half a row.
//
// Source: Cai et al., arXiv 2406.02069; code Zefan-Cai/KVCache-Factory at c97f9d7,
// pyramidkv/pyramidkv_utils.py; NVIDIA/kvpress at 8bb29b9, pyramidkv_press.py. Their budgets as
// ours: max_capacity_prompt = B; l (1 − compression_ratio) = B, where our B is a whole number.
// A model of one layer divides by zero in both codes; here it has B rows.

import Tensors
public import Transformers

/// How the rows of a layer follow from their mean.
package enum PyramidRule: String, Sendable, CaseIterable {
  /// Whole numbers, the window on top of the count.
  case official
  /// Doubles, rounded once, the window inside the count.
  case kvpress
}

/// A place in a stack of layers.
package struct LayerPlace: Sendable {
  let layer: Int
  let layers: Int

  /// Layer `layer` of `layers`, from 0.
  package init(_ layer: Int, of layers: Int) {
    precondition(0 <= layer && layer < layers, "layer \(layer) of \(layers)")
    self.layer = layer
    self.layers = layers
  }
}

/// n_x + w of the official code: rows that a holder in this layer keeps of `l`, the window among
/// them.
///
/// `B` is max_capacity_prompt.
package func pyramidRows(
  capacity B: Int, window w: Int, tokens l: Int, beta: Int, at place: LayerPlace
) -> Int {
  let C = B - w
  if l <= B { return l }
  if l < 2 * C || place.layers == 1 { return B }
  var least = C / beta
  var most = 2 * C - least
  if most >= l - w {
    most = l - w
    least = 2 * C - most
  }
  return most - place.layer * ((most - least) / (place.layers - 1)) + w
}

/// n_x of kvpress: rows that a holder in this layer keeps of `l`, the window among them.
///
/// `B` is the mean, l (1 − compression_ratio).
package func pyramidRows(
  mean B: Double, window w: Int, tokens l: Int, beta: Double, at place: LayerPlace
) -> Int {
  let (w, tokens) = (Double(w), Double(l))
  let C = (w + B) - w
  var least = C / beta
  var most = 2 * C - least
  if most >= tokens - w {
    most = tokens - w
    least = 2 * C - most
  }
  let isLine = tokens >= most && most >= least && least >= w && place.layers > 1
  let slope = isLine ? (most - least) / Double(place.layers - 1) : 0
  let rows = isLine ? most - Double(place.layer) * slope : B
  return min(Int(rows.rounded(.toNearestOrEven)), l)
}

/// SnapKV with a budget that falls with depth.
public struct PyramidKVMethod: KeepingMethod {
  /// The name "pyramidkv".
  public static let name = "pyramidkv"
  /// Its paper, on arXiv.
  public static let paper: String? = "2406.02069"
  /// What `lrqk methods` says of it.
  public static let summary = "PyramidKV: SnapKV's rows, many in early layers and few in late ones"
  /// budget, dropped, window, kernel, pooling, group, rule, beta.
  public static let optionList: [MethodOption] =
    SnapKVMethod.optionList + [
      MethodOption(
        "rule",
        "rows of a layer: official (window on top of the count), kvpress (window inside)",
        defaultValue: "official"),
      MethodOption(
        "beta", "the last layer has 1/beta of the mean, 1 is SnapKV", defaultValue: "20"),
    ]
  /// The mean over the layers.
  public let budget: KeptBudget
  private let scoring: SnapScoring
  private let rule: PyramidRule
  private let beta: Int

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    scoring = try SnapScoring(given)
    rule = try given.choice("rule", of: PyramidRule.self) ?? .official
    beta = try given.integer("beta", in: 1...Size.most) ?? 20
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + scoring.options + [("rule", rule.rawValue), ("beta", "\(beta)")]
  }
  /// The fewest rows that a budget may leave: the window.
  public var leastRows: Int { scoring.window }
  /// Newest tokens that always stay: the window.
  public var recentTokens: Int { scoring.window }

  /// A keeper that scores as SnapKV does.
  public func keeper(for layer: LayerShape) -> SnapKeeper { SnapKeeper(scoring: scoring) }

  /// Rows of each holder in this layer, `count` being the mean over the layers.
  public func rows(count: Int, tokens: Int, layer: LayerShape) -> Int {
    let (w, place) = (scoring.window, LayerPlace(layer.layer, of: layer.layers))
    if tokens <= w { return tokens }
    return switch rule {
    case .official:
      pyramidRows(capacity: count, window: w, tokens: tokens, beta: beta, at: place)
    case .kvpress:
      pyramidRows(
        mean: Double(count), window: w, tokens: tokens, beta: Double(beta), at: place)
    }
  }
}
