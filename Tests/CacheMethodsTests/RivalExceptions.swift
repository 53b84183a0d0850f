// Which method does not have which of the general properties, and why.
//
// In:  the text that names a method, and a property.
// Out: nothing where the method has it; else the reason, and whether it must lack it.
//
// The properties are those of the tests in RivalSetTests, RivalInvarianceTests and
// RivalLedgerTests, which run over `selectingRivals`, `keepingRivals` and `holdingRivals`. A method
// without a line here has all of them. Where a method must be able to choose otherwise, the test
// asks that it does.

/// A property that methods have or lack.
enum RivalProperty {
  /// A budget above the length is full attention to the last bit.
  case identity
  /// The answer is exact attention over the attended rows.
  case exactRows
  /// A constant added to all keys changes no set.
  case keyShift
  /// A rotation of queries and keys together changes no set.
  case rotation
  /// Keys times c and queries by c change nothing.
  case scale
  /// A group of equal queries is one query.
  case groups
  /// What one head holds changes nothing in another one.
  case heads
  /// Bytes are known before the prompt is.
  case bytes
  /// The rows of each head follow from the budget.
  case counts
  /// The same query chooses the same rows again.
  case repeats
}

/// Why a method lacks a property.
struct RivalException {
  let property: RivalProperty
  /// The texts that begin so.
  let method: String
  let reason: String
  /// Whether the property has to fail on the tests' data.
  var mustFail = false
}

/// All exceptions.
private let exceptions: [RivalException] = [
  RivalException(
    property: .keyShift, method: "curdkv", reason: "lengths of keys are scores"),
  RivalException(
    property: .keyShift, method: "keydiff", reason: "directions of keys are scores",
    mustFail: true),
  RivalException(
    property: .keyShift, method: "expected-attention", reason: "a quadratic form of keys scores"),
  RivalException(
    property: .counts, method: "fastgen", reason: "what a head's map needs decides how many rows"),
  RivalException(
    property: .counts, method: "infinigen", reason: "rows near the largest score, however many"),
  RivalException(
    property: .heads, method: "infinigen", reason: "the mean number over the heads is everyone's"),
  RivalException(
    property: .heads, method: "loki:rank=90%",
    reason: "the head that needs most has everyone's rank"
  ),
  RivalException(
    property: .heads, method: "kvzip:budget=10,sinks=2,chunk", reason: "rows of all heads compete"),
  RivalException(
    property: .counts, method: "kvzip:budget=10,sinks=2,chunk",
    reason: "rows of all heads compete"),
  RivalException(
    property: .heads, method: "fastkvzip", reason: "rows of all heads compete"),
  RivalException(
    property: .counts, method: "fastkvzip", reason: "rows of all heads compete"),
  RivalException(
    property: .groups, method: "fastkvzip", reason: "a gate is made for a size of group"),
  RivalException(
    property: .keyShift, method: "quest:page=3,newest=forced,group=max",
    reason: "the bounds of a group's heads shift apart"),
  RivalException(
    property: .exactRows, method: "kv-efficient-vla", reason: "one row for a chunk"),
  RivalException(
    property: .counts, method: "kv-efficient-vla", reason: "a gate decides which chunks stay"),
  RivalException(
    property: .repeats, method: "random", reason: "every step draws anew"),
  RivalException(
    property: .counts, method: "quest", reason: "whole pages, also beyond the budget"),
  RivalException(
    property: .rotation, method: "quest", reason: "bounds are channel by channel", mustFail: true),
  RivalException(
    property: .exactRows, method: "sparq:r=3,k=6", reason: "the mean value is mixed in"),
  RivalException(
    property: .rotation, method: "sparq", reason: "some channels as they are", mustFail: true),
  RivalException(
    property: .keyShift, method: "double-sparsity", reason: "labels are quantised"),
  RivalException(
    property: .rotation, method: "double-sparsity", reason: "some channels as they are",
    mustFail: true),
  RivalException(
    property: .keyShift, method: "key-bits", reason: "keys are rounded to few bits"),
  RivalException(
    property: .groups, method: "key-bits:map=closed-form",
    reason: "G equal queries have √G times the singular values, so scales round elsewhere"),
  RivalException(
    property: .rotation, method: "key-bits:k=6", reason: "channels as they are are rounded",
    mustFail: true),
  RivalException(
    property: .rotation, method: "key-bits:bits=1", reason: "signs of channels as they are",
    mustFail: true),
  RivalException(
    property: .rotation, method: "key-bits:map=random", reason: "its rotation is another one then",
    mustFail: true),
  RivalException(
    property: .counts, method: "top-p", reason: "the fewest rows that have the mass"),
  RivalException(
    property: .groups, method: "random", reason: "every head draws its own rows"),
  RivalException(
    property: .exactRows, method: "shadowkv", reason: "keys are rebuilt from a factor"),
  RivalException(
    property: .heads, method: "shadowkv", reason: "one factor for the keys of all heads"),
  RivalException(
    property: .keyShift, method: "shadowkv", reason: "outliers are found by angles"),
  RivalException(
    property: .heads, method: "zipvl", reason: "one set of important tokens for all heads"),
  RivalException(
    property: .counts, method: "zipvl:tau=0.9,probes=50%",
    reason: "attention decides how many rows stay"),
  RivalException(
    property: .rotation, method: "infinigen:speculation=own,skew=none",
    reason: "a part of the columns as they are", mustFail: true),
]

/// The exception of the method that `text` names; nil where it has the property.
func exception(_ text: String, _ property: RivalProperty) -> RivalException? {
  exceptions.first { $0.property == property && text.hasPrefix($0.method) }
}

/// The method of `text` with room for more rows than there are tokens, or in which rows are exact.
func roomy(_ text: String) -> String {
  let parts = text.split(separator: ":", maxSplits: 1)
  let name = String(parts[0])
  let exact = [
    "kivi": ["residual=1200"], "think": ["ratio=0"], "zipvl": ["tau=1", "high=f32"],
  ]
  // What else decides how many rows there are.
  let others = [
    "streaming": "w", "kv-efficient-vla": "w", "fastgen": "recovery", "infinigen": "alpha",
    "top-p": "p",
  ]
  let replaced =
    ["k", "budget", others[name] ?? "k"]
    + (exact[name] ?? []).map { String($0.prefix { $0 != "=" }) }
  let kept = (parts.count > 1 ? parts[1] : "").split(separator: ",").filter { pair in
    !replaced.contains { pair.hasPrefix($0 + "=") }
  }
  let room = ["infinigen": ["alpha=1000"], "fastgen": ["recovery=1"], "top-p": ["p=1"]][name] ?? []
  let more = exact[name] ?? room + ["budget=1000"]
  return "\(name):" + (kept.map(String.init) + more).joined(separator: ",")
}
