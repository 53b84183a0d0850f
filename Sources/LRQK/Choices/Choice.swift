// A choice as text: one row of the table that every reader and every report uses.
//
// In:  a text that a user wrote, or `Parameters`.
// Out: changed `Parameters`, or the text that makes them again.
//
// ChoiceTable.swift has the rows. The command line, `lrqk:...` texts, replays, lrqk.h's options,
// reports, help and Docs/methods.md are loops over them: a new choice is one row, and its use.
//
// Rows are read after a preset, those first that decide which others exist (code-map before
// basis-update). A row that finds nothing to set says so, and each reader words that error in its
// own way.

/// Why a text cannot be read as a choice.
public enum ChoiceError: Error, Equatable {
  /// The text is not one of the choice's words.
  case unknownWord
  /// It is not a number, or it has another count of numbers than the choice.
  case noNumber
  /// It can be read but makes no sense; the sentence says why.
  case refused(String)
  /// With the other choices there is nothing that it could set.
  case noEffect
  /// A part of it ("lambda_Q and lambda_K") has no effect with the other choices; the rest was set.
  case partWithoutEffect(String)
}

/// One choice: its name, its meaning, and how it is read and written.
public struct Choice: Sendable {
  /// What texts look like.
  public enum Form: Sendable, Equatable {
    /// One of these; capitals stand for numbers.
    case words([String])
    /// A whole number; methods take one of this range.
    case count(ClosedRange<Int>)
    /// A finite number, 0 or larger.
    case number
    /// The four weights.
    case weights
  }

  /// What runs: a prompt's factorisation, decode steps, or both.
  public struct Parts: OptionSet, Sendable {
    /// The factorisation of a prompt.
    public static let prompt = Parts(rawValue: 1)
    /// Decode steps, without the prompt before them.
    public static let steps = Parts(rawValue: 2)
    /// A whole answer.
    public static let all: Parts = [.prompt, .steps]

    /// A bit for each part.
    public let rawValue: Int
    /// The parts whose bits are set.
    public init(rawValue: Int) { self.rawValue = rawValue }
  }

  /// Its name on the command line, without dashes.
  public let name: String
  /// Its letter, where it has one: r, k, w.
  public let letter: String?
  /// What it means, with the words that it takes.
  public let meaning: String
  /// What its texts look like.
  public let form: Form
  /// What has to run for it to have an effect.
  public let parts: Parts
  /// The text that reports leave out, because it chooses nothing.
  public let silent: String?
  /// True where it decides which other choices exist; those are read after it.
  public let decides: Bool
  private let reader: @Sendable (String, inout Parameters) throws -> Void
  private let writer: @Sendable (Parameters, Parts) -> String?

  /// A row of the table; `write` gives nil where the choice does not exist.
  package init(
    _ name: String, letter: String? = nil, _ meaning: String, _ form: Form, parts: Parts,
    silent: String? = nil, decides: Bool = false,
    read: @escaping @Sendable (String, inout Parameters) throws -> Void,
    write: @escaping @Sendable (Parameters, Parts) -> String?
  ) {
    self.name = name
    self.letter = letter
    self.meaning = meaning
    self.form = form
    self.parts = parts
    self.silent = silent
    self.decides = decides
    reader = read
    writer = write
  }

  /// Sets what `text` says; the choices that decide whether it exists have been read.
  public func read(_ text: String, into parameters: inout Parameters) throws(ChoiceError) {
    do {
      try reader(text, &parameters)
    } catch let error as ChoiceError {
      throw error
    } catch {
      throw .refused("\(error)")
    }
  }

  /// The text that sets what `parameters` say; nil where the choice has no effect on these parts.
  public func write(_ parameters: Parameters, parts: Parts = .all) -> String? {
    self.parts.isSubset(of: parts) ? writer(parameters, parts) : nil
  }

  /// What is wrong with `text` whatever the other choices are; nil if it can be read.
  public func misreading(_ text: String) -> ChoiceError? {
    for preset in Preset.allCases {
      guard var parameters = try? Parameters(preset, rank: 1, selected: 1, recent: 1) else {
        continue
      }
      do { try read(text, into: &parameters) } catch {
        if error == .unknownWord || error == .noNumber { return error }
      }
    }
    return nil
  }

  /// "is none of: rowwise, gram, spectral": the end of the sentence about an unreadable text.
  public var demand: String {
    switch form {
    case .words(let words): "is none of: \(words.joined(separator: ", "))"
    case .count: "is not a whole number that 64 bits hold"
    case .number: "is not a number"
    case .weights: "is not four numbers lambda_Q,lambda_K,lambda_1,lambda_2"
    }
  }

  /// The sentence for an error of `read`, as the command line says it; `p` has the other choices.
  package func sentence(_ error: ChoiceError, _ text: String, _ p: Parameters) -> String {
    switch error {
    case .unknownWord, .noNumber: "--\(name) '\(text)' \(demand)"
    case .refused(let sentence): sentence
    case .noEffect: "--\(name) has no effect with \(p.kinds); drop one of them"
    case .partWithoutEffect(let part):
      "\(part) of --\(name) have no effect with \(p.kinds); leave them 1"
    }
  }

  /// Rows that a test adds to the table, to see that every reader takes them.
  @TaskLocal package static var added: [Choice] = []
}

extension Parameters {
  /// "solver spectral and linear codes": the two choices that most others depend on.
  public var kinds: String {
    "solver \(solver.rawValue) and \(hasLinearCodes ? "linear" : "alternating") codes"
  }

  /// The names of the weights (lambda_Q, lambda_K, lambda_1, lambda_2) that are not 1 and act on
  /// nothing, in pairs; empty where each has an effect.
  public func idleWeights(_ weights: [Double], _ parts: Choice.Parts = .all) -> [String] {
    let sweeps = parts.contains(.prompt) && self.sweeps != nil
    let alternates = parts.contains(.steps) && alternation != nil
    return (sweeps || weights[..<2] == [1, 1] ? [] : ["lambda_Q", "lambda_K"])
      + (alternates || weights[2...] == [1, 1] ? [] : ["lambda_1", "lambda_2"])
  }
}
