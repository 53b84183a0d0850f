// What steers a terminal, from files, names and tokens: escapes on a terminal, bytes elsewhere.

import Foundation
import Testing

@Suite struct VisibleTextTests {
  /// Names that set a title, clear a screen, reverse a line, end a line.
  private static let hostile: [(text: String, shown: String)] = [
    ("a\u{1B}]0;t\u{7}b", #"a\u{1B}]0;t\u{7}b"#), ("a\u{9B}2Jb", #"a\u{9B}2Jb"#),
    ("a\u{202E}b", #"a\u{202E}b"#), ("a\u{2067}\u{61C}\u{200F}b", #"a\u{2067}\u{61C}\u{200F}b"#),
    ("a\u{2028}b", #"a\u{2028}b"#), ("a\r\u{7F}b", #"a\u{D}\u{7F}b"#),
  ]

  /// Whether a terminal would do something other than show a character.
  private func steers(_ text: String) -> Bool {
    text.unicodeScalars.contains {
      $0.properties.generalCategory == .control && $0 != "\n" && $0 != "\t"
        || [.lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
        || (0x202A...0x202E).contains($0.value) || (0x2066...0x2069).contains($0.value)
        || [0x200E, 0x200F, 0x61C].contains($0.value)
    }
  }

  /// A safetensors file whose tensor and metadata have this name.
  private func file(named name: String, in folder: TemporaryFolder) throws -> String {
    let data = try JSONSerialization.data(withJSONObject: [
      "__metadata__": [name: name], name: ["dtype": "I32", "shape": [1], "data_offsets": [0, 4]],
    ])
    let path = folder.path + "/x.safetensors"
    var bytes = (0..<8).map { UInt8(truncatingIfNeeded: data.count >> (8 * $0)) }
    bytes += [UInt8](data) + [7, 0, 0, 0]
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  @Test(arguments: hostile.indices)
  func `a tensor's name is safe in a table, wherever that goes`(_ n: Int) throws {
    let (name, shown) = Self.hostile[n]
    let folder = try TemporaryFolder()
    let path = try file(named: name, in: folder)
    let piped = try run("lrqk", ["golden", "show", path])
    #expect(piped.status == 0 && !steers(piped.output), "\(piped.error)")
    #expect(piped.output.components(separatedBy: shown).count == 4, "\(piped.output)")
    #expect(try runOnTerminal(["golden", "show", path]).text == piped.output)
  }

  @Test(arguments: hostile.indices)
  func `an error is one line of visible characters`(_ n: Int) throws {
    let (name, shown) = Self.hostile[n]
    for arguments in [
      ["replay", "/nowhere/\(name)\n"], ["golden", "show", "x\n\(name)"],
      ["demo", "--task", name], ["--\(name)"], ["inspect", "--model", "m", "--cache", name],
    ] {
      let found = try run("lrqk", arguments)
      #expect([64, 65].contains(found.status) && found.output.isEmpty)
      #expect(found.error.hasSuffix("\n") && found.error.dropLast().allSatisfy { $0 != "\n" })
      #expect(found.error.contains(shown) && !steers(found.error), "\(found.error)")
    }
  }

  @Test(arguments: hostile.indices)
  func `text that is the answer keeps its bytes in a pipe, and not on a terminal`(_ n: Int) throws {
    let (text, shown) = Self.hostile[n]
    let folder = try TemporaryFolder()
    let prose = folder.path + "/prose.txt"
    try Data(String(repeating: "\(text) went on. ", count: 99).utf8)
      .write(to: URL(fileURLWithPath: prose))
    let arguments = [
      "ruler", "--model", EvaluationToolTests.tiny, "--tasks", "niah_single_2", "--lengths", "600",
      "--samples", "1", "--haystack", prose, "--show-prompts",
    ]
    let piped = try run("lrqk", arguments)
    let terminal = try runOnTerminal(arguments)
    #expect(piped.status == 0 && terminal.status == 0, "\(piped.error)")
    // Words of a haystack are what stands between white space, a line separator included.
    let isSpace = text.unicodeScalars.contains { $0 == "\u{2028}" || $0 == "\r" }
    #expect(isSpace || piped.output.contains(text))
    #expect(isSpace || terminal.text.contains(shown))
    #expect(!steers(terminal.text))
  }

  @Test func `ordinary text is the same on a terminal`() throws {
    let folder = ReplayToolTests.root
      .appendingPathComponent("Tests/TokenizersTests/Fixtures/gpt2").path
    let text = "Grüße, 你好 \u{1F469}\u{200D}\u{1F680}"
    let arguments = ["tokenize", "--model", folder, "--text", text]
    let piped = try run("lrqk", arguments)
    let terminal = try runOnTerminal(arguments)
    #expect(terminal.text == piped.output && piped.status == 0)
  }

  @Test func `a tensor of extreme numbers is shown in full`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/x.safetensors"
    for (format, bytes, least, largest) in [
      ("I64", [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "\(Int.max)", "\(Int.max)"),
      (
        "I64", [0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0x20, 0], "\(Int.min)",
        "9007199254740993"
      ),
      ("U8", [3, 255], "3", "255"), ("F32", [0, 0, 0xC0, 0x7F, 0, 0, 0x80, 0x7F], "inf", "inf"),
      ("F16", [0, 0x7E], "-", "-"), ("I32", [], "-", "-"),
    ] as [(String, [UInt8], String, String)] {
      let width = ["I64": 8, "I32": 4, "F32": 4, "F16": 2][format] ?? 1
      let head =
        #"{"x":{"dtype":"\#(format)","shape":[\#(bytes.count / width)],"#
        + #""data_offsets":[0,\#(bytes.count)]}}"#
      let length = (0..<8).map { UInt8(truncatingIfNeeded: head.utf8.count >> (8 * $0)) }
      try Data(length + head.utf8 + bytes).write(to: URL(fileURLWithPath: path))
      let found = try run("lrqk", ["golden", "show", path])
      #expect(found.status == 0, "\(found.error)")
      let row = found.output.split(separator: "\n").first { $0.hasPrefix("x ") } ?? ""
      #expect(row.split(separator: " ").suffix(2) == [least[...], largest[...]], "\(found.output)")
    }
  }

  @Test func `a tensor larger than the memory is shown from its file`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/sparse.safetensors"
    let count = 24 << 20  // whole, as Int and as Double, they would take 384 MiB
    let head = #"{"x":{"dtype":"U8","shape":[\#(count)],"data_offsets":[0,\#(count)]}}"#
    let length = (0..<8).map { UInt8(truncatingIfNeeded: head.utf8.count >> (8 * $0)) }
    try Data(length + head.utf8).write(to: URL(fileURLWithPath: path))
    let file = try #require(FileHandle(forUpdatingAtPath: path))
    try file.truncate(atOffset: UInt64(8 + head.utf8.count + count))
    try file.close()
    let found = try shell("ulimit -d 300000; \"$lrqk\" golden show \"$1\"", [path])
    #expect(found.status == 0 && found.output.contains("\(count)      0        0"), "\(found)")
  }
}
