// One method's result on a text.
//
// In:  the records of windows, the bytes of the scored text, the model's layers.
// Out: a row: means over scored tokens, bytes held and moved.
//
//   mean nll = Σ nll / n     standard error = s / sqrt(n)     bits per byte = Σ nll / log 2 / bytes

package import CacheMethods
import Foundation
import Transformers

/// One method's result.
package struct PerplexityRow: Sendable, Equatable, Encodable {
  /// The method's brief text.
  package let cache: String
  /// All options in effect, and the method's name.
  package let options: [String: String]
  /// Which part of the run's windows the row is about, "2/3"; nil for all.
  package let shard: String?
  /// What the method's budget came to after a window's prompt.
  package let budget: BudgetUse
  /// How many tokens were scored.
  package let tokens: Int
  /// Mean of −log p, in nats.
  package let meanNegativeLogLikelihood: Double
  /// Standard error of that mean, as if tokens were independent; nil for one token.
  package let standardError: Double?
  /// exp of the mean.
  package let perplexity: Double
  /// Σ -log₂ p over the bytes of the scored tokens.
  package let bitsPerByte: Double
  /// Share of steps whose likeliest token is the first method's.
  package let sameTopToken: Double
  /// Mean over windows, on the device, at their ends.
  package let residentBytes: Int
  /// Bytes that a decode step moved, both ways, mean over all steps.
  package let movedBytesPerToken: Double
  /// Share of the rows needed from the host that lay on the device; nil where none was needed.
  package let hitRate: Double?
  /// Where the method attended to everything: what would make it leave tokens out.
  package let note: String?

  /// A method's result from at least one window; `first` are those of the first method.
  ///
  /// `bytes` are the UTF-8 bytes of the scored tokens, `layers` the model's.
  init(
    _ method: any CacheMethod, _ shard: Shard?, _ records: [WindowRecord], first: [WindowRecord],
    _ windows: PerplexityWindows, bytes: Int, layers: [LayerShape]
  ) {
    let length = windows.context + windows.stride
    let losses = records.flatMap(\.losses)
    let n = Double(losses.count)
    let total = losses.reduce(0, +)
    let mean = total / n
    let variance = losses.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / max(1, n - 1)
    let same = zip(records.flatMap(\.tops), first.flatMap(\.tops)).count { $0.0 == $0.1 }
    func sum(_ count: (WindowRecord) -> Int) -> Int { records.reduce(0) { $0 + count($1) } }
    let (hits, misses) = (sum(\.hitRows), sum(\.missedRows))
    cache = method.brief
    options = Dictionary(method.options.map { ($0.name, $0.value) }) { first, _ in first }
      .merging(["method": type(of: method).name]) { $1 }
    self.shard = shard?.description
    budget = method.budgetUse(tokens: windows.context, layers: layers)
    tokens = losses.count
    meanNegativeLogLikelihood = mean
    standardError = n > 1 ? (variance / n).squareRoot() : nil
    perplexity = exp(mean)
    bitsPerByte = total / log(2) / Double(max(1, bytes))
    sameTopToken = Double(same) / n
    residentBytes = sum(\.residentBytes) / records.count
    movedBytesPerToken = Double(sum(\.movedBytes)) / n
    hitRate = hits + misses == 0 ? nil : Double(hits) / Double(hits + misses)
    note = method.nothingLeftOut(length: length, layers: layers)
  }
}
