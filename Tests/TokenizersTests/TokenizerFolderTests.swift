// A folder without tokenizer.json: the line says what is there instead.

import Foundation
import Testing
import Tokenizers

@Suite struct TokenizerFolderTests {
  @Test(
    "a tokenizer in another format is named",
    arguments: ["tokenizer.model", "vocab.json", "tekken.json"])
  func otherFormats(_ name: String) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-tokenizer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(missingTokenizer(folder: folder.path).contains("download"))
    try Data().write(to: folder.appendingPathComponent(name))
    let text = missingTokenizer(folder: folder.path)
    #expect(text.contains(name) && text.contains("tokenizer.json"))
  }
}
