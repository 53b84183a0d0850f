// Choices as words: what options are called, and what reports print.
//
// In:  a value of one of LRQK's choices.
// Out: the word that the command line takes for it, and back.

import Tensors

/// Kebab case for a camel case raw value: perQueryHead is per-query-head.
public func optionWord(_ rawValue: String) -> String {
  rawValue.reduce(into: "") { word, c in
    word += c.isUppercase ? "-\(c.lowercased())" : String(c)
  }
}

extension Initialization {
  /// "randn:0", "top", "topcol", "spectral" or "given".
  public var word: String {
    switch self {
    case .gaussian(let seed): "randn:\(seed)"
    case .topColumns: "top"
    case .sharedTopColumns: "topcol"
    case .spectral: "spectral"
    case .given: "given"
    }
  }

  /// Reads what `word` writes; "randn" alone is seed 0.
  public init?(word: String) {
    let parts = word.split(separator: ":", maxSplits: 1)
    switch (parts.first, parts.count) {
    case ("randn", 1): self = .gaussian(seed: 0)
    case ("randn", 2):
      guard let seed = UInt64(parts[1]) else { return nil }
      self = .gaussian(seed: seed)
    case ("top", 1): self = .topColumns
    case ("topcol", 1): self = .sharedTopColumns
    case ("spectral", 1): self = .spectral
    case ("given", 1): self = .given
    default: return nil
    }
  }
}

extension BasisUpdate {
  /// "projection", "damped:0.05" or "frozen".
  public var word: String {
    switch self {
    case .projection: "projection"
    case .damped(let factor): "damped:\(factor)"
    case .frozen: "frozen"
    }
  }

  /// Reads what `word` writes.
  public init?(word: String) {
    switch word {
    case "projection": self = .projection
    case "frozen": self = .frozen
    default:
      guard word.hasPrefix("damped:"), let factor = Double(word.dropFirst(7)) else { return nil }
      self = .damped(factor)
    }
  }
}

extension Parameters {
  /// The choices in effect where a prompt is factorised, where steps are decoded, or both; by
  /// option name.
  public func words(prompt: Bool = true, steps: Bool = true) -> [(name: String, value: String)] {
    let isWhole = prompt && steps
    var all = [("rank", "\(rank)")]
    if isWhole { all += [("selected", "\(selected)"), ("recent", "\(recent)")] }
    if prompt { all += promptWords }
    let solvesSystems = solvesSystems(prompt: prompt, steps: steps)
    if solvesSystems {
      all.append(
        (
          "weights",
          "\(weights.queries),\(weights.keys),\(weights.selfProduct),\(weights.selectedProducts)"
        ))
    }
    if steps { all += stepWords }
    if isWhole {
      all += [
        ("code-sharing", optionWord(codeSharing.rawValue)), ("candidates", candidates.rawValue),
        ("transfers", optionWord(transfers.rawValue)), ("support", support.rawValue),
        ("reuse", optionWord(reuse.rawValue)),
      ]
    }
    if solve.ridge > 0 && solvesSystems { all.append(("ridge", "\(solve.ridge)")) }
    if solve.breakdown == .proceed { all.append(("on-breakdown", "proceed")) }
    return all
  }

  private var promptWords: [(String, String)] {
    var words = [("solver", solver.rawValue), ("arithmetic", prefillArithmetic.rawValue)]
    if sweeps {
      words += [
        ("initialization", initialization.word), ("sweeps", "\(prefillIterations.limit)"),
        ("sweep-tolerance", "\(prefillIterations.tolerance)"),
        ("weighted-update", optionWord(weightedUpdate.rawValue)),
      ]
    }
    return words
  }

  private var stepWords: [(String, String)] {
    switch codeMap {
    case .linear:
      if case .every(let steps) = mapRefresh {
        return [("code-map", "linear"), ("map-refresh", "\(steps)")]
      }
      return [("code-map", "linear")]
    case .alternating(let update):
      return [
        ("code-map", "alternating"), ("basis-update", update.word),
        ("alternations", "\(decodeIterations.limit)"),
        ("alternation-tolerance", "\(decodeIterations.tolerance)"),
      ]
    }
  }
}
