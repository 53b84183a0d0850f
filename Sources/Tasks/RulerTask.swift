// The thirteen tasks of RULER, by name.
//
// In:  a name such as niah_multikey_2.
// Out: which generator makes it with which sizes, how many tokens an answer may have, how it is
//      scored.
//
//   needles         needle(s) in a haystack, asked for by key           Needles.swift
//   vt              variables that have one value, through a chain      VariableTracking.swift
//   cwe, fwe        the most frequent words                             CommonWords,
//                   FrequentWords.swift
//   qa_1, qa_2      questions on documents                              Questions.swift
//
// Source: Hsieh et al., RULER (arXiv 2404.06654), and its repository at c3f5e3b4, synthetic.yaml
// and data/synthetic. The generators are our own, "ruler-like v1": the same definitions, other
// random numbers, other word lists. Docs/evaluation.md lists every difference.

/// How predictions of a task are scored.
package enum RulerMetric: String, Sendable, Codable {
  /// The share of the references that occur in the prediction.
  case all
  /// 1 if any reference occurs in the prediction, else 0.
  case part
}

/// One of the thirteen tasks.
package enum RulerTask: String, CaseIterable, Sendable, Codable {
  /// A number in noise.
  case niahSingle1 = "niah_single_1"
  /// A number in prose.
  case niahSingle2 = "niah_single_2"
  /// A uuid in prose.
  case niahSingle3 = "niah_single_3"
  /// One of four keys in prose.
  case niahMultikey1 = "niah_multikey_1"
  /// A needle among needles.
  case niahMultikey2 = "niah_multikey_2"
  /// A needle among needles, keys and values uuids.
  case niahMultikey3 = "niah_multikey_3"
  /// Four values of one key.
  case niahMultivalue = "niah_multivalue"
  /// Four keys asked for at once.
  case niahMultiquery = "niah_multiquery"
  /// Variables that have one value, through a chain of assignments.
  case variableTracking = "vt"
  /// The ten most common words of a list.
  case commonWords = "cwe"
  /// The three most frequent words of a coded text.
  case frequentWords = "fwe"
  /// A question on one document.
  case question1 = "qa_1"
  /// A question on two documents.
  case question2 = "qa_2"

  /// The version of the generators; a change of any sample changes it.
  package static let generator = "ruler-like v1"

  /// Most tokens of an answer.
  package var tokensToGenerate: Int {
    switch self {
    case .variableTracking: 30
    case .commonWords: 120
    case .frequentWords: 50
    case .question1, .question2: 32
    default: 128
    }
  }

  /// PART for questions, ALL for the others.
  package var metric: RulerMetric {
    self == .question1 || self == .question2 ? .part : .all
  }

  /// Whether a worked example precedes the task.
  package var hasExample: Bool { self == .variableTracking || self == .commonWords }

  /// What the needle tasks hide where; nil for the other five.
  package var needles: NeedleSizes? {
    switch self {
    case .niahSingle1: NeedleSizes(.noise)
    case .niahSingle2: NeedleSizes(.prose)
    case .niahSingle3: NeedleSizes(.prose, value: .uuids)
    case .niahMultikey1: NeedleSizes(.prose, keys: 4)
    case .niahMultikey2: NeedleSizes(.needles)
    case .niahMultikey3: NeedleSizes(.needles, key: .uuids, value: .uuids)
    case .niahMultivalue: NeedleSizes(.prose, values: 4)
    case .niahMultiquery: NeedleSizes(.prose, keys: 4, queries: 4)
    default: nil
    }
  }

  /// The tasks that a list names: "all", or names separated by commas.
  package static func list(_ text: String) throws(TaskError) -> [RulerTask] {
    if text == "all" { return allCases }
    var tasks: [RulerTask] = []
    for name in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let task = RulerTask(rawValue: String(name)) else {
        throw TaskError(
          "there is no task '\(name)'; there are: all, "
            + allCases.map(\.rawValue).joined(separator: ", "))
      }
      if tasks.contains(task) { throw TaskError("task \(name) is named twice") }
      tasks.append(task)
    }
    return tasks
  }
}

/// A task that cannot be made as it was asked for.
package struct TaskError: Error, Equatable, CustomStringConvertible {
  /// One line: what, where, what to do.
  package let description: String

  /// An error of one line.
  package init(_ description: String) { self.description = description }
}
