// One budget for all methods: rows, a part of the prompt, bytes of a layer.

import CacheMethods
import Testing
import Transformers

private let layers = [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20)]

@Suite struct BudgetTests {
  /// Counts by hand, for a prompt of 100 tokens: first rows and windows, and the rows that fill no
  /// chunk: 100 - 8 (100 div 8 - 4) = 36.
  @Test(arguments: [
    ("full", 1), ("topk:k=20,w=7", 7), ("lrqk:r=4,k=20,w=7", 7), ("streaming:sinks=3,w=7", 10),
    ("snapkv:budget=30,window=9", 9), ("kvzip:budget=30,sinks=3", 3), ("h2o:budget=30", 15),
    ("fastgen:globals=3,budget=30", 4), ("shadowkv:budget=60,chunk=8,local=4", 36),
    ("fastkvzip:gate=random,budget=30,first=2,window-ratio=0.1", 11),
    ("fastkvzip:gate=random,budget=5,first=2,window-ratio=0.1", 5),
  ])
  func `a report counts the rows that are there whatever their scores`(
    _ text: String, _ forced: Int
  ) throws {
    let layer = Layer(4, 2, 8)
    let use = try rival(text, layer).budgetUse(tokens: 100, layers: [layer.shape, layer.shape])
    #expect(use.forced == forced)
  }

  @Test(arguments: [
    "topk:k=20,w=4", "streaming:w=20", "snapkv:budget=30", "fastgen:globals=3,budget=30",
    "kvquant:bits=4", "kvquant:bits=4,sparsity=1", "kv-efficient-vla:w=20,chunk=4",
  ])
  func `bytes that are a bound are said to be that`(_ text: String) throws {
    let layer = Layer(4, 2, 8)
    let method = try cacheMethod(text)
    let use = method.budgetUse(tokens: 100, layers: [layer.shape, layer.shape])
    let bytes = method.bytes(tokens: 100, layer: layer.shape)
    #expect(use.isUpperBound == bytes.isUpperBound && use.bytes == 2 * bytes.device)
    #expect(use.text.contains("% of the prompt; at most ") == bytes.isUpperBound, "\(use.text)")
  }

  @Test(arguments: [
    ("512", Budget.rows(512)), ("25%", .percent(25)), ("0.5%", .percent(0.5)),
    ("100%", .percent(100)), ("256KiB", .bytes(262_144, text: "256KiB")),
    ("1.5MB", .bytes(1_500_000, text: "1.5MB")), ("12B", .bytes(12, text: "12B")),
  ])
  func `is rows, a part or bytes`(_ text: String, _ budget: Budget) {
    #expect(Budget(text) == budget)
    #expect(Budget(text)?.description == text)
  }

  @Test(arguments: [
    "", "0", "-1", "1.5", "0%", "101%", "nan%", "%", "KiB", "-1KiB", "0B", "1e30GiB", "25 %",
    "many",
  ])
  func `anything else is refused in one line`(_ text: String) {
    #expect(Budget(text) == nil)
    #expect(throws: MethodError.self) { _ = try cacheMethod("topk:budget=\(text)") }
  }

  @Test(arguments: [
    "topk:k=5,budget=10", "lrqk:k=5,budget=10", "streaming:w=5,budget=10",
  ])
  func `a budget and the rows that it stands for cannot both be given`(_ text: String) {
    #expect(throws: MethodError.self) { _ = try cacheMethod(text) }
  }

  @Test(arguments: ["topk:w=4", "lrqk:r=3,w=4", "streaming:sinks=3", "snapkv:window=4"])
  func `rows and parts come to as many rows a head`(_ text: String) throws {
    for layer in layers {
      for l in [1, 5, 20, 60] {
        for (budget, rows) in [("12", 12), ("25%", l / 4), ("100%", l), ("1000", l)] {
          let method = try cacheMethod("\(text),budget=\(budget)")
          let least = text.hasPrefix("snapkv") || text.hasPrefix("streaming") ? 4 : 5
          let expected = min(l, max(rows, least))
          #expect(
            method.attendedRows(tokens: l, layer: layer.shape) == expected, "\(budget) of \(l)")
          let use = method.budgetUse(tokens: l, layers: [layer.shape])
          #expect(use.rows == Double(expected) && use.share == Double(expected) / Double(l))
          #expect(use.bytes == method.bytes(tokens: l, layer: layer.shape).device)
        }
      }
    }
  }

  @Test(arguments: [
    "topk:w=4", "topk:w=4,transfers=per-key-value-head", "lrqk:r=3,w=4", "streaming:sinks=3",
    "snapkv:window=4", "snapkv:window=4,group=own",
  ])
  func `bytes buy the most rows that fit, and the device then holds no more`(_ text: String)
    throws
  {
    for layer in layers {
      for l in [20, 60] {
        func bytes(_ rows: Int) throws -> Int {
          try cacheMethod("\(text),budget=\(rows)").bytes(tokens: l, layer: layer.shape).device
        }
        for rows in [6, 11, l - 1] {
          let limit = try bytes(rows)
          let method = try cacheMethod("\(text),budget=\(limit)B")
          #expect(method.bytes(tokens: l, layer: layer.shape).device <= limit)
          let bought = method.attendedRows(tokens: l, layer: layer.shape)
          #expect(bought >= rows)
          #expect(try bought == l || bytes(bought + 1) > limit)
          let run = try Run(method.makeCache(for: layer.shape), Rows(layer, tokens: l), prompt: l)
          #expect(run.residentBytes[0] <= limit, "\(text) \(limit) B")
        }
      }
    }
  }

  @Test(arguments: ["h2o", "streaming:positions=original", "keydiff:during-answer=evict"])
  func `bytes that a prompt does not fill are the answer's`(_ text: String) throws {
    let rows = Rows(layers[0], tokens: 40)
    let full = try Run("full", rows, prompt: 10)
    let limit = layers[0].M * 40 * layers[0].rowBytes + 4096  // all rows, and h2o's sums
    let method = text.contains(":") ? "\(text),budget=\(limit)B" : "\(text):budget=\(limit)B"
    #expect(try Run(method, rows, prompt: 10).steps.map(\.attention) == full.steps.map(\.attention))
  }

  @Test(arguments: ["topk:w=4", "lrqk:r=3,w=4", "streaming:sinks=3", "snapkv:window=4"])
  func `bytes that are too few are an error of one line when the prompt comes`(_ text: String)
    throws
  {
    let layer = layers[0]
    let method = try cacheMethod("\(text),budget=100B")
    do {
      _ = try Run(method.makeCache(for: layer.shape), Rows(layer, tokens: 30), prompt: 30)
      Issue.record("\(text) took 100 bytes")
    } catch let error as MethodError {
      #expect(error.description.contains("budget=100B is less than the"))
    }
  }
}
