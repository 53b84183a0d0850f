// Choices as words, where a raw value is not enough.
//
// In:  a value of one of LRQK's choices.
// Out: the word that the command line takes for it, and back.

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

extension Parameters {
  /// "uniform", "by-layer" or "by-model".
  var rankWord: String {
    switch ranks {
    case .uniform: "uniform"
    case .spectrum(.byLayer, _): "by-layer"
    case .spectrum(.byModel, _): "by-model"
    }
  }

  /// What ranks by the spectrum compare; nil where ranks are uniform.
  var rankEnergy: RankEnergy? {
    if case .spectrum(_, let energy) = ranks { energy } else { nil }
  }
}

extension Counts {
  /// "fixed", "pooled" or "pooled:0.5".
  public var word: String {
    switch self {
    case .fixed: "fixed"
    case .pooled: "pooled"
    case .shared(let sure): "pooled:\(sure.part)"
    }
  }

  /// Reads what `word` writes; throws for a part that cannot be sure.
  public init?(word: String) throws(LRQKError) {
    switch word {
    case "fixed": self = .fixed
    case "pooled": self = .pooled
    default:
      guard word.hasPrefix("pooled:"), let part = Double(word.dropFirst(7)) else { return nil }
      self = .shared(sure: try SureShare(part))
    }
  }
}

extension BasisUpdate {
  /// "projection", "damped:0.05" or "frozen".
  public var word: String {
    switch self {
    case .projection: "projection"
    case .damped(let damping): "damped:\(damping.factor)"
    case .frozen: "frozen"
    }
  }

  /// Reads what `word` writes; throws for a factor that cannot damp.
  public init?(word: String) throws(LRQKError) {
    switch word {
    case "projection": self = .projection
    case "frozen": self = .frozen
    default:
      guard word.hasPrefix("damped:"), let factor = Double(word.dropFirst(7)) else { return nil }
      self = .damped(try Damping(factor))
    }
  }
}
