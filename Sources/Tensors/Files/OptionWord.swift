// Names of enum cases as words of a command line.

/// Kebab case for a camel case raw value: perQueryHead is per-query-head.
public func optionWord(_ rawValue: String) -> String {
  rawValue.reduce(into: "") { word, c in
    word += c.isUppercase ? "-\(c.lowercased())" : String(c)
  }
}
