// Sets of Unicode scalars, as patterns name them.
//
// In:  ranges, general categories, white space; a negation.
// Out: whether a scalar belongs.
//
// The yardstick is the regular-expression library of `tokenizers` (Oniguruma 6.9.10), whose tables
// are those of Unicode 16. Swift's are of Unicode 17; over all scalars the two differ exactly in
// what was assigned in 17.0 and in U+0295, which 17.0 made an Lo of an Ll. Both are undone here, so
// that a text with the newest letters is cut where the library cuts it.

/// What a pattern's class, escape or literal matches: one scalar out of a set.
struct ScalarSet: Sendable {
  private var ranges: [ClosedRange<UInt32>] = []
  /// One bit for each general category.
  private var categories: UInt32 = 0
  /// Sets whose complement or union belongs to this one: `\S` inside a class.
  private var others: [ScalarSet] = []
  private var isWhiteSpaceIn = false
  private var isNegated = false
  /// The answers for ASCII, one bit each.
  private var ascii: (low: UInt64, high: UInt64) = (0, 0)

  /// The scalars of `range`.
  init(_ range: ClosedRange<Unicode.Scalar>) {
    ranges = [range.lowerBound.value...range.upperBound.value]
    rememberASCII()
  }

  /// The set of one scalar.
  init(_ scalar: Unicode.Scalar) { self.init(scalar...scalar) }

  /// All scalars that `isIncluded` accepts a category of.
  init(categories isIncluded: (CategoryName) -> Bool) {
    for (bit, category) in ScalarSet.names.enumerated() where isIncluded(category) {
      categories |= 1 << UInt32(bit)
    }
    rememberASCII()
  }

  /// The union of `sets`, or all that is in none of them.
  init(union sets: [ScalarSet], negated: Bool = false) {
    for set in sets {
      if set.isNegated || !set.others.isEmpty {
        others.append(set)
      } else {
        ranges += set.ranges
        categories |= set.categories
        isWhiteSpaceIn = isWhiteSpaceIn || set.isWhiteSpaceIn
      }
    }
    isNegated = negated
    rememberASCII()
  }

  /// `\s`: the scalars with Unicode's White_Space property.
  static let whiteSpace: ScalarSet = {
    var set = ScalarSet(union: [])
    set.isWhiteSpaceIn = true
    set.rememberASCII()
    return set
  }()

  /// All scalars that this set lacks.
  var inverted: ScalarSet { ScalarSet(union: [self], negated: true) }

  /// Whether `scalar` belongs.
  func contains(_ scalar: Unicode.Scalar) -> Bool {
    let value = scalar.value
    if value < 64 { return ascii.low >> UInt64(value) & 1 == 1 }
    if value < 128 { return ascii.high >> UInt64(value - 64) & 1 == 1 }
    return computed(scalar)
  }

  private func computed(_ scalar: Unicode.Scalar) -> Bool {
    isNegated
      != (ranges.contains { $0.contains(scalar.value) }
        || categories != 0 && categories >> UInt32(ScalarSet.category(of: scalar)) & 1 == 1
        || isWhiteSpaceIn && scalar.properties.isWhitespace
        || others.contains { $0.contains(scalar) })
  }

  private mutating func rememberASCII() {
    ascii = (0, 0)
    for value in UInt8(0)..<128 where computed(Unicode.Scalar(value)) {
      if value < 64 {
        ascii.low |= 1 << UInt64(value)
      } else {
        ascii.high |= 1 << UInt64(value - 64)
      }
    }
  }
}

/// A general category by its two letters.
typealias CategoryName = String

extension ScalarSet {
  /// The general categories, in the order of their bits.
  static let names: [CategoryName] = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
  ]

  /// The bit of the general category of `scalar`, as of Unicode 16.
  private static func category(of scalar: Unicode.Scalar) -> Int {
    let properties = scalar.properties
    let category = bit(of: properties.generalCategory)
    if scalar == "\u{295}" { return bit(of: .lowercaseLetter) }
    // 17.0 assigned nothing below U+0530; asking only beyond saves time on most text.
    if scalar.value > 0x530, category != bit(of: .unassigned), let age = properties.age,
      age.major > 16
    {
      return bit(of: .unassigned)
    }
    return category
  }

  private static func bit(of category: Unicode.GeneralCategory) -> Int {
    switch category {
    case .uppercaseLetter: 0
    case .lowercaseLetter: 1
    case .titlecaseLetter: 2
    case .modifierLetter: 3
    case .otherLetter: 4
    case .nonspacingMark: 5
    case .spacingMark: 6
    case .enclosingMark: 7
    case .decimalNumber: 8
    case .letterNumber: 9
    case .otherNumber: 10
    case .connectorPunctuation: 11
    case .dashPunctuation: 12
    case .openPunctuation: 13
    case .closePunctuation: 14
    case .initialPunctuation: 15
    case .finalPunctuation: 16
    case .otherPunctuation: 17
    case .mathSymbol: 18
    case .currencySymbol: 19
    case .modifierSymbol: 20
    case .otherSymbol: 21
    case .spaceSeparator: 22
    case .lineSeparator: 23
    case .paragraphSeparator: 24
    case .control: 25
    case .format: 26
    case .surrogate: 27
    case .privateUse: 28
    case .unassigned: 29
    @unknown default: 29
    }
  }
}
