// Every command that prints JSON, with arguments that show all of its keys.
//
// In:  nothing; the commands of the package, run on what the tests come with.
// Out: the objects that they print, for JSONPageTests.swift, which compares them with Docs/json.md.

import Foundation
import Testing

/// Any JSON value; whole numbers are told from others, and true from 1.
enum AnyJSON: Decodable {
  case null
  case boolean
  case integer
  case number
  case string(String)
  case list([AnyJSON])
  case object([String: AnyJSON])

  init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    if value.decodeNil() {
      self = .null
    } else if (try? value.decode(Bool.self)) != nil {
      self = .boolean
    } else if (try? value.decode(Int.self)) != nil {
      self = .integer
    } else if (try? value.decode(Double.self)) != nil {
      self = .number
    } else if let text = try? value.decode(String.self) {
      self = .string(text)
    } else if let list = try? value.decode([AnyJSON].self) {
      self = .list(list)
    } else {
      self = .object(try value.decode([String: AnyJSON].self))
    }
  }
}

/// Runs of the tool, and where the page describes what they print.
struct JSONRuns: CustomTestStringConvertible, Sendable {
  /// Tables whose keys stand side by side; the first one names the runs.
  let headings: [String]
  let runs: [[String]]
  /// Which output counts: standard output, or this many lines less of a log.
  var isLog = false
  /// The file of the new folder that counts instead; nil for standard output.
  var file: String?
  /// Where the page lists the keys of lines that are a list's elements.
  var rowsBehind = ""
  var testDescription: String { headings[0] + (rowsBehind.isEmpty ? "" : "l") }

  private static let llama = ModelToolTests.checkpoint("llama3")
  private static let ids = llama + "/expected.safetensors"
  private static let tiny = EvaluationToolTests.tiny
  private static let replays = ReplayToolTests.root.appendingPathComponent("Tests/ReplayTests").path
  private static let lrqk = "lrqk:preset=paper,r=4,k=16,w=4"

  /// Stands for a file of scores that are wrong.
  private static let wrongScores = "WRONG"
  /// Stands for a file to come.
  private static let newFile = "NEW"
  /// Stands for a program in place of a Python with PyTorch.
  private static let fakePython = "PYTHON"

  private static func generate(_ cache: String, _ more: [String] = []) -> [String] {
    ["generate", "-m", llama, "--ids-file", ids, "-n", "9", "--json", "--cache", cache] + more
  }

  private static let ruler = [
    "ruler", "-m", tiny, "--tasks", "niah_multikey_2,qa_1", "--lengths", "330", "--samples", "2",
    "--cache", "full", "--cache", "lrqk:preset=recommended,r=4,k=16,w=8",
  ]
  private static let compare = [
    "compare", tiny, "--methods", "quest,factored", "--tasks", "niah_multikey_2,qa_1", "--lengths",
    "400", "--samples", "2", "--answer-tokens", "4", "--budget", "1/4,1/400", "--output", newFile,
  ]
  private static let perplexity = [
    "perplexity", "-m", tiny, "--text",
    ReplayToolTests.root.appendingPathComponent("README.md").path,
    "--context", "60", "--stride", "20", "--windows", "2", "--cache", "full", "--cache",
    "lrqk:preset=recommended,r=4,k=16,w=8", "--cache", "topk:k=500,w=8",
  ]

