// Which channels of keys matter for q · k: Double Sparsity's calibration.
//
// In:  queries and keys after RoPE, of one prompt or of many.
// Out: how important every channel of every query head is.
//
//     s_c = mean over tokens t of |q_{t,c} · k_{t,c}|       a token's query with its own key
//     statistic=q, k: mean of |q_{t,c}|, of |k_{t,c}|
//
// Keys are repeated for the query heads of a group, so every query head has its own s; a group's
// is their mean, largest or sum, taken by whoever reads s. Sums run over all prompts that were
// added. The published calibration tests one name and stores under another
// (config/offline_calibration.py), so that every batch replaces the one before and only the last
// one counts.

package import Tensors
package import Transformers

/// What makes a channel important.
package enum ChannelImportance: String, Sendable, CaseIterable {
  /// |q · k| of a token with itself.
  case qk
  /// The size of the query's element, |q|.
  case q
  /// The size of the key's element, |k|.
  case k
}

/// Sums over tokens, by query head and channel.
package struct ChannelStatistic<E: Scalar>: Sendable {
  /// What is summed.
  package let importance: ChannelImportance
  /// Σ over tokens, (H, d).
  private var sums: [[E]] = []
  /// Tokens in the sums.
  package private(set) var tokens = 0

  /// No tokens yet.
  package init(_ importance: ChannelImportance) { self.importance = importance }

  /// Adds the tokens of a prompt: Q of each query head and K of each key/value head, (l, d).
  package mutating func add(queries: [Tensor<E>], keys: [Tensor<E>]) throws {
    let G = queries.count / keys.count
    let importance = self.importance
    let new = try mapConcurrently(queries.count) { h in
      let (q, k) = (queries[h], keys[h / G])
      var sums: [E] = zeros(q.columns)
      for i in 0..<q.count {
        let product =
          switch importance {
          case .qk: q.elements[i] * k.elements[i]
          case .q: q.elements[i]
          case .k: k.elements[i]
          }
        sums[i % q.columns] += abs(product)
      }
      return sums
    }
    sums = sums.isEmpty ? new : zip(sums, new).map { zip($0, $1).map { $0 + $1 } }
    tokens += queries[0].rows
  }

  /// s of every query head, (H, d).
  package var means: [[E]] { sums.map { $0.map { $0 / E(tokens) } } }
}

extension ChannelStatistic: RowGatherer {
  /// Adds a stretch of a calibration's text.
  package mutating func add(_ rows: PromptRows) throws {
    try add(queries: rows.queries.map { $0.converted() }, keys: rows.keys.map { $0.converted() })
  }
}
