// lrqk bench growth: how time and memory grow with l, r, k and the number of heads.
//
// In:  sizes to start from, and for each of the four quantities the values that it takes while the
//      other three stay; or a file of earlier measurements.
// Out: a table of times and peak memory with exponents, the measurements as JSON, a picture.
//
// Each measurement is a process of its own, `lrqk bench prefill` or `lrqk bench decode`, so that
// its peak memory is its own and nothing of an earlier one is left in a cache. The exponent p of a
// quantity n is the slope of a line through the points (log n, log y), fitted by least squares:
// y grows as nᵖ. GrowthTable.swift makes the table, GrowthChart.swift the picture.

import ArgumentParser
import Foundation
import LRQK
import Reports
import Tensors

struct BenchGrowth: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "growth",
    abstract: "Measure how time and memory of prefill and decode grow with l, r, k and heads.",
    discussion: """
      One quantity takes several values while the others stay at --base: 32768 tokens, r = 32, \
      k = 1024, w = 64, 8 query heads, d = 128, four query heads for each key/value head. Both \
      presets. Peak memory is that of the whole process, random queries, keys and values included. \
      --save keeps the measurements, and --from shows them again.
      """)

  @Option(help: "Values of l, tokens of the prompt. (default: 4096,16384,65536,262144,1048576)")
  var tokens: String?
  @Option(help: "Values of r. (default: 8,16,32,64)") var rank: String?
  @Option(help: "Values of k. (default: 256,512,1024,2048,4096)") var selected: String?
  @Option(help: "Values of the number of query heads. (default: 4,8,16,32)") var heads: String?
  @Option(help: "l, r, k and query heads while another one varies. (default: 32768,32,1024,8)")
  var base: String?
  @Option(help: "Timed runs of each measurement. (default: 5)") var runs: Int?
  @Option(
    help: "Show earlier measurements from this file instead of measuring.",
    completion: .file(extensions: ["json"]))
  var from: String?
  @Option(help: "Keep the measurements in this file.", completion: .file(extensions: ["json"]))
  var save: String?
  @Option(help: "Draw a picture, an SVG file.", completion: .file(extensions: ["svg"]))
  var svg: String?
  @Flag(help: "Print the table in Markdown.") var markdown = false
  @Flag(help: "Print the measurements as one JSON object.") var json = false

  func validate() throws {
    if from != nil {
      let given: [(String, Bool)] = [
        ("--tokens", tokens != nil), ("--rank", rank != nil), ("--selected", selected != nil),
        ("--heads", heads != nil), ("--base", base != nil), ("--runs", runs != nil),
        ("--save", save != nil),
      ]
      if let (name, _) = given.first(where: { $0.1 }) {
        throw ValidationError("\(name) has no effect with --from: nothing is measured")
      }
    }
    if markdown && json { throw ValidationError("--markdown has no effect with --json") }
    try requireRange([("--runs", runs, 10_000)])
    let start = try startSizes
    for quantity in GrowthQuantity.allCases {
      for value in try values(of: quantity) {
        var sizes = start
        sizes[quantity] = value
        try sizes.check(quantity)
      }
    }
  }

  /// The values that a quantity takes.
  private func values(of quantity: GrowthQuantity) throws -> [Int] {
    let (given, standard): (String?, String) =
      switch quantity {
      case .tokens: (tokens, "4096,16384,65536,262144,1048576")
      case .rank: (rank, "8,16,32,64")
      case .selected: (selected, "256,512,1024,2048,4096")
      case .heads: (heads, "4,8,16,32")
      }
    let values = try wholeNumbers(given ?? standard, "--\(quantity.rawValue)")
    if zip(values, values.dropFirst()).contains(where: { $0 >= $1 }) {
      throw ValidationError("--\(quantity.rawValue): values must ascend")
    }
    return values
  }

  private var startSizes: GrowthSizes {
    get throws {
      let numbers = try wholeNumbers(base ?? "32768,32,1024,8", "--base")
      guard numbers.count == 4 else {
        throw ValidationError("--base: it is four numbers, l, r, k and query heads")
      }
      return GrowthSizes(
        tokens: numbers[0], rank: numbers[1], selected: numbers[2], heads: numbers[3])
    }
  }

  func run() throws {
    do {
      var files = CommandFiles()
      files.reads(from, "--from")
      files.writes(save, "--save")
      files.writes(svg, "--svg")
      try files.check()
      let growth = try from.map { try Growth(file: $0) } ?? measured()
      let text = try jsonText(growth)
      if let save { try writeFile((text + "\n").utf8, to: save) }
      show(json ? text : GrowthTable(growth).text(isMarkdown: markdown))
      if let svg { try writeFile(GrowthChart(growth).svg.utf8, to: svg) }
    } catch {
      fail(error, from ?? "bench growth")
    }
  }

  /// All measurements, one after the other.
  private func measured() throws -> Growth {
    let start = try startSizes
    let runs = runs ?? 5
    let plan = try GrowthQuantity.allCases.flatMap { quantity in
      try values(of: quantity).flatMap { value in
        GrowthWork.allCases.flatMap { work in
          Preset.allCases.map { (quantity, value, work, $0) }
        }
      }
    }
    let progress = ProgressBar(label: "measurements", isWanted: nil)
    var points: [GrowthPoint] = []
    for (n, (quantity, value, work, preset)) in plan.enumerated() {
      progress.show(n, of: plan.count)
      var sizes = start
      sizes[quantity] = value
      // k has no part in prefill: its points are those of the start.
      if quantity == .selected && work == .prefill { continue }
      points.append(
        try GrowthPoint(quantity, sizes, work, preset, runs: runs))
    }
    progress.clear()
    return Growth(
      start: start, runs: runs, processors: processorCount,
      coreType: LibraryKernels.current.coreType, points: points)
  }
}
