// lrqk train as a user runs it: stopped, started again, started twice, with files that are damaged.

import Foundation
import Testing

@Suite struct TrainToolTests {
  /// Two stages of a tiny model, 60 steps in all.
  private static let recipe = """
    {"seed": 2, "shards": 1, "vocabulary": 300, "background": 0.2, "format": "f32",
     "model": {"layers": 1, "hidden_size": 16, "query_heads": 2, "head_width": 8,
               "intermediate_size": 16, "attention": "mqa", "context": 64}, "average": [5, 59],
     "stages": [{"name": "a", "tasks": {"repeats": 1}, "sizes": [[32, 2]], "rate": 0.002, "steps": 30},
                {"name": "b", "tasks": {"repeats": 1}, "sizes": [[24, 1]], "rate": 0.002, "steps": 30}]}
    """

  private func put(_ text: String, _ path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  /// log.csv without the seconds.
  private func log(_ run: String) throws -> [Substring] {
    try String(contentsOfFile: run + "/log.csv", encoding: .utf8).split(separator: "\n").map {
      $0[..<($0.lastIndex(of: ",") ?? $0.endIndex)]
    }
  }

  /// Starts a run, sends it a signal when it has told of a step, and returns its status and last
  /// lines.
  private func stop(_ arguments: [String], by signal: Int32) throws -> (Int32, String) {
    let here = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let process = Process()
    process.executableURL = here.deletingLastPathComponent().appendingPathComponent("lrqk")
    process.arguments = arguments
    let errors = Pipe()
    process.standardError = errors
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    var text = ""
    while true {
      let data = errors.fileHandleForReading.availableData
      if data.isEmpty { break }
      let isFirst = !text.contains(" step ")
      text += String(decoding: data, as: UTF8.self)
      if isFirst && text.contains(" step ") { kill(process.processIdentifier, signal) }
    }
    process.waitUntilExit()
    return (process.terminationStatus, text)
  }

  @Test func `a run that is stopped by signals and restarted ends with the same bytes`() throws {
    let folder = try TemporaryFolder()
    let recipe = folder.path + "/recipe.json"
    try put(Self.recipe, recipe)
    func arguments(_ run: String) -> [String] {
      ["train", "--recipe", recipe, "--output", folder.path + "/" + run, "--report-every", "1"]
    }
    #expect(try run("lrqk", arguments("whole")).status == 0)
    var stops = 0
    for (signal, status) in [(SIGINT, 130), (SIGTERM, 143), (SIGKILL, SIGKILL)] as [(Int32, Int32)]
    {
      let (found, text) = try stop(arguments("run"), by: signal)
      // A process that was faster than the signal is over; later ones have nothing to do then.
      if found == 0 { continue }
      stops += 1
      #expect(found == status, "\(text)")
      if signal != SIGKILL {
        let last = text.split(separator: "\n").last ?? ""
        #expect(last.contains("to go on: ") && last.hasSuffix("--report-every 1"), "\(text)")
      }
      try put("half", folder.path + "/run/curve.svg.lrqk-0.tmp")
    }
    #expect(stops > 0)
    let end = try run("lrqk", arguments("run"))
    #expect(end.status == 0, "\(end.error)")
    #expect(end.output.contains("next: lrqk inspect --model \(folder.path)/run/model"))
    #expect(try log(folder.path + "/run") == log(folder.path + "/whole"))
    for file in [
      "model/model.safetensors", "model/config.json", "step-00000060/moments.safetensors",
    ] {
      let files = try ["run", "whole"].map {
        try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/\($0)/\(file)"))
      }
      #expect(files[0] == files[1], "\(file)")
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/run")
    #expect(names.allSatisfy { !$0.contains("partial") && !$0.contains("tmp") && $0 != "lock" })
    // The picture is called as the folder is, wherever that lies.
    let curve = try String(contentsOfFile: folder.path + "/run/curve.svg", encoding: .utf8)
    #expect(curve.contains(">run: loss ") && !curve.contains(folder.path))
  }

  @Test(
    arguments: [
      ([0xFF, 0xFE, 0x0A], "not UTF-8"), (Array("a,b\n1,2\n".utf8), "not a log of lrqk train"),
      (Array("notes".utf8), "not a log of lrqk train"),
    ] as [([UInt8], String)])
  func `a log that is none is refused and stays`(_ bytes: [UInt8], _ reason: String) throws {
    let folder = try TemporaryFolder()
    try put(Self.recipe, folder.path + "/recipe.json")
    let log = folder.path + "/run/log.csv"
    try FileManager.default.createDirectory(
      atPath: folder.path + "/run", withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: log))
    let outcome = try run(
      "lrqk", ["train", "--recipe", folder.path + "/recipe.json", "--output", folder.path + "/run"])
    #expect(outcome.status == 65)
    #expect(outcome.error.hasPrefix("lrqk: \(log): \(reason)"), "\(outcome.error)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: log)) == Data(bytes))
  }

  @Test func `a second run into the folder is told who holds it`() throws {
    let folder = try TemporaryFolder()
    try put(Self.recipe, folder.path + "/recipe.json")
    let output = folder.path + "/run"
    try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
    try put("4242\n", output + "/lock")
    let holder = try #require(FileHandle(forUpdatingAtPath: output + "/lock"))
    #expect(flock(holder.fileDescriptor, LOCK_EX) == 0)
    let arguments = [
      "train", "--recipe", folder.path + "/recipe.json", "--output", output, "--stop-after", "1",
    ]
    let refused = try run("lrqk", arguments)
    #expect(refused.status == 65)
    #expect(refused.error.hasPrefix("lrqk: \(output): process 4242 trains into this folder"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: output) == ["lock"])
    // Without its process the file hinders nobody.
    try holder.close()
    #expect(try run("lrqk", arguments).status == 0)
    #expect(!FileManager.default.fileExists(atPath: output + "/lock"))
  }

  @Test(
    arguments: [
      ("\"hidden_size\": 16", "\"hidden_size\": 16384", "GiB"),
      ("[[32, 2]]", "[[2, 1]]", "tokens are needed"),
      ("[[32, 2]]", "[[64, 65536]]", "GiB"),
      ("\"name\": \"a\"", "\"name\": \"a,b\"", "stages[0].name"),
    ])
  func `what cannot be trained is said before the folder is made`(
    _ part: String, _ wrong: String, _ reason: String
  ) throws {
    let folder = try TemporaryFolder()
    var text = Self.recipe.replacing(part, with: wrong)
    if reason == "GiB" {
      text = text.replacing("\"layers\": 1", with: "\"layers\": 256")
        .replacing("\"intermediate_size\": 16", with: "\"intermediate_size\": 65536")
    }
    try put(text, folder.path + "/recipe.json")
    let outcome = try run(
      "lrqk", ["train", "--recipe", folder.path + "/recipe.json", "--output", folder.path + "/run"])
    #expect(!outcome.error.contains(" 0.00 GiB"))
    #expect(outcome.status == 65 && outcome.error.contains(reason), "\(outcome.error)")
    #expect(outcome.error.split(separator: "\n").count == 1)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/run"))
  }
}
