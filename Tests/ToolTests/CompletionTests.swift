// The script of `lrqk --generate-completion-script bash`, sourced by bash, which is then asked what
// it would offer.

import Foundation
import Testing

@Suite struct CompletionTests {
  /// What bash offers behind a line.
  private static func offers(_ line: String) throws -> [String] {
    let found = try shell(
      """
      source <("$lrqk" --generate-completion-script bash) || exit 1
      COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
      read -ra COMP_WORDS <<< "$1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
      COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
      complete -p lrqk | grep -q -- "-F _lrqk" || exit 2
      _lrqk lrqk "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
      printf '%s\\n' "${COMPREPLY[@]}"
      """, [line])
    #expect(found.status == 0 && found.error.isEmpty, "\(line): \(found.error)")
    return found.output.split(separator: "\n").map(String.init)
  }

  @Test(arguments: [
    ("lrqk gen", "generate"), ("lrqk golden v", "verify"), ("lrqk calibrate lo", "loki"),
    ("lrqk generate --max", "--max-new-tokens"), ("lrqk chat --cache stre", "streaming"),
    ("lrqk ruler --tasks qa_1", "qa_1"), ("lrqk mer", "merge"),
    ("lrqk perplexity --format jsonl", "jsonl"),
    ("lrqk bench generate --format bf", "bf16"), ("lrqk replay --preset rec", "recommended"),
    ("lrqk replay --solver ro", "rowwise"), ("lrqk check --kernel proxy", "proxy-scores"),
    ("lrqk replay --precision d", "double"), ("lrqk calibrate loki --keys bef", "before-rotary"),
  ])
  func `bash completes commands, options and values`(_ line: String, _ word: String) throws {
    #expect(try Self.offers(line) == [word])
  }

  @Test func `bash completes files of the right kind, and folders`() throws {
    let folder = try TemporaryFolder()
    for name in ["a.safetensors", "a.txt"] {
      try Data().write(to: URL(fileURLWithPath: "\(folder.path)/\(name)"))
    }
    try FileManager.default.createDirectory(
      atPath: folder.path + "/a.folder", withIntermediateDirectories: true)
    let all = ["a.folder", "a.safetensors", "a.txt"].map { "\(folder.path)/\($0)" }
    let start = folder.path + "/a."
    #expect(try Set(Self.offers("lrqk generate -m \(start)")) == [all[0]])
    #expect(try Set(Self.offers("lrqk generate --ids-file \(start)")) == [all[0], all[1]])
    #expect(try Set(Self.offers("lrqk generate -f \(start)")) == Set(all))
  }

  @Test(arguments: ["zsh", "fish"])
  func `scripts for other shells name every command`(_ name: String) throws {
    let found = try run("lrqk", ["--generate-completion-script", name])
    #expect(found.status == 0 && found.error.isEmpty)
    for command in LeafCommand.all {
      #expect(found.output.contains(command.words[command.words.count - 1]))
    }
  }
}
