// The finished model as a mean over moments of its training.
//
// In:  the weights W_t after the steps that a recipe averages.
// Out: their mean, (W_1 + ... + W_n) / n, in Float, added in that order.
//
// Each stage loses a part of what the one before gained. The mean keeps most of both (figures:
// Docs/training.md). It is one model of the same size: nothing is added to what is held or
// computed. The run itself goes on from its own weights, not from the mean.
//
// Source: stochastic weight averaging (Izmailov et al., arXiv 1803.05407, section 3), there at
// equal distances of a cyclic or constant rate. Ours: any steps, of stages that differ in what they
// mix. The paper takes the statistics of batch norms again; there are no batch norms here.

import Tensors

/// The sum of a model's weights at several moments.
package struct WeightAveraging: Sendable, Equatable {
  /// How many moments have been added.
  package internal(set) var count = 0
  /// Their sum, by parameter; empty before the first.
  var values: [[Float]] = []

  /// A mean of no moments yet.
  package init() {}

  /// Adds the weights as they are now.
  mutating func add(_ parameters: [Parameter<Float>]) {
    if count == 0 {
      values = parameters.map(\.values)
    } else {
      for n in values.indices {
        for i in values[n].indices { values[n][i] += parameters[n].values[i] }
      }
    }
    count += 1
  }

  /// `last` with the mean of all moments for values; as it is where there was none.
  package func mean(_ last: [Parameter<Float>]) -> [Parameter<Float>] {
    if count == 0 { return last }
    return last.indices.map { n in
      var mean = last[n]
      mean.values = values[n].map { $0 / Float(count) }
      return mean
    }
  }
}
