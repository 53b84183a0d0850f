// A model that is given more heads before it goes on: so one trained model begins others, of other
// groupings.
//
// In:  a trained model of M key/value and H query heads; larger numbers of both; a seed.
// Out: a model that computes the same, until the first step.
//
//   key/value heads   M' = c M     head m becomes c copies, side by side
//   query heads       H' = e H     head h becomes e heads: itself, and e − 1 new ones whose W_Q is
//                                  random and whose columns of W_O are zero
//
// Nothing changes yet: a copy is attended to as the head was, and what a new head finds is
// multiplied by zero. Training tells them apart: copies have different queries, and a new head's
// columns of W_O have a gradient at once. A cache is c times as large.
//
//   G = 2:  q q   q q        c = 2, G = 1:  q  q  q  q        e = 2, G = 4:  q + q +   q + q +
//           kv1   kv2                       kv1 kv1 kv2 kv2                  kv1       kv2
//
// Source: ours. It is the opposite of GQA's way, which begins with the mean of several heads
// (arXiv 2305.13245, section 2.1); that a model can grow without a change of what it computes is
// Net2Net's observation (arXiv 1511.05641).

import Tensors
import Transformers

/// Numbers of heads that a model is given before it goes on.
package struct MoreHeads: Sendable, Equatable {
  /// H', query heads.
  package let queries: Int
  /// M', key/value heads.
  package let keyValues: Int

  /// Reads "heads" of a recipe, for a model of this shape.
  ///
  /// Throws where the model has other attention than MHA, GQA and MQA, or where the numbers are no
  /// multiples of those that it has.
  init(_ given: ConfigurationReader, for shape: ModelShape) throws {
    var heads = given
    guard case .grouped(let M) = shape.attention else {
      throw heads.fault("query", .inconsistent("only MHA, GQA and MQA get more heads"))
    }
    func number(_ key: String, _ before: Int) throws -> Int {
      let number = try heads.require(key, try heads.integer(key, in: 1...256))
      if number % before != 0 {
        throw heads.fault(key, .inconsistent("\(number) is no multiple of the model's \(before)"))
      }
      return number
    }
    queries = try number("query", shape.queryHeads)
    keyValues = try number("key_value", M)
    if queries % keyValues != 0 {
      throw heads.fault("key_value", .inconsistent("\(keyValues) does not divide \(queries)"))
    }
    try heads.finish()
  }
}

extension TrainedModel {
  /// The model with so many heads; new ones are drawn from the streams of `seed`, as every
  /// parameter's start is.
  func with(_ heads: MoreHeads, seed: UInt64) -> TrainedModel {
    guard case .grouped(let M) = shape.attention else {
      preconditionFailure("MoreHeads refuses other attention")
    }
    let (d, D, H) = (shape.headWidth, shape.hiddenSize, shape.queryHeads)
    let (c, e) = (heads.keyValues / M, heads.queries / H)
    var larger = shape
    larger.queryHeads = heads.queries
    larger.attention = .grouped(keyValueHeads: heads.keyValues)
    let block = d * D  // numbers of a head
    let grown = zip(parameters, larger.parameterPlans).enumerated().map { n, pair in
      let (old, plan) = pair
      var values = old.values
      switch old.name.split(separator: ".").suffix(2).first {
      case "k_proj", "v_proj":
        // (M' d, D): head m' is head m' / c.
        values = (0..<heads.keyValues).flatMap { m in
          old.values[m / c * block..<(m / c + 1) * block]
        }
      case "q_proj":
        // (H' d, D): head e h is head h, the others are drawn.
        values = plan.values(seed: seed, stream: n)
        for h in 0..<H {
          values.replaceSubrange(
            e * h * block..<(e * h + 1) * block, with: old.values[h * block..<(h + 1) * block])
        }
      case "o_proj":
        // (D, H' d): the columns of head e h are those of head h, the others zero.
        let none: [E] = zeros((e - 1) * d)
        values = (0..<D * H).flatMap { n in Array(old.values[n * d..<(n + 1) * d]) + none }
      default: break
      }
      return Parameter(name: old.name, shape: plan.shape, values: values)
    }
    return TrainedModel(larger, grown)
  }
}

extension ModelShape {
  /// config.json `bytes` with this shape's heads, otherwise as it is.
  ///
  /// The width of a head is written out: where it is absent, readers divide the hidden size by the
  /// number of heads.
  func configuration(from bytes: [UInt8]) throws -> [UInt8] {
    guard case .grouped(let M) = attention else { return bytes }
    let changed = [
      ("num_attention_heads", queryHeads), ("num_key_value_heads", M), ("head_dim", headWidth),
    ]
    let members = try JSONValue(parsing: bytes, depthLimit: 16).objectValue ?? []
    let kept = members.filter { member in !changed.contains { $0.0 == member.key } }
    let new = changed.map { JSONValue.Member($0.0, .integer($0.1)) }
    return Array(JSONValue.object(kept + new).fileText.utf8)
  }
}
