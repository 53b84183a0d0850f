// What `lrqk bench` counts and compares, and how it answers bad arguments. No times.

import Foundation
import LRQK
import LRQKTool
import Testing
import TieredMemory

@Suite("Benchmarks: what is counted")
struct BenchCountTests {
  private static let shape = CacheShape(queryHeads: 4, keyValueHeads: 2, width: 8)
  /// Heads 0 and 1 share a key/value head and three tokens; 2 and 3 share a head and one token.
  private static let sets = [[1, 2, 3, 9], [2, 3, 4, 9], [5, 9], [6, 9]]

  @Test func `a head of its own reads its own rows and codes`() throws {
    let parameters = try Parameters(.paper, rank: 3, selected: 3, recent: 1)
    let bytes = StepBytes(
      parameters, shape: Self.shape, candidates: 7, omega: [[0, 1], [1], [2, 3, 4], [5]],
      attended: Self.sets, missed: 5)
    // 7 keys of width 8 and 7 codes of width 3; four heads' codes of 7 tokens; five rows of 2 · 8
    // read and written; 12 rows attended to.
    #expect(bytes.omega == 4 * 7 * (8 + 3))
    #expect(bytes.codes == 4 * 4 * 7 * 3)
    #expect(bytes.copied == 4 * 5 * 16 * 2)
    #expect(bytes.attended == 4 * 12 * 16)
    #expect(bytes.total == bytes.omega + bytes.codes + bytes.copied + bytes.attended)
  }

  @Test func `what a group shares is read once`() throws {
    let parameters = try Parameters(.recommended, rank: 3, selected: 3, recent: 1)
    let bytes = StepBytes(
      parameters, shape: Self.shape, candidates: 7, omega: [[0, 1], [1], [2, 3, 4], [5]],
      attended: Self.sets, missed: 0)
    #expect(bytes.omega == 0, "linear codes are fitted to nothing")
    #expect(bytes.codes == 4 * 2 * 7 * 3, "two groups, not four heads")
    // {1, 2, 3, 4, 9} and {5, 6, 9}.
    #expect(bytes.attended == 4 * 8 * 16)
    #expect(bytes.copied == 0)
  }

  @Test func `codes and rows are shared apart from each other`() throws {
    var parameters = try Parameters(.paper, rank: 3, selected: 3, recent: 1)
    parameters.codeSharing = .perKeyValueHead
    let bytes = StepBytes(
      parameters, shape: Self.shape, candidates: 7, omega: [[0, 1], [1], [2, 3], [2]],
      attended: Self.sets, missed: 0)
    // Six exact keys, a list for each head; codes of {0, 1} and {2, 3}.
    #expect(bytes.omega == 4 * (6 * 8 + 4 * 3))
    #expect(bytes.codes == 4 * 2 * 7 * 3)
    #expect(bytes.attended == 4 * 12 * 16)
  }

  @Test func `a mean of steps is the mean of its parts`() throws {
    let parameters = try Parameters(.paper, rank: 1, selected: 1, recent: 1)
    let steps = [2, 4].map {
      StepBytes(
        parameters, shape: CacheShape(queryHeads: 1, keyValueHeads: 1, width: 1), candidates: $0,
        omega: [[]], attended: [[0]], missed: $0 / 2)
    }
    let mean = StepBytes(meanOf: steps)
    #expect(mean.codes == 12 && mean.copied == 24 && mean.attended == 8)
  }

  @Test func `a prompt is read twice at most, and a start once`() {
    let closed = prefillBytes(
      tokens: 10, queryHeads: 4, keyValueHeads: 2, groups: 2, width: 8, rank: 3,
      startsGiven: false)
    let swept = prefillBytes(
      tokens: 10, queryHeads: 4, keyValueHeads: 2, groups: 4, width: 8, rank: 3, startsGiven: true)
    // Q of 4 heads; K of 2 heads, twice; A_K of 2 groups. Then the starts of 4 heads and 4 groups.
    #expect(closed == 4 * 10 * ((4 + 2 + 2) * 8 + 2 * 3))
    #expect(swept == 4 * 10 * ((4 + 2 + 2) * 8 + 4 * 3 + (4 + 4) * 3))
  }

  @Test func `full attention reads every key and value once`() {
    #expect(attentionBytes(tokens: 10, keyValueHeads: 2, width: 8) == 4 * 10 * 2 * 8 * 2)
  }

  @Test func `a spread is the middle and the ends, whatever the order`() {
    let odd = Spread([5, 1, 3])
    #expect(odd.median == 3 && odd.least == 1 && odd.most == 5)
    #expect(Spread([4, 1, 2, 8]).median == 3)
  }

  @Test func `sizes of caches are read as the system writes them`() {
    #expect(cacheSize("266240K\n") == 266_240 << 10)
    #expect(cacheSize("48M") == 48 << 20)
    #expect(cacheSize("512") == 512)
    #expect(cacheSize("") == nil && cacheSize("large") == nil)
  }

