// Which head of an assistant attends as a head of the model does.
//
// In:  what the first tokens of a prompt received, F(A)_v = Σ_u A[u, v], for every head of the
//      layer, and for every head of every layer of the assistant.
// Out: f(i), the assistant's head for head i:
//
//     f(i) = argmax_j |T_i ∩ T'_j| / |T_i ∪ T'_j|       T: the k tokens with the largest F
//
// The paper (arXiv 2508.02751) does not say which of several best heads is taken. Here it is the
// one whose F has the largest cosine with F(A_i), and of those, which after a prompt of one token
// are all, the nearest one: by depth in the model, then by place among the heads. So a model that
// assists itself always finds each head in itself.

package import Tensors
package import Transformers

/// A head of the assistant, and how well it fits.
package struct HeadMatch: Sendable, Equatable {
  /// Head, counted over all layers of the assistant.
  package let head: Int
  /// |T ∩ T'| / |T ∪ T'|, from 0 to 1.
  package let overlap: Double

  /// Head `head` of the assistant, which fits as well as `overlap` says.
  package init(head: Int, overlap: Double) {
    self.head = head
    self.overlap = overlap
  }
}

/// f for every list of `own`, among the lists `others`; the `top` largest of each are compared.
///
/// `order` says which of equal heads come first for a list of `own`. All lists are of one length.
/// Throws at a NaN.
package func matchedHeads<E: Scalar>(
  _ own: [[E]], among others: [[E]], top: Int, order: (Int) -> [Int]
) throws -> [HeadMatch] {
  precondition(!others.isEmpty && top >= 1, "\(others.count) heads, the \(top) largest of each")
  precondition(
    (own + others).allSatisfy { $0.count == others[0].count }, "lists of one length")
  let sets = try others.map { try topK($0, count: top).indices }
  return try mapConcurrently(own.count) { i in
    let set = try topK(own[i], count: top).indices
    var best = (match: HeadMatch(head: 0, overlap: -1), cosine: 0.0)
    for j in order(i) {
      let overlap = jaccard(set, sets[j])
      if overlap < best.match.overlap { continue }
      let cosine = cosine(own[i], others[j])
      if overlap > best.match.overlap || cosine > best.cosine {
        best = (HeadMatch(head: j, overlap: overlap), cosine)
      }
    }
    return best.match
  }
}

/// |a ∩ b| / |a ∪ b| of lists without repetitions; 1 where both are empty.
package func jaccard(_ a: [Int], _ b: [Int]) -> Double {
  let both = Set(a).intersection(b).count
  let any = a.count + b.count - both
  return any == 0 ? 1 : Double(both) / Double(any)
}

/// a · b / (‖a‖ ‖b‖), in Double; 0 where one is 0, and 1 to the bit where they are equal.
private func cosine<E: Scalar>(_ a: [E], _ b: [E]) -> Double {
  var (ab, aa, bb) = (0.0, 0.0, 0.0)
  for (x, y) in zip(a, b) {
    ab += Double(x) * Double(y)
    aa += Double(x) * Double(x)
    bb += Double(y) * Double(y)
  }
  if aa == 0 || bb == 0 { return 0 }
  return a == b ? 1 : min(ab / (aa.squareRoot() * bb.squareRoot()), 1.0.nextDown)
}

/// All heads of an assistant, those nearest to query head `h` of `layer` first.
package func nearestHeads(to h: Int, of layer: LayerShape, in assistant: [LayerShape]) -> [Int] {
  func place(_ i: Int, of n: Int) -> Double { n < 2 ? 0 : Double(i) / Double(n - 1) }
  let (depth, across) = (place(layer.layer, of: layer.layers), place(h, of: layer.queryHeads))
  let heads = assistant.flatMap { other in
    (0..<other.queryHeads).map { g in
      (
        depth: abs(place(other.layer, of: assistant.count) - depth),
        across: abs(place(g, of: other.queryHeads) - across)
      )
    }
  }
  return heads.indices.sorted {
    (heads[$0].depth, heads[$0].across, $0) < (heads[$1].depth, heads[$1].across, $1)
  }
}
