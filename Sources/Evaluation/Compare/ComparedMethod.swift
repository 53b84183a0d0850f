// The methods that a comparison has, and what a budget of bytes means to each.
//
// In:  a method's name, a head's width.
// Out: texts of options, the preferred one first; or the reason why the method is left out.
//
// One place, one line a method. Three kinds:
//
//   budgeted   the option budget says how many bytes a layer has; the texts are tried in their
//              order, since a ring of 16 tokens or a code of d/4 numbers can be too much for a
//              small budget
//   settings   other options set the bytes: of the texts that fit, the one with the most bytes
//   reference  the same at every budget
//
// ByteBudget.swift makes methods of them. A method of this package without a line here fails a
// test; one of another package is budgeted where it has the option budget.
//
// Ours: rows of selecting methods lie once for all query heads of a group, which takes the fewest
// bytes for a given k. The released LRQK keeps its own holders.

import CacheMethods

/// A method of a comparison, and what a budget of bytes means to it.
package struct ComparedMethod: Sendable {
  /// How a budget of bytes becomes options.
  package enum Sizing: Sendable {
    /// The same at every budget.
    case reference
    /// Texts of options by preference, to which `budget` is added, or `k` where bytes moved count.
    case budgeted(@Sendable (_ width: Int) -> [String])
    /// Whole texts of options, among which bytes choose.
    case settings(@Sendable (_ width: Int) -> [String])
    /// Not compared; the sentence says why.
    case leftOut(String)
  }

  /// What the table calls it: "lrqk recommended", "topk".
  package let title: String
  /// What a text calls the method.
  package let name: String
  /// How a budget of bytes becomes options.
  package let sizing: Sizing

  /// A line of the table with a title of its own.
  package init(_ name: String, _ title: String, _ sizing: Sizing) {
    (self.name, self.title, self.sizing) = (name, title, sizing)
  }

  /// A line of the table; the title is the method's name.
  package init(_ name: String, _ sizing: Sizing) { self.init(name, name, sizing) }

  /// The texts METHOD:option=value that a width gives, the preferred one first.
  package func texts(width: Int) -> [String] {
    switch sizing {
    case .reference: [name]
    case .budgeted(let options), .settings(let options):
      options(width).map { $0.isEmpty ? name : "\(name):\($0)" }
    case .leftOut: []
    }
  }

  /// Whether the method chooses k rows at every step, so that k decides what moves.
  package var isFittedByMoves: Bool {
    guard case .budgeted = sizing else { return false }
    return cacheMethods.first { $0.name == name }?.optionList.contains { $0.name == "k" } ?? false
  }

  /// Those that are in every comparison: full attention on both tiers, the oracle, and the control.
  package static let always = ["full", "offload", "topk", "random"]
}

extension ComparedMethod {
  /// All lines: ours, then what can be said of methods of another package.
  package static var all: [ComparedMethod] {
    let named = Set(table.map(\.name))
    return table
      + cacheMethods.filter { !named.contains($0.name) }.map { method in
        method.optionList.contains { $0.name == "budget" }
          ? ComparedMethod(method.name, .budgeted { _ in [""] })
          : ComparedMethod(
            method.name,
            .leftOut("it has no option budget; give its options with --cache"))
      }
  }