  @Test func `results are compared by their relative difference`() {
    #expect(relativeDifference([3, 4], [3, 4]) == 0)
    #expect(abs(relativeDifference([3, 5], [3, 4]) - 0.2) < 1e-12)
    #expect(relativeDifference([1], [1, 2]) == .infinity)
  }
}

@Suite("Benchmarks: the commands")
struct BenchCommandTests {
  private static let decode = [
    "bench", "decode", "--tokens", "64", "-r", "8", "-k", "8", "-w", "4", "--runs", "2",
  ]

  private func object(_ arguments: [String]) throws -> [String: Any] {
    let found = try run("lrqk", arguments + ["--json"])
    #expect(found.status == 0 && found.error.isEmpty, "\(found.error)")
    return try #require(
      try JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any])
  }

  @Test(arguments: [("paper", 8), ("recommended", 2)])
  func `a step's codes are counted once a group`(_ preset: String, _ groups: Int) throws {
    let found = try object(Self.decode + ["--preset", preset])
    let stages = try #require(found["bytes_by_stage"] as? [String: Int])
    // Two steps after two that are not counted, with 67 and 68 tokens, of which 4 are recent; the
    // released method leaves one more out.
    let old = preset == "paper" ? 1 : 0
    #expect(stages["codes"] == 4 * groups * 8 * ((63 - old) + (64 - old)) / 2)
    #expect((stages["omega"] == 0) == (preset == "recommended"))
    #expect(found["bytes_touched"] as? Int == stages.values.reduce(0, +))
  }

  @Test func `the ledger's events of a step are counted, and their share is small`() throws {
    let found = try object(Self.decode)
    // Eight heads miss rows, and two key/value heads may flush their rings.
    let events = try #require(found["ledger_events"] as? Int)
    #expect((1...10).contains(events))
    #expect(try #require(found["ledger_share"] as? Double) < 0.03)
  }

  @Test func `every method runs that needs neither a file nor a second model`() throws {
    let found = try object([
      "bench", "select", "--tokens", "96", "--query-heads", "4", "--key-value-heads", "2",
      "--width", "32", "--budget", "48", "--turns", "1", "--steps", "2",
    ])
    let methods = try #require(found["methods"] as? [[String: Any]])
    let leftOut = try #require(found["left_out"] as? [[String: String]])
    #expect(leftOut.compactMap { $0["method"] } == ["fastkvzip", "kvsink", "smallkv", "factored"])
    #expect(leftOut.allSatisfy { $0["why"]?.isEmpty == false })
    let full = try #require(methods.first { $0["method"] as? String == "full:rows=f32" })
    // 98 or 99 rows attended to in the two steps that count.
    #expect(full["attended_rows"] as? Double == 98.5)
    #expect(full["device_share_of_full"] as? Double == 1)
    #expect(full["moved_bytes_per_step"] as? Double == 0)
    let exact = try #require(methods.first { ($0["method"] as? String ?? "").hasPrefix("topk:") })
    #expect(exact["attended_rows"] as? Double == 48)
  }

  @Test(arguments: [
    (["prefill", "--python", "python3"], "--python has no effect without --compare"),
    (["decode", "--pairs", "3"], "--pairs has no effect without --compare"),
    (["attention", "--compare", "--pairs", "0"], "--pairs 0"),
    (["select", "--cache", "full", "--budget", "5"], "--budget has no effect with --cache"),
    (["select", "--budget", "many"], "--budget many"),
    (["select", "--cache", "nothing"], "there is no cache method 'nothing'"),
    (["generate", "--context", "12,x"], "--context 12,x"),
    (["generate", "--format", "f32,f64"], "--format f64"),
  ])
  func `arguments that make no sense end with 64 and one line`(
    _ arguments: [String], _ sentence: String
  ) throws {
    let found = try run("lrqk", ["bench"] + arguments)
    #expect(found.status == 64 && found.output.isEmpty, "\(found.error)")
    #expect(found.error.contains(sentence) && found.error.filter(\.isNewline).count == 1)
  }

  @Test(arguments: ["false", "/nowhere/python"])
  func `a Python without PyTorch is one line`(_ python: String) throws {
    let found = try run(
      "lrqk",
      ["bench", "attention", "--tokens", "16", "--runs", "1", "--compare", "--python", python])
    #expect(found.status == 69 && found.output.isEmpty)
    #expect(found.error.contains("PyTorch") && found.error.contains(python))
    #expect(found.error.filter(\.isNewline).count == 1)
  }

  @Test func `a result that differs is refused, whatever its time`() throws {
    let python = try FakePython(answer: true)
    let found = try run(
      "lrqk",
      ["bench", "attention", "--tokens", "16", "--runs", "1", "--compare", "--python", python.path])
    #expect(found.status == 69 && found.error.contains("not comparable"), "\(found.error)")
  }
}

