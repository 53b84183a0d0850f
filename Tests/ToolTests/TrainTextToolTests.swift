// lrqk train --text: a model that learns from a text of the user's.

import Foundation
import Testing

@Suite struct TrainTextToolTests {
  private static func recipe(task: String = "text") -> String {
    """
    {"seed": 2, "vocabulary": 280,
     "model": {"layers": 1, "hidden_size": 16, "query_heads": 2, "head_width": 8,
               "intermediate_size": 16, "attention": "mqa", "context": 64},
     "stages": [{"name": "a", "tasks": {"\(task)": 1}, "sizes": [[32, 2]], "rate": 0.002, "steps": 4}]}
    """
  }

  /// A folder with a recipe and 40 lines of text.
  private func folder(_ recipe: String = recipe()) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try put(recipe, folder.path + "/recipe.json")
    try put(
      (0..<80).map { "line \($0) of the harbour\n" }.joined(), folder.path + "/text.txt")
    return folder
  }

  private func put(_ text: String, _ path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  private func arguments(_ folder: TemporaryFolder, _ more: [String] = []) -> [String] {
    ["train", "--recipe", folder.path + "/recipe.json", "--output", folder.path + "/run"] + more
  }

  @Test func `lines that are held out lie beside the run, and the next command measures on them`()
    throws
  {
    let folder = try folder()
    let outcome = try run("lrqk", arguments(folder, ["--text", folder.path + "/text.txt"]))
    #expect(outcome.status == 0, "\(outcome.error)")
    let held = try String(contentsOfFile: folder.path + "/run/held-out.txt", encoding: .utf8)
    #expect(held == (76..<80).map { "line \($0) of the harbour\n" }.joined())
    let next = try #require(outcome.output.split(separator: "\n").last { $0.hasPrefix("next: ") })
    #expect(
      next == "next: lrqk perplexity --model \(folder.path)/run/model --text "
        + "\(folder.path)/run/held-out.txt --context 16 --stride 4 --windows 10")
    let words = next.dropFirst("next: lrqk ".count).split(separator: " ").map(String.init)
    let measured = try run("lrqk", words.dropLast() + ["1"])
    #expect(measured.status == 0 && measured.output.contains("perplexity"), "\(measured.error)")
  }

  @Test func `a run does not go on with another text`() throws {
    let folder = try folder()
    let text = ["--text", folder.path + "/text.txt"]
    #expect(try run("lrqk", arguments(folder, text + ["--stop-after", "1"])).status == 0)
    try put((0..<40).map { "line \($0) of the garden\n" }.joined(), folder.path + "/text.txt")
    let other = try run("lrqk", arguments(folder, text))
    #expect(other.status == 65 && other.error.contains("text)"), "\(other.error)")
    // What is refused changes nothing.
    let held = try String(contentsOfFile: folder.path + "/run/held-out.txt", encoding: .utf8)
    #expect(held.contains("harbour") && !held.contains("garden"))
  }

  @Test(
    arguments: [
      ("text", nil, "the task 'text' learns from a text of yours; name it with --text FILE"),
      ("repeats", "text.txt", "no stage of the recipe has the task 'text', which reads it"),
      ("text", "recipe.json", "lines with text; 20 or more are needed"),
      ("text", "nosuch.txt", "nosuch.txt"),
    ] as [(String, String?, String)])
  func `a text without its task, a task without its text, and a text too short are one line`(
    _ task: String, _ text: String?, _ reason: String
  ) throws {
    let folder = try folder(Self.recipe(task: task))
    let more = text.map { ["--text", folder.path + "/" + $0] } ?? []
    let outcome = try run("lrqk", arguments(folder, more))
    #expect(outcome.status != 0 && outcome.error.contains(reason), "\(outcome.error)")
    #expect(outcome.error.split(separator: "\n").count == 1, "\(outcome.error)")
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/run/step-00000001"))
  }
}
