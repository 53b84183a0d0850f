// Standard streams that are closed, full or left: an exit status, never a trap.

import Foundation
import Testing

@Suite struct StreamTests {
  private static let tests = ReplayToolTests.root.appendingPathComponent("Tests").path
  private static let checkpoint = tests + "/TransformersTests/Fixtures/Checkpoints/llama3"
  private static let generate =
    "\"$lrqk\" generate --model \(checkpoint) --ids-file \(checkpoint)/expected.safetensors "
    + "--max-new-tokens 3"
  private static let tokenize = "\"$lrqk\" tokenize --model \(tests)/TokenizersTests/Fixtures/gpt2"

  @Test(arguments: ["2>&-", "2>/dev/full", "2>&- <&-"])
  func `a lost standard error costs nothing but the exit status`(_ redirection: String) throws {
    let whole = try shell(Self.generate)
    let found = try shell("\(Self.generate) \(redirection)")
    #expect(whole.status == 0 && !whole.output.isEmpty && !whole.error.isEmpty)
    #expect(found.status == 74 && found.output == whole.output && found.error.isEmpty)
  }

  @Test(arguments: [
    "replay nosuch", "nosuch", "generate", "tokenize --model nosuch --text x",
    "train --recipe nosuch --output nosuch", "check --backend opencl", "golden verify nosuch",
  ])
  func `an error that cannot be said still ends the tool in order`(_ command: String) throws {
    for redirection in ["2>&-", "2>/dev/full", ">&- 2>&- <&-"] {
      let found = try shell("\"$lrqk\" \(command) \(redirection)")
      #expect(found.status == 74, "\(command) \(redirection)")
    }
  }

  @Test(arguments: ["explain", "--help", "check --list", "train --help"])
  func `a result that cannot be written is an error of one line`(_ command: String) throws {
    for redirection in [">&-", ">/dev/full", ">&- <&-"] {
      let found = try shell("\"$lrqk\" \(command) \(redirection)")
      #expect(found.status == 74, "\(command) \(redirection)")
      #expect(found.error == "lrqk: standard output: cannot write; the rest is lost\n")
    }
  }

  @Test(arguments: ["<&-", "</", "--json-lines <&-", "--json-lines </"])
  func `standard input that cannot be read is an error of one line`(_ rest: String) throws {
    let found = try shell("\(Self.tokenize) \(rest)")
    #expect(found.status == 74 && found.output.isEmpty)
    #expect(found.error.hasPrefix("lrqk: standard input: cannot read: "), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1)
  }

  @Test func `a reader that leaves ends the tool in silence`() throws {
    // More text than a pipe holds, so that a write comes after the reader has gone.
    for command in [
      "\"$lrqk\" ruler --model \(EvaluationToolTests.tiny) --tasks vt --lengths 900 --samples 90 "
        + "--show-prompts",
      "yes '\"text\"' | head -20000 | \(Self.tokenize) --json-lines",
    ] {
      let found = try shell("\(command) | head -1 >/dev/null; echo ${PIPESTATUS[-2]}")
      #expect(found.output == "141\n" && found.complaints.isEmpty, "\(found)")
    }
  }

  @Test func `a standard error that is left does not stop the work`() throws {
    let found = try shell("\(Self.generate) 2> >(exec <&-; sleep 1)")
    #expect([0, 74].contains(found.status) && !found.output.isEmpty)
    let late = try shell("exec 3> >(exec <&-); sleep 0.2; \(Self.generate) 2>&3")
    #expect(late.status == 74 && late.output == found.output)
  }

  @Test func `a named pipe is read when its writer comes, and not waited for without end`() throws {
    let folder = try TemporaryFolder()
    let command =
      "mkfifo \"$1/pipe\"; %; \"$lrqk\" generate --model \(EvaluationToolTests.tiny) "
      + "--max-new-tokens 2 --prompt-file \"$1/pipe\"; s=$?; rm \"$1/pipe\"; exit $s"
    let without = try shell(command.replacing("%", with: "true"), [folder.path])
    #expect(without.status == 65 && without.error.contains("no process writes"), "\(without)")
    #expect(without.complaints.count == 1 && without.output.isEmpty, "\(without)")
    let writer = "(sleep 0.5; echo 'the cat'; sleep 0.5; echo 'sat') > \"$1/pipe\" &"
    let with = try shell(command.replacing("%;", with: writer), [folder.path])
    #expect(with.status == 0 && !with.output.isEmpty, "\(with)")
  }

  @Test func `no file that is written gets the number of a closed stream`() throws {
    let folder = try TemporaryFolder()
    let (log, whole) = ("\(folder.path)/log", "\(folder.path)/whole")
    let command =
      "\"$lrqk\" ruler --model \(EvaluationToolTests.tiny) --tasks niah_single_1 --lengths 256 "
      + "--samples 2 --answer-tokens 2 --progress --log"
    #expect(try shell("\(command) \(whole)").status == 0)
    // All but the times of a record is the same, line by line.
    #expect(try shell("\(command) \(log) <&- >&- 2>&-").status == 74)
    let lines = try [log, whole].map {
      try String(contentsOfFile: $0, encoding: .utf8).split(separator: "\n")
    }
    #expect(lines[0].count == 3 && lines[0] == lines[1])
  }
}
