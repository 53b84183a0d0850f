// What a comparison compares, and which rows that gives.
//
// In:  methods, budgets, tables, tasks, lengths, samples; a model's layers, its samples.
// Out: a cell for every table, budget and method: the method with its options, or why there is
//      none.
//
//   device   every method with a part of full attention's bytes on the device
//   moved    every method that chooses k rows, with a part of the bytes that `offload` moves
//
// Cells of the first table follow from closed forms before anything runs; those of the second
// from trials (CompareRun.swift).

package import CacheMethods
package import Tasks
package import Transformers

/// What is equal within a table.
package enum ComparedTable: String, Sendable, CaseIterable, Codable {
  /// Bytes on the device.
  case device
  /// Bytes that a decode step moves.
  case moved
}

/// What a comparison compares.
package struct ComparePlan: Sendable {
  /// The methods, those that are always there among them.
  package let methods: [ComparedMethod]
  /// Parts of full attention's bytes.
  package let budgets: [ByteBudget]
  /// Which tables there are.
  package let tables: [ComparedTable]
  /// What is asked.
  package let tasks: [RulerTask]
  /// Tokens of prompt and answer together, at most.
  package let lengths: [Int]
  /// Samples of every task at every length.
  package let samples: Int

  /// A comparison of at least one of each.
  package init(
    methods: [ComparedMethod], budgets: [ByteBudget], tables: [ComparedTable] = [.device, .moved],
    tasks: [RulerTask], lengths: [Int], samples: Int
  ) {
    precondition(
      !budgets.isEmpty && !tables.isEmpty && !tasks.isEmpty && !lengths.isEmpty && samples >= 1,
      "a comparison of nothing")
    (self.methods, self.budgets, self.tables) = (methods, budgets, tables)
    (self.tasks, self.lengths, self.samples) = (tasks, lengths, samples)
  }

  /// The methods of `text`, "all" or names separated by commas, those that are always there first
  /// in the table's order, and then those with options of their own, METHOD:option=value.
  ///
  /// Throws where a name is unknown, or is that of a method that cannot be compared without help.
  package static func methods(
    _ text: String, adding own: [String] = []
  ) throws(EvaluationError) -> [ComparedMethod] {
    let all = ComparedMethod.all
    let names = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    for name in names where text != "all" {
      let found = all.filter { $0.name == name || $0.title == name }
      if found.isEmpty {
        throw EvaluationError(
          "there is no method '\(name)'; there are: "
            + ComparedMethod.all.map(\.title).joined(separator: ", "))
      }
      if case .leftOut(let reason)? = found.first?.sizing {
        throw EvaluationError("\(name) cannot be compared as it is: \(reason)")
      }
    }
    let chosen = all.filter { method in
      text == "all" || ComparedMethod.always.contains(method.name) || names.contains(method.name)
        || names.contains(method.title)
    }
    return try chosen + own.map { text throws(EvaluationError) in try added(text) }
  }

  /// A method with options of its own.
  private static func added(_ text: String) throws(EvaluationError) -> ComparedMethod {
    let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
    let method: any CacheMethod
    do { method = try cacheMethod(text) } catch { throw EvaluationError("\(error)") }
    if method is CompactMethod {
      throw EvaluationError(
        "\(text): its bytes are its own part; take key-bits, whose bytes the comparison sets")
    }
    let options = parts.count > 1 ? parts[1] : ""
    for name in ["budget", "k"]
    where options.split(separator: ",").contains(where: { $0.hasPrefix("\(name)=") }) {
      throw EvaluationError("\(text): the comparison sets \(name) itself; leave it away")
    }
    let hasBudget = type(of: method).optionList.contains { $0.name == "budget" }
    return ComparedMethod(
      parts[0], text, hasBudget ? .budgeted { _ in [options] } : .settings { _ in [options] })
  }

  /// The methods that a model can have.
  func usable(layers: [LayerShape]) -> [ComparedMethod] {
    methods.filter { $0.obstacle(layers: layers) == nil }
  }

  /// The methods that a model cannot have, and why.
  package func leftOut(layers: [LayerShape]) -> [(title: String, reason: String)] {
    methods.compactMap { method in
      method.obstacle(layers: layers).map { (method.title, $0) }
    }
  }

  /// The cells of a table that need no trial: references, and for `device` every method.
  package func cells(
    _ table: ComparedTable, length: Int, promptTokens: [Int], layers: [LayerShape]
  ) throws -> [ComparedCell] {
    var cells: [ComparedCell] = []
    for method in usable(layers: layers) {
      if case .reference = method.sizing {
        cells.append(
          ComparedCell(table: table, budget: nil, title: method.title, try cacheMethod(method.name))
        )
      }
    }
    guard table == .device else { return cells }
    for budget in budgets {
      let bytes = try budget.layerBytes(length: length, layers: layers)
      for method in usable(layers: layers) {
        if case .reference = method.sizing { continue }
        var cell = ComparedCell(table: table, budget: budget, title: method.title, nil)
        cell.budgetBytes = Double(bytes * layers.count)
        switch try method.fitted(layerBytes: bytes, tokens: promptTokens, layers: layers) {
        case .method(let found): cell.method = found
        case .tooSmall(let sentence): cell.note = sentence
        }
        cells.append(cell)
      }
    }
    return cells
  }
}

/// A method under a budget on the samples of one task at one length.
package struct ComparedCell: Sendable {
  /// What is equal in its table.
  package let table: ComparedTable
  /// The part of full attention's bytes; nil for what is the same at every budget.
  package let budget: ByteBudget?
  /// The tables' name of the method.
  package let title: String
  /// The method with its options; nil where none fits.
  package var method: (any CacheMethod)?
  /// What the budget comes to: bytes of all layers held, or bytes a step moved.
  package var budgetBytes: Double?
  /// Why there is no method, or how its k was found.
  package var note: String?

  /// A cell without a budget's bytes.
  init(
    table: ComparedTable, budget: ByteBudget?, title: String, _ method: (any CacheMethod)?
  ) {
    (self.table, self.budget, self.title, self.method) = (table, budget, title, method)
  }
}
