// What can be wrong with a model's config.json or generation_config.json.
//
// In:  a fault, met while the file was read.
// Out: one line for the user: which file, which key, what is wrong, what to do.
//
// One case per fault, so that a test can ask for exactly the fault that it made.

public import Tensors

/// A config.json (or generation_config.json) that this package cannot follow to the letter.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  /// The path of the file.
  public let file: String
  /// The key in question, "rope_scaling.factor" for a key within another; nil for the whole file.
  public let key: String?
  /// What is wrong.
  public let problem: Problem

  /// The kinds of fault.
  public enum Problem: Equatable, Sendable {
    /// The folder has no config.json, or is no folder; says what is there instead and what to do.
    case noConfiguration(String)
    /// The file cannot be read.
    case unreadable(FileError)
    /// The file is not strict JSON.
    case syntax(JSONSyntaxError)
    /// A key that is needed is absent or null.
    case missing
    /// The value is of another kind; says what it has to be.
    case wrongKind(expected: String)
    /// The value lies outside of what is allowed; says what is.
    case outOfRange(value: String, allowed: String)
    /// The value asks for something that is not built here; says what is.
    case unsupported(value: String, supported: String)
    /// A key that this package has never heard of, and which may change what the model computes.
    case unknownKey
    /// Two values that contradict each other.
    case inconsistent(String)
  }

  /// One line: which file, which key, what.
  public var description: String {
    let place = key.map { "\(file): \(shown($0))" } ?? file
    switch problem {
    case .noConfiguration(let reason): return "\(file): \(reason)"
    case .unreadable(let error): return error.description
    case .syntax(let error): return "\(place): \(error); it has to be strict JSON"
    case .missing: return "\(place) is missing"
    case .wrongKind(let expected): return "\(place) has to be \(expected)"
    case .outOfRange(let value, let allowed): return "\(place) is \(value); it has to be \(allowed)"
    case .unsupported(let value, let supported):
      return "\(place): \(value) is not supported; \(supported)"
    case .unknownKey:
      return "\(place): unknown key; it may change what the model computes, so it is not ignored"
    case .inconsistent(let sentence): return "\(place): \(sentence)"
    }
  }
}
