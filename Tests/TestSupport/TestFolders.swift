// Files that several test targets use.

public import Foundation

/// The folder of Package.swift.
public let packageRoot = URL(fileURLWithPath: #filePath)
  .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// The folder of a random model with a tokenizer (Tests/EvaluationTests/make_tiny.py).
public let tinyModel =
  packageRoot.appendingPathComponent("Tests/EvaluationTests/Fixtures/tiny").path

/// A path in the temporary folder; what lies there is removed at the end.
public final class TemporaryFile {
  /// The path.
  public let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-test-\(UUID().uuidString)").path

  /// A path where nothing lies.
  public init() {}
  /// A file with this text.
  public init(_ text: String) throws { try write(text) }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Puts `text` in the place of what the file holds.
  public func write(_ text: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }
  /// What the file holds.
  public func text() throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}
