// What hands do without looking: letters for the common options, an answer that appears while it is
// written, a repository's name in the place of a folder.

import Foundation
import Testing

@Suite struct HabitTests {
  @Test(arguments: LeafCommand.all)
  func `the four letters belong to the same option in every command`(
    _ command: LeafCommand
  ) {
    let names = [
      "-m": "--model", "-p": "--prompt", "-f": "--prompt-file", "-n": "--max-new-tokens",
    ]
    for option in command.options {
      for (short, long) in names {
        #expect(
          option.spellings.contains(short) == option.spellings.contains(long),
          "\(command.testDescription): \(option.spellings)")
      }
    }
    let letters = command.options.flatMap(\.spellings).filter { !$0.hasPrefix("--") }
    #expect(Set(letters).count == letters.count, "\(letters)")
  }

  @Test func `letters and long names say the same`() throws {
    let folder = try TemporaryFolder()
    let file = folder.path + "/prompt.txt"
    try Data("the grass is".utf8).write(to: URL(fileURLWithPath: file))
    let long = try run(
      "lrqk",
      [
        "generate", "--model", EvaluationToolTests.tiny, "--prompt", "the grass is",
        "--max-new-tokens", "5",
      ])
    #expect(long.status == 0, "\(long.error)")
    for prompt in [["-p", "the grass is"], ["-f", file]] {
      let short = try run(
        "lrqk", ["generate", "-m", EvaluationToolTests.tiny, "-n", "5"] + prompt)
      #expect(short.output == long.output && short.status == 0, "\(short.error)")
    }
    for (word, part) in [
      ("-model", "did you mean --model?"), ("-n5", "write -n 5"), ("-promt", "write -p romt"),
    ] {
      let found = try run("lrqk", ["generate", word, "x"])
      #expect(found.status == 64 && found.error.contains(part), "\(found.error)")
    }
  }

  /// An answer that is written as token ids ends in a space where it was shown token by token.
  @Test func `a single answer is shown while it is written where a person waits for it`() throws {
    let folder = ModelToolTests.checkpoint("llama3")
    let ids = folder + "/expected.safetensors"
    let generate = ["generate", "-m", folder, "--ids-file", ids, "-n", "3"]
    let answer = try run("lrqk", generate).output
    #expect(!answer.hasSuffix(" \n") && answer.split(separator: " ").count == 3)
    let whole = answer.dropLast()
    func isStreamed(_ options: [String]) throws -> Bool {
      let found = try runOnTerminal(generate + options)
      #expect(found.status == 0 && found.text.contains(whole), "\(options): \(found.text)")
      return found.text.contains(whole + " \n")
    }
    #expect(try isStreamed([]) && isStreamed(["--stream"]))
    #expect(try !isStreamed(["--no-stream"]) && !isStreamed(["--progress"]))
    #expect(try run("lrqk", generate + ["--stream"]).output == whole + " \n")
    #expect(try run("lrqk", generate + ["--no-stream"]).output == answer)
    // What cannot be streamed is shown at its end, and refused only where it was asked for.
    let several = ["generate", "-m", EvaluationToolTests.tiny, "-p", "one", "-p", "two", "-n", "2"]
    #expect(try runOnTerminal(several).status == 0)
    #expect(try run("lrqk", several + ["--stream"]).status == 64)
    let json = try runOnTerminal(generate + ["--json"])
    #expect(json.status == 0 && json.text.contains("\"finished\":\"limit\""), "\(json.text)")
    #expect(try run("lrqk", generate + ["--json", "--stream"]).status == 64)
  }

  @Test(arguments: [
    ["inspect"], ["tokenize", "--text", "x"], ["generate", "-p", "x"], ["chat"],
    ["chat-template", "--messages", "-"], ["ruler", "--show-prompts"], ["heads"],
  ])
  func `a repository's name is no folder, and the line says how to get one`(
    _ words: [String]
  ) throws {
    let cache = try TemporaryFolder()
    let repository = cache.path + "/hub/models--an-org--a.model"
    func found(_ model: String) throws -> String {
      let found = try run(
        "lrqk", words + ["-m", model],
        changing: [
          "HF_HOME": cache.path, "HF_HUB_CACHE": nil, "HUGGINGFACE_HUB_CACHE": nil,
        ])
      #expect(found.status == 65 && found.output.isEmpty, "\(found.error)")
      #expect(found.error.hasPrefix("lrqk: ") && found.error.filter(\.isNewline).count == 1)
      return found.error
    }
    #expect(try found("an-org/a.model").contains("hf download an-org/a.model --local-dir a.model"))
    try FileManager.default.createDirectory(
      atPath: repository + "/snapshots/0123abc", withIntermediateDirectories: true)
    try Data("{}".utf8).write(
      to: URL(fileURLWithPath: repository + "/snapshots/0123abc/config.json"))
    for model in ["an-org/a.model", repository] {
      let line = try found(model)
      #expect(line.contains("\(repository)/snapshots/0123abc\n"), "\(line)")
    }
  }
}