  /// The methods of this package, in the order of a report.
  package static let table: [ComparedMethod] = [
    ComparedMethod("full", .reference),
    ComparedMethod("offload", .reference),
    ComparedMethod("lrqk", "lrqk paper", lrqk("preset=paper,on-breakdown=proceed")),
    ComparedMethod("lrqk", "lrqk recommended", lrqk("preset=recommended")),
    ComparedMethod("lrqk-no-hit-miss", lrqk("preset=paper,on-breakdown=proceed")),
    ComparedMethod(
      "lrqk-prefill-offload",
      .leftOut(
        "it answers as lrqk does; its rows come back after the prompt, when a budget is met")),
    ComparedMethod("topk", rings([""])),
    ComparedMethod("top-p", rings(["p=0.95"])),
    ComparedMethod("random", rings(["seed=0"])),
    ComparedMethod("loki", rings(["rank=16", "rank=8", "rank=4", "rank=2"])),
    ComparedMethod("infinigen", rings(["ratio=0.2", "ratio=0.1", "ratio=0.05"], of: [1])),
    ComparedMethod("shadowkv", listed([160, 128, 64, 32, 16, 8, 4].map { "rank=\($0)" })),
    ComparedMethod("quest", rings(["page=16", "page=8", "page=4"])),
    ComparedMethod("sparq", rings(["r=16"])),
    ComparedMethod("key-bits", rings(["bits=4", "bits=2", "bits=1"])),
    ComparedMethod(
      "compact", .leftOut("it is key-bits with the bits that its part asks for")),
    ComparedMethod("double-sparsity", rings(["factor=8", "factor=16", "factor=32"])),
    ComparedMethod("streaming", listed(["sinks=4"])),
    ComparedMethod("snapkv", listed([32, 16, 8, 4].map { "window=\($0)" })),
    ComparedMethod("h2o", listed(["recent=50%"])),
    ComparedMethod("fastgen", listed(["recovery=0.9"])),
    ComparedMethod("kvzip", listed(["sinks=4"])),
    ComparedMethod(
      "fastkvzip",
      .leftOut(
        "its gates are trained: lrqk calibrate fastkvzip, then --cache fastkvzip:gate=FILE")),
    ComparedMethod("pyramidkv", listed([32, 16, 8, 4].map { "window=\($0)" })),
    ComparedMethod("curdkv", listed(["sinks=4"])),
    ComparedMethod("expected-attention", listed(["sinks=4"])),
    ComparedMethod("keydiff", listed([""])),
    ComparedMethod("kivi", .settings { _ in kivi }),
    ComparedMethod("think", .settings { _ in (1...9).map { "ratio=0.\($0)" } + ["ratio=0.95"] }),
    ComparedMethod("zipvl", .settings { _ in zipvl }),
    ComparedMethod("kvquant", .settings { _ in kvquant }),
    ComparedMethod(
      "kvsink",
      .leftOut(
        "a file tells its sinks: lrqk calibrate kvsink, then --cache kvsink:calibration=FILE")),
    ComparedMethod("kv-efficient-vla", listed([16, 32, 64, 128].map { "chunk=\($0)" })),
    ComparedMethod(
      "smallkv",
      .leftOut("it needs a second model: --cache smallkv:assistant=DIR")),
    ComparedMethod("factored", .settings { _ in [""] }),
  ]

  /// Ranks d/4, d/8, ..., 1, with ever smaller rings.
  private static func lrqk(_ options: String) -> Sizing {
    .budgeted { width in
      let ranks = sequence(first: max(1, width / 4)) { $0 > 1 ? $0 / 2 : nil }
      return recents.flatMap { w in ranks.map { "\(options),r=\($0),w=\(w)" } }
    }
  }

  /// Selecting methods with ever smaller rings, rows once for a group of query heads.
  private static func rings(_ options: [String], of recents: [Int] = recents) -> Sizing {
    .budgeted { _ in
      recents.flatMap { w in
        options.map { "\($0)\($0.isEmpty ? "" : ",")w=\(w),transfers=per-key-value-head" }
      }
    }
  }

  /// The tokens of a ring, the preferred number first.
  private static let recents = [16, 8, 4, 2, 1]

  /// The same texts at every width.
  private static func listed(_ options: [String]) -> Sizing { .budgeted { _ in options } }

  /// Bits, and how many of the newest rows stay whole.
  private static let kivi = [2, 3, 4, 8].flatMap { bits in
    [128, 64, 32].map { "bits=\(bits),group=32,residual=\($0)" }
  }

  /// Forms of important and of other rows; at most so many bytes, since the prompt decides.
  private static let zipvl =
    [("int8", "int4"), ("int8", "int2"), ("int4", "int2")].map { "high=\($0),low=\($1)" }
    + ["int8", "int4", "int2"].map { "high=\($0),rest=dropped" }

  /// Bits, and whether outliers are exact.
  private static let kvquant = (2...5).flatMap { bits in
    ["0.99", "1"].map { "bits=\(bits),sparsity=\($0)" }
  }
}
