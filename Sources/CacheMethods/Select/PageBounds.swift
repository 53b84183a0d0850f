// How large q · k can be anywhere in a page, from two numbers a channel.
//
// In:  keys, one after another; a query.
// Out: for every page of consecutive tokens a bound that no q · k of the page exceeds.
//
//     ub_p = Σ_c max(q_c · min_{p,c}, q_c · max_{p,c})       min and max over the keys of page p
//          = Σ_c q⁺_c · max_{p,c} + q⁻_c · min_{p,c}         q⁺ = max(q, 0), q⁻ = min(q, 0)
//
// Pages start at token 0; the last one may be short, and its bound is over its real keys. The
// largest and the smallest key of a channel lie side by side, so that a bound is one chain of 2 d
// products, of which every second one is 0. A fused multiply-add never falls when its product
// grows. So the bound holds to the last bit, and for a page of one key it is q · k itself.

package import Tensors
package import TieredMemory

/// The pages of one key/value head, on the device.
package struct PageBounds<E: Scalar>: Sendable {
  /// Tokens of a full page.
  package let page: Int
  /// Elements of a key, d.
  package let width: Int
  /// Keys taken so far.
  package private(set) var tokens = 0
  /// Of each page and channel the largest and the smallest element, (pages, d, 2).
  private var ends: DeviceBuffer<E>

  /// The pages of `keys`, (l, d); `label` names the buffer.
  package init(
    keys: Tensor<E>, page: Int, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    (self.page, width) = (page, keys.columns)
    let pages = (keys.rows + page - 1) / page
    ends = try device.allocate(label, count: pages * 2 * width, of: 0)
    for t in 0..<keys.rows { fold(keys.elements[t * width..<(t + 1) * width]) }
  }

  /// Pages so far, the last one perhaps short.
  package var count: Int { ends.count / (2 * width) }

  /// Takes the next token's key, (d).
  package mutating func append(
    _ key: [E], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    if tokens == count * page {
      try device.resize(&ends, count: ends.count + 2 * width, fill: 0)
    }
    fold(key[...])
  }

  /// Widens the page of the next token by its key.
  ///
  /// A NaN stays, so that scores show it.
  private mutating func fold(_ key: ArraySlice<E>) {
    let (first, isNew, d) = (tokens / page * 2 * width, tokens % page == 0, width)
    ends.withMutableSpan { ends in
      for c in 0..<d {
        let x = key[key.startIndex + c]
        let i = first + 2 * c
        if isNew || x > ends[i] || x.isNaN { ends[i] = x }
        if isNew || x < ends[i + 1] || x.isNaN { ends[i + 1] = x }
      }
    }
    tokens += 1
  }

  /// ub of `pages` for the query `q`, (d).
  package func bounds(_ q: [E], pages: Range<Int>) -> [E] {
    let parts = q.flatMap { [Swift.max($0, 0), Swift.min($0, 0)] }
    var bounds: [E] = zeros(pages.count)
    var out = bounds.mutableSpan
    E.chainRowScores(
      rows: ends.elements.span.extracting(
        pages.lowerBound * 2 * width..<pages.upperBound * 2 * width),
      width: 2 * width, q: parts.span, into: &out)
    return bounds
  }

  /// The largest and the smallest key of every page, each (pages, d).
  package var largestAndSmallest: (largest: Tensor<E>, smallest: Tensor<E>) {
    func every(second i: Int) -> Tensor<E> {
      Tensor(
        shape: [count, width],
        elements: stride(from: i, to: ends.count, by: 2).map { ends.elements[$0] })
    }
    return (every(second: 0), every(second: 1))
  }
}