  static let all = [
    JSONRuns(
      headings: ["lrqk generate --json"],
      runs: [
        generate(lrqk, ["--recall"]), generate("full"), generate("lrqk:r=4,k=500,w=8"),
        generate("smallkv:assistant=\(llama)"),
        ["generate", "-m", tiny, "-p", "the grass is", "-n", "3", "--json"],
      ]),
    JSONRuns(
      headings: ["lrqk inspect --json"],
      runs: ModelToolTests.names.map { ["inspect", "-m", ModelToolTests.checkpoint($0), "--json"] }
        + [["inspect", "-m", llama, "--json", "--cache", "smallkv:assistant=\(llama)"]]),
    JSONRuns(
      headings: ["lrqk heads --json"],
      runs: [["heads", "-m", llama, "--json"], ["heads", "-m", tiny, "--json"]]),
    JSONRuns(
      headings: ["lrqk check --json"],
      runs: [
        ["check", "--backend", "cpu", "--json"],
        [
          "check", "--candidate", wrongScores, "--kernel", "proxy-scores", "--case",
          "one-candidate", "--json",
        ],
      ]),
    JSONRuns(
      headings: ["lrqk replay --json"],
      runs: ["Golden/trajectory-gqa", "Golden/prefill-r8", "Golden/decode-r8"].map {
        ["replay", "\(replays)/\($0).safetensors", "--json"]
      } + [["replay", "\(replays)/Captures/needle-layer0.safetensors", "--steps", "9", "--json"]]),
    JSONRuns(
      headings: ["lrqk replay --cache METHOD --json"],
      runs: ["snapkv:budget=12.5%", "full"].map {
        [
          "replay", "\(replays)/Captures/needle-layer0.safetensors", "--steps", "9", "--json",
          "--cache", $0,
        ]
      }),
    JSONRuns(
      headings: ["lrqk frontier --format json"],
      runs: [
        [
          "frontier", "\(replays)/Captures/needle-layer0.safetensors", "--steps", "4", "--format",
          "json",
        ]
      ]),
    JSONRuns(
      headings: ["lrqk replay RIVAL --json"],
      runs: ["h2o-1", "kvlatent-1", "snapkv-1"].map {
        ["replay", "\(replays)/Rivals/\($0).safetensors", "--json"]
      }),
    JSONRuns(
      headings: ["lrqk ruler --format json"],
      runs: [
        ruler + ["--format", "json", "--recall", "--needle-recall"],
        ruler + ["--format", "json", "--shard", "1/2", "--log", newFile],
        ["ruler", "-m", tiny, "--lengths", "100", "--samples", "1", "--format", "json"],
        [
          "sweep", "-m", tiny, "--tasks", "niah_multikey_2", "--length", "330", "--samples", "1",
          "--r", "4", "--k", "16", "--w", "8", "--preset", "recommended", "--svg", newFile,
          "--format", "json",
        ],
      ]),
    JSONRuns(
      headings: ["lrqk ruler --format json"],
      runs: [ruler + ["--format", "jsonl"]], rowsBehind: "results[]."),
    JSONRuns(
      headings: ["lrqk ruler --log"], runs: [ruler + ["--recall", "--needle-recall"]],
      isLog: true),
    JSONRuns(
      headings: ["lrqk ruler --show-prompts --format jsonl"],
      runs: [
        [
          "ruler", "-m", tiny, "--tasks", "niah_multikey_2,qa_1", "--lengths", "330", "--samples",
          "1", "--show-prompts", "--format", "jsonl",
        ]
      ]),
    JSONRuns(
      headings: ["lrqk compare --format json"],
      runs: [compare + ["--format", "json"]]),
    JSONRuns(
      headings: ["predictions.jsonl of lrqk compare"], runs: [compare], file: "predictions.jsonl"),
    JSONRuns(headings: ["trials.jsonl of lrqk compare"], runs: [compare], file: "trials.jsonl"),
    JSONRuns(headings: ["config.json of lrqk compare"], runs: [compare], file: "config.json"),
    JSONRuns(headings: ["metrics.json of lrqk compare"], runs: [compare], file: "metrics.json"),
    JSONRuns(headings: ["results.json of lrqk compare"], runs: [compare], file: "results.json"),
    JSONRuns(
      headings: ["lrqk perplexity --format json"],
      runs: [
        perplexity + ["--format", "json"],
        perplexity + ["--format", "json", "--shard", "2/2", "--log", newFile],
      ]),
    JSONRuns(
      headings: ["lrqk perplexity --format json"],
      runs: [perplexity + ["--format", "jsonl"]], rowsBehind: "results[]."),
    JSONRuns(headings: ["lrqk perplexity --log"], runs: [perplexity], isLog: true),
    JSONRuns(
      headings: ["lrqk tokenize"], runs: [["tokenize", "-m", tiny, "--text", "the grass"]]),
    JSONRuns(
      headings: ["lrqk bench prefill --json", "openblas", "limits"],
      runs: [
        ["bench", "prefill", "--tokens", "64", "-r", "8", "--runs", "1", "--json"],
        [
          "bench", "prefill", "--tokens", "64", "-r", "8", "--runs", "1", "--json", "--preset",
          "recommended", "--compare", "--python", fakePython, "--pairs", "2",
        ],
        [
          "bench", "decode", "--tokens", "64", "-r", "8", "-k", "8", "-w", "4", "--runs", "1",
          "--json",
        ],
      ]),
    JSONRuns(
      headings: ["lrqk bench attention --json", "openblas", "limits"],
      runs: [["bench", "attention", "--tokens", "64", "--runs", "1", "--json"]]),
    JSONRuns(
      headings: ["lrqk bench select --json", "openblas"],
      runs: [
        [
          "bench", "select", "--tokens", "64", "--query-heads", "2", "--key-value-heads", "1",
          "--width", "32", "--turns", "1", "--steps", "1", "--budget", "48", "--json",
        ]
      ]),
    JSONRuns(
      headings: ["lrqk bench generate --json", "openblas"],
      runs: ["full", "topk:k=500,w=4"].map {
        [
          "bench", "generate", "-m", llama, "--context", "9", "--runs", "1", "--steps", "2",
          "--cache", $0, "--json",
        ]
      }),
    JSONRuns(
      headings: ["lrqk bench growth --json"],
      runs: [
        [
          "bench", "growth", "--tokens", "80,128", "--rank", "4", "--selected", "8", "--heads",
          "4", "--base", "80,4,8,4", "--runs", "1", "--json",
        ]
      ]),
    JSONRuns(
      headings: ["lrqk bench train-step --json", "openblas"],
      runs: [
        [
          "bench", "train-step", "--vocabulary", "50", "--layers", "1", "--hidden", "16",
          "--query-heads", "2", "--key-value-heads", "1", "--width", "8", "--intermediate", "16",
          "--batch", "2", "--length", "8", "--shards", "1", "--steps", "1", "--json",
        ]
      ]),
  ]

