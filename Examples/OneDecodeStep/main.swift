// Example: a cache, a prompt, one decode step.
//
// In:  random numbers for a layer of 4 query and 2 key/value heads of width 16, 200 tokens.
// Out: which tokens each query head selected, hits and misses, what was copied between the tiers,
//      and how far attention is from full attention.
//
//   swift run one-decode-step

import LRQK
import Tensors
import TieredMemory

let (queryHeads, keyValueHeads, width, tokens) = (4, 2, 16, 200)

// 1. Rows for a prompt and one token more. Keys lie near four directions, so that a few of them
//    matter to a query; query and key of a head share these directions.
func rows(_ head: Int, _ stream: UInt64, strength: Double) -> Tensor<Double> {
  let directions = Tensor<Double>.normal(shape: [4, width], seed: 7, stream: UInt64(head))
  let mixture = Tensor<Double>.normal(shape: [tokens + 1, 4], seed: 8, stream: stream)
  let noise = Tensor<Double>.normal(shape: [tokens + 1, width], seed: 9, stream: stream)
  return matmul(mixture, directions, in: .reference).map { strength * $0 }
    .adding(noise, times: 0.3)
}
let queries = (0..<queryHeads).map { rows($0 / 2, UInt64($0), strength: 0.8) }
let keys = (0..<keyValueHeads).map { rows($0, UInt64(10 + $0), strength: 0.8) }
let values = (0..<keyValueHeads).map { rows(20 + $0, UInt64(20 + $0), strength: 0.5) }

// 2. A cache that keeps codes of rank 4 for all tokens, and 24 selected and 8 recent rows. The
//    preset `recommended` has closed-form codes, one set of them for each key/value head.
let parameters = try Parameters(.recommended, rank: 4, selected: 24, recent: 8)
var cache = try LRQKCache<Double>(
  queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width, parameters: parameters)
var tiers = Tiers()

// 3. The prompt: factorised, and offloaded to the host.
let prompt = 0..<tokens
try cache.prefill(
  queries: queries.map { $0.rows(prompt) }, keys: keys.map { $0.rows(prompt) },
  values: values.map { $0.rows(prompt) }, tiers: &tiers)

// 4. One token: one row of every head.
let newest = tokens..<tokens + 1
let q = Tensor(joiningRows: queries.map { $0.rows(newest) })
let step = try cache.decode(
  queries: q, keys: Tensor(joiningRows: keys.map { $0.rows(newest) }),
  values: Tensor(joiningRows: values.map { $0.rows(newest) }), tiers: &tiers)

// 5. What happened.
for h in 0..<queryHeads {
  let exact = fullAttention(query: q.row(h), keys: keys[h / 2], values: values[h / 2])
  let full = Tensor(shape: [1, width], elements: exact)
  let difference = step.attention.rows(h..<h + 1) - full
  let error = (difference.squaredNorm / full.squaredNorm).squareRoot()
  print("query head \(h) selected \(step.selected[h].map(String.init).joined(separator: " "))")
  let tenths = Int((1000 * error).rounded())
  print("  attention differs from full attention by \(tenths / 10).\(tenths % 10) %")
}
for head in 0..<keyValueHeads {
  let wanted = Set(step.selected[2 * head] + step.selected[2 * head + 1]).count
  let missed = step.missedRows[head]
  print("key/value head \(head): \(wanted) rows wanted, \(wanted - missed) hits, \(missed) misses")
}
for event in tiers.ledger.events {
  print(
    "step \(event.step), head \(event.head): \(event.reason.rawValue), \(event.rows) rows, "
      + "\(event.bytes) bytes")
}
