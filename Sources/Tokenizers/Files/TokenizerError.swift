// What can be wrong with a tokenizer's files.
//
// In:  a reason, met while tokenizer.json or tokenizer_config.json was read.
// Out: one line for the user: which file, where in it, what, and what to do.

/// A tokenizer that cannot be read or that needs something this package does not have.
public struct TokenizerError: Error, Equatable, CustomStringConvertible {
  /// The path, or the name given to bytes in memory.
  public let file: String

  /// Where in the file (such as `pre_tokenizer.pretokenizers[0]`) and what is wrong.
  public let reason: String

  /// One line: which file, where, what.
  public var description: String { "\(file): \(reason)" }
}