  /// The objects that the runs print.
  func objects() throws -> [[String: AnyJSON]] {
    var objects: [[String: AnyJSON]] = []
    func add(_ text: some StringProtocol) throws {
      let value = try JSONDecoder().decode(AnyJSON.self, from: Data(text.utf8))
      if case .object(let object) = value { objects.append(object) }
    }
    for arguments in runs {
      let folder = try TemporaryFolder()
      let log = folder.path + "/log"
      let scores = folder.path + "/scores.safetensors"
      // Zeros, (6, 1) in F32.
      let header = #"{"scores":{"dtype":"F32","shape":[6,1],"data_offsets":[0,24]}}"#
      let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
      try Data(length + header.utf8 + [UInt8](repeating: 0, count: 24))
        .write(to: URL(fileURLWithPath: scores))
      let isWrong = arguments.contains(Self.wrongScores)
      let python = try FakePython()
      let stands = [
        Self.wrongScores: scores, Self.newFile: folder.path + "/new", Self.fakePython: python.path,
      ]
      let words = arguments.map { stands[$0] ?? $0 }
      let found = try run("lrqk", words + (isLog ? ["--log", log] : []))
      #expect(found.status == (isWrong ? 1 : 0), "\(words): \(found.error)")
      let path = isLog ? log : file.map { "\(folder.path)/new/\($0)" }
      let text = try path.map { try String(contentsOfFile: $0, encoding: .utf8) } ?? found.output
      let hasHead = isLog || file?.hasSuffix(".jsonl") == true
      if hasHead || arguments.contains("jsonl") {
        for line in text.split(separator: "\n").dropFirst(hasHead ? 1 : 0) { try add(line) }
      } else {
        try add(text)
      }
    }
    return objects
  }
}