@Suite("Benchmarks: growth")
struct GrowthTests {
  @Test(arguments: [0.0, 0.5, 1, 2])
  func `the exponent of a power is that power`(_ p: Double) throws {
    let x = [4096.0, 16_384, 65_536]
    let found = try #require(exponent(x, x.map { 3 * pow($0, p) }))
    #expect(abs(found - p) < 1e-12)
  }

  @Test func `an exponent is the least squares line through the logarithms`() throws {
    // Logarithms 0, 1, 2 and 0, 2, 2: slope 1.
    let found = try #require(exponent([1, exp(1), exp(2)], [1, exp(2), exp(2)]))
    #expect(abs(found - 1) < 1e-12)
    #expect(
      exponent([5], [1]) == nil && exponent([5, 5], [1, 2]) == nil && exponent([], []) == nil)
  }

  /// A file of measurements: time grows with l, and with the square root of r.
  private static func file(_ folder: TemporaryFolder) throws -> String {
    func point(_ quantity: GrowthQuantity, _ value: Int, _ seconds: Double) -> GrowthPoint {
      GrowthPoint(
        quantity: quantity, value: value, work: .decode, preset: "paper",
        seconds: Spread([seconds]), peakBytes: value << 20)
    }
    let growth = Growth(
      start: GrowthSizes(tokens: 4096, rank: 32, selected: 256, heads: 8), runs: 1,
      processors: 2, coreType: "SkylakeX",
      points: [4096, 16_384].map { point(.tokens, $0, Double($0) / 4e6) }
        + [4, 16, 64].map { point(.rank, $0, Double($0).squareRoot() / 1000) })
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    let path = folder.path + "/growth.json"
    try encoder.encode(growth).write(to: URL(fileURLWithPath: path))
    #expect(try Growth(file: path) == growth)
    return path
  }

  @Test func `measurements from a file are shown with their exponents, and drawn`() throws {
    let folder = try TemporaryFolder()
    let (path, svg) = (try Self.file(folder), folder.path + "/growth.svg")
    let found = try run("lrqk", ["bench", "growth", "--from", path, "--svg", svg])
    #expect(found.status == 0 && found.error.isEmpty, "\(found.error)")
    let lines = found.output.split(separator: "\n").map(String.init)
    func words(_ start: String, _ n: Int) -> [Substring] {
      lines.filter { $0.contains(start) }[n].split(separator: " ")
    }
    #expect(words("decode, paper, ms", 0).suffix(4) == ["1.02", "4.10", "1.00", "1.00"])
    #expect(words("decode, paper, ms", 1).suffix(5) == ["2.00", "4.00", "8.00", "0.50", "0.50"])
    #expect(words("decode, paper, MiB", 1).suffix(5) == ["4", "16", "64", "1.00", "1.00"])
    let picture = try String(contentsOfFile: svg, encoding: .utf8)
    #expect(picture.contains("l, tokens") && picture.contains("r, rank"))
    #expect(!picture.contains("query heads</text>"), "nothing was measured over heads")
    #expect(picture.components(separatedBy: "<title>").count == 1 + 2 * 5, "a mark for each number")
    let table = try run("lrqk", ["bench", "growth", "--from", path, "--markdown"])
    #expect(table.output.contains("| r, rank | 4 | 16 | 64 | exponent | at the end |"))
  }

  @Test(arguments: [
    (["--from", "growth.json", "--runs", "3"], "--runs has no effect with --from"),
    (["--tokens", "8192,4096"], "--tokens: values must ascend"),
    (["--tokens", "512"], "--tokens 512"), (["--rank", "256"], "--rank 256"),
    (["--heads", "6"], "--heads 6"), (["--base", "1,2"], "--base"),
    (["--selected", "8,x"], "--selected 8,x"),
  ])
  func `sizes that make no sense end with 64 and one line`(
    _ arguments: [String], _ sentence: String
  ) throws {
    let found = try run("lrqk", ["bench", "growth"] + arguments)
    #expect(found.status == 64 && found.output.isEmpty, "\(found.error)")
    #expect(found.error.contains(sentence) && found.error.filter(\.isNewline).count == 1)
  }

  @Test func `a file of something else ends with 65 and one line`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/other.json"
    try Data("{}".utf8).write(to: URL(fileURLWithPath: path))
    let found = try run("lrqk", ["bench", "growth", "--from", path])
    #expect(found.status == 65 && found.error.contains("no measurements"), "\(found.error)")
  }
}

/// A program that stands in for a Python with PyTorch: each run takes half a second, as it says.
struct FakePython {
  private let folder: TemporaryFolder
  var path: String { "\(folder.path)/python" }

  /// With `answer` its result is four zeros; without, it is not to be asked.
  init(answer: Bool = false) throws {
    folder = try TemporaryFolder()
    let script = """
      #!/bin/sh
      echo ready 0
      while read -r word; do
        if [ "$word" = answer ]; then
          head -c \(answer ? 16 : 0) /dev/zero > "$2/answer.f32"; echo written
        else echo 0.5; fi
      done
      """
    try Data(script.utf8).write(to: URL(fileURLWithPath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
  }
}
