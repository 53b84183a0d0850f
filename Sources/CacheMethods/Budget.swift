// One knob for every method: how many rows a head may attend to.
//
// In:  "512", "25%" or "256KiB", as a user writes it; the length of a prompt.
// Out: rows a head, and in every report the same in all three forms.
//
//     budget=512      rows that a head attends to, forced ones (sinks, recent) among them
//     budget=25%      so much of the prompt's tokens, cut to whole rows
//     budget=256KiB   what one layer may hold on the device: rows, and whatever it chooses by
//
// A budget is settled once, when the prompt ends, and stays while the answer grows. Bytes are
// turned into rows by the method's own closed form of bytes: the most rows that fit. So codes,
// landmarks and scores count, and methods with equal bytes are equal in what a device must have.
// B, KB, MB, GB count in 1000s, KiB, MiB, GiB in 1024s.

import Reports
public import Transformers

/// How many rows a head may attend to.
public enum Budget: Sendable, Equatable, CustomStringConvertible {
  /// So many rows a head.
  case rows(Int)
  /// So many percent of the prompt's tokens, over 0 and at most 100.
  case percent(Double)
  /// So many bytes of one layer on the device; `text` is how it was written.
  case bytes(Int, text: String)

  /// Units of bytes.
  private static let units: [(name: String, size: Int)] = [
    ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1000), ("MB", 1_000_000),
    ("GB", 1_000_000_000), ("B", 1),
  ]

  /// Reads a budget; nil where the text is none.
  public init?(_ text: String) {
    if let rows = Int(text) {
      guard (1...Size.most).contains(rows) else { return nil }
      self = .rows(rows)
    } else if text.hasSuffix("%") {
      guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else { return nil }
      self = .percent(percent)
    } else if let unit = Self.units.first(where: { text.hasSuffix($0.name) }) {
      guard let number = Double(text.dropLast(unit.name.count)), number > 0,
        number * Double(unit.size) < 0x1p60
      else { return nil }
      self = .bytes(Int(number * Double(unit.size)), text: text)
    } else {
      return nil
    }
  }

  /// The text that makes it again.
  public var description: String {
    switch self {
    case .rows(let rows): "\(rows)"
    case .percent(let percent): percentText(percent)
    case .bytes(_, let text): text
    }
  }

  /// Rows of a head, settled by a prompt of `tokens` tokens: `least` or more.
  ///
  /// A part of the prompt and bytes are at most `tokens` rows; rows are what they say, so that an
  /// answer to a short prompt has its budget as well.
  ///
  /// `device` are the bytes that a layer holds with so many rows a head; it may not fall where rows
  /// grow. Throws where bytes are too few for `least` rows, `method` naming whose they are.
  /// With `isLasting` bytes that the prompt does not fill are the answer's: there may be more rows
  /// than it has tokens.
  public func rows(
    tokens: Int, least: Int, method: String, isLasting: Bool = false,
    device: (_ rows: Int) -> Int
  ) throws(MethodError) -> Int {
    let least = min(least, tokens)
    switch self {
    case .rows(let rows): return max(rows, least)
    case .percent(let percent):
      return min(max(Int(Double(tokens) * percent / 100), least), tokens)
    case .bytes(let limit, let text):
      if device(least) > limit {
        throw MethodError(
          "\(method): budget=\(text) is less than the \(device(least)) bytes that \(least) rows "
            + "a head and what chooses them take in one layer after \(tokens) tokens")
      }
      var (low, high) = (least, tokens)
      if device(tokens) <= limit {
        if !isLasting { return tokens }
        (low, high) = (tokens, Size.most)
      }
      while low < high {
        let middle = (low + high + 1) / 2
        if device(middle) <= limit { low = middle } else { high = middle - 1 }
      }
      return low
    }
  }
}

/// A part of the bytes that full attention holds, or moves from the host.
public struct ByteBudget: Sendable, Equatable, CustomStringConvertible {
  /// Over the line.
  public let numerator: Int
  /// Below the line.
  public let denominator: Int

  /// Reads "1/16"; nil where the text is no fraction over 0 and at most 1.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let n = parts[0], let d = parts[1], n >= 1, d >= n, d <= 1 << 20 else {
      return nil
    }
    (numerator, denominator) = (n, d)
  }

  /// The text that makes it again.
  public var description: String { "\(numerator)/\(denominator)" }

  /// Whether another fraction is the same number: 1/8 and 2/16.
  public func isAsLarge(as other: ByteBudget) -> Bool {
    numerator * other.denominator == other.numerator * denominator
  }

  /// So much of `bytes`.
  public func part(of bytes: Double) -> Double {
    bytes * Double(numerator) / Double(denominator)
  }
}

/// "25%", "12.5%".
func percentText(_ percent: Double) -> String {
  percent == percent.rounded() ? "\(Int(percent))%" : "\(percent)%"
}

extension MethodOptions {
  /// A budget; where `orNone`, the text "none" is none.
  public func budget(_ name: String, orNone: Bool = false) throws(MethodError) -> Budget? {
    guard let text = text(name), !(orNone && text == "none") else { return nil }
    guard let budget = Budget(text) else {
      throw error(
        "\(name)=\(text) is neither rows (512), nor a part of the prompt (25%, at most 100%), nor bytes (256KiB)"
      )
    }
    return budget
  }
}

/// What a budget comes to after a prompt.
public struct BudgetUse: Sendable, Equatable, Codable {
  /// Rows that a head attends to, forced ones among them: the mean over the layers.
  public let rows: Double
  /// The same as a part of the prompt's tokens in sight, from 0 to 1.
  public let share: Double
  /// Bytes of all layers on the device, in closed form.
  public let bytes: Int
  /// True where the bytes of a layer are an upper bound (`CacheBytes.isUpperBound`).
  public let isUpperBound: Bool
  /// Layers of the model.
  public let layers: Int
  /// First tokens and recent tokens that are among the rows whatever their scores are.
  public let forced: Int
}

extension BudgetUse {
  /// "256 rows a head (16 of them whatever their scores), 25.6 % of the prompt; at most 1.0 MiB of
  /// a layer on the device".
  package var text: String {
    let perLayer = bytes / max(layers, 1)
    let whole = rows == rows.rounded() ? "\(Int(rows))" : number(rows, 1)
    return "\(whole) rows a head (\(forced) of them whatever their scores), "
      + "\(number(share * 100, 1)) % of the prompt; "
      + "\(isUpperBound ? "at most " : "")\(Reports.bytes(perLayer)) of a layer on the device"
  }
}

extension CacheMethod {
  /// What the method's budget comes to after a prompt of `tokens` tokens, over `layers`.
  public func budgetUse(tokens: Int, layers: [LayerShape]) -> BudgetUse {
    let rows = layers.reduce(0.0) { $0 + Double(attendedRows(tokens: tokens, layer: $1)) }
    let held = layers.map { bytes(tokens: tokens, layer: $0) }
    let inSight = layers.reduce(0.0) { $0 + Double($1.visible(length: tokens).count) }
    let forced = layers.reduce(0) { sum, layer in
      let rows = attendedRows(tokens: tokens, layer: layer)
      return sum + forcedRows(of: rows, tokens: tokens, layer: layer)
    }
    return BudgetUse(
      rows: rows / Double(max(layers.count, 1)), share: inSight == 0 ? 1 : rows / inSight,
      bytes: held.reduce(0) { $0 + $1.device }, isUpperBound: held.contains(where: \.isUpperBound),
      layers: layers.count, forced: forced / max(layers.count, 1))
  }
}
