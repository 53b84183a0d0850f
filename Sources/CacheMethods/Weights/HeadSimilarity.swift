// Which heads are alike: centred kernel alignment (CKA), and groups of heads that it suggests.
//
// In:  of every pair of key heads a and b the products X̃_aᵀ X̃_b of their samples, means removed.
// Out: a similarity from 0 to 1 for every pair; groups of equal size, similar heads together.
//
//     HSIC(a, b) = ‖X̃_aᵀ X̃_b‖²        CKA(a, b) = HSIC(a, b) / √(HSIC(a, a) HSIC(b, b))
//
// X̃_a (n, d) holds n samples of head a. CKA does not change when a head is rotated or scaled.
// That is why it suits keys: a group's SVD does not care either. What a sample is comes in two
// readings (`HeadSimilarity`):
//
//     keys        the keys of calibration tokens, X_a = X W_aᵀ, one sample a token. Then
//                 X̃_aᵀ X̃_b = W_a C W_bᵀ with the scatter C = XᵀX − n μ μᵀ: no key is computed
//     official    the rows of (W_a S)ᵀ, one sample for each of the D whitened coordinates. That is
//                 what ReCalKV's code computes. Without the means the two would be nearly the same,
//                 for (W_a S)(W_b S)ᵀ = W_a XᵀX W_bᵀ. But a mean over whitened coordinates depends
//                 on S: the sign of each column of S is free, LAPACK chooses it, and another choice
//                 gives other similarities and other groups (HeadSimilarityTests shows it)
//
// `keys` is ours: it is a property of the model.
//
// Grouping, as published: pairs are visited by falling similarity and fill groups greedily.
//
// Source: ReCalKV, XIANGLONGYAN/ReCalKV at ea548d5, palu/model/modules/svd_linear.py
// (compute_cka_matrix_from_flat, greedy_grouping, generate_permutation).

package import Tensors

/// What is compared where heads are.
package enum HeadSimilarity: String, CaseIterable, Sendable {
  /// Keys of calibration tokens: ours.
  case keys
  /// Whitened coordinates, as the published code has it; depends on signs that LAPACK chooses.
  case official

  /// CKA of the heads of a key weight, (M, M).
  ///
  /// `weight` is (M d, D) and `scaled` the same times S; `scatter` is C (D, D).
  package func callAsFunction(
    weight: Tensor<Double>, scaled: Tensor<Double>, scatter: Tensor<Double>, heads M: Int
  ) -> Tensor<Double> {
    switch self {
    case .keys:
      let half = matmul(weight, scatter, in: .library)
      return headAlignment(matmul(half, transposed: weight, in: .library), heads: M)
    case .official:
      return whitenedAlignment(scaled, heads: M)
    }
  }
}

/// CKA of the blocks of W S, (M d, D): one sample for each of its D columns.
package func whitenedAlignment(_ scaled: Tensor<Double>, heads M: Int) -> Tensor<Double> {
  var centred = scaled
  for i in 0..<scaled.rows {
    let mean = scaled.row(i).reduce(0, +) / Double(scaled.columns)
    for j in 0..<scaled.columns { centred[i, j] -= mean }
  }
  return headAlignment(matmul(centred, transposed: centred, in: .library), heads: M)
}

/// CKA of every pair of heads, (M, M), from all products X̃_aᵀ X̃_b as one matrix (M d, M d).
///
/// A head that does not vary is like no other: its similarity to others is 0, to itself 1.
package func headAlignment(_ products: Tensor<Double>, heads M: Int) -> Tensor<Double> {
  let d = products.rows / M
  func hsic(_ a: Int, _ b: Int) -> Double {
    var sum = 0.0
    for i in a * d..<(a + 1) * d {
      for j in b * d..<(b + 1) * d { sum += products[i, j] * products[i, j] }
    }
    return sum
  }
  let own = (0..<M).map { hsic($0, $0).squareRoot() }
  var alignment = Tensor<Double>(repeating: 0, shape: [M, M])
  for a in 0..<M {
    alignment[a, a] = 1
    for b in a + 1..<max(M, a + 1) where own[a] > 0 && own[b] > 0 {
      alignment[a, b] = hsic(a, b) / own[a] / own[b]
      alignment[b, a] = alignment[a, b]
    }
  }
  return alignment
}

/// Heads in groups of one size.
package struct SimilarHeads: Sendable, Equatable {
  /// The heads of each group, in the order in which the group stacks them.
  package let groups: [[Int]]

  /// Groups of neighbours, as the heads come: Palu's.
  package init(neighbours M: Int, count: Int) {
    precondition(count >= 1 && M % count == 0, "\(M) heads in \(count) groups of one size")
    let size = M / count
    groups = (0..<count).map { Array($0 * size..<($0 + 1) * size) }
  }

  /// Groups of similar heads, filled greedily; equal similarities go to the lower heads first.
  package init(similarity: Tensor<Double>, count: Int) {
    let M = similarity.rows
    precondition(count >= 1 && M % count == 0, "\(M) heads in \(count) groups of one size")
    let size = M / count
    var groups = [[Int]](repeating: [], count: count)
    var home = [Int?](repeating: nil, count: M)
    // 1. Pairs by falling similarity: both free, into the first group with room, which may then
    //    hold one too many; one free, to the other's group if there is room.
    let pairs = (0..<M).flatMap { a in (a + 1..<max(M, a + 1)).map { (a, $0) } }
    let order = pairs.indices.sorted {
      let (s, t) = (
        similarity[pairs[$0].0, pairs[$0].1], similarity[pairs[$1].0, pairs[$1].1]
      )
      return s != t ? s > t : $0 < $1
    }
    for (a, b) in order.map({ pairs[$0] }) {
      switch (home[a], home[b]) {
      case (nil, nil):
        guard let g = groups.firstIndex(where: { $0.count < size }) else { continue }
        groups[g] += [a, b]
        (home[a], home[b]) = (g, g)
      case (let g?, nil) where groups[g].count < size:
        groups[g].append(b)
        home[b] = g
      case (nil, let g?) where groups[g].count < size:
        groups[g].append(a)
        home[a] = g
      default: continue
      }
    }
    // 2. Heads that are left over, the highest first.
    var left = (0..<M).filter { home[$0] == nil }
    for g in groups.indices {
      while groups[g].count < size, let head = left.popLast() { groups[g].append(head) }
    }
    // 3. A group with one too many gives its last one to the first group with room.
    for g in groups.indices {
      while groups[g].count > size {
        let head = groups[g].removeLast()
        guard let room = groups.firstIndex(where: { $0.count < size }) else {
          preconditionFailure("\(count) groups of \(size) have room for \(M) heads")
        }
        groups[room].append(head)
      }
    }
    self.groups = groups
  }

  /// New place to head: the groups one after another.
  package var order: [Int] { Array(groups.joined()) }

  /// Head to new place, the inverse of `order`.
  package var places: [Int] {
    var places = [Int](repeating: 0, count: order.count)
    for (place, head) in order.enumerated() { places[head] = place }
    return places
  }

  /// The rows of a weight (M d, ·) that group g stacks, in its order.
  package func rows(ofGroup g: Int, width d: Int) -> [Int] {
    groups[g].flatMap { Array($0 * d..<($0 + 1) * d) }
  }
}
