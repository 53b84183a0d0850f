// The text that names a method, its options, and what is refused.

import CacheMethods
import Foundation
import Testing

private func message(_ text: String) -> String? {
  do {
    _ = try cacheMethod(text)
    return nil
  } catch {
    return error.description
  }
}

@Suite struct MethodTextTests {
  @Test func `names are those of the list, each once, with a line of summary`() throws {
    #expect(
      cacheMethods.map { $0.name } == [
        "full",
        "offload",
        "lrqk",
        "lrqk-no-hit-miss",
        "lrqk-prefill-offload",
        "topk",
        "top-p",
        "random",
        "loki",
        "infinigen",
        "shadowkv",
        "quest",
        "sparq",
        "double-sparsity",
        "key-bits",
        "compact",
        "streaming",
        "snapkv",
        "h2o",
        "fastgen",
        "kvzip",
        "fastkvzip",
        "pyramidkv",
        "curdkv",
        "expected-attention",
        "keydiff",
        "kivi",
        "think",
        "zipvl",
        "kvquant",
        "kvsink",
        "kv-efficient-vla",
        "smallkv",
        "factored",
      ])
    for type in cacheMethods {
      let method = try cacheMethod(type.name)
      #expect(Swift.type(of: method).name == type.name)
      #expect(!type.summary.isEmpty && !type.summary.contains("\n"))
      #expect(Set(type.optionList.map(\.name)).count == type.optionList.count)
    }
  }

  @Test func `options in effect are in the order of the list, and defaults are what is written`()
    throws
  {
    for type in cacheMethods {
      let options = try cacheMethod(type.name).options
      let listed = type.optionList.filter { o in options.contains { $0.name == o.name } }
      #expect(options.map { $0.name } == listed.map(\.name))
      for (option, known) in zip(options, listed) {
        #expect(option.value == known.defaultValue, "\(type.name) \(option.name)")
      }
      // The only defaults that are not in effect: what belongs to linear codes or to the closed
      // form, to a map or a first choice of key-bits, and a budget where k (or w) says how many
      // rows there are.
      let idle = type.optionList.filter { o in !options.contains { $0.name == o.name } }
      for option in idle {
        #expect(
          ["map-refresh", "ranks", "rank-energy"].contains(option.name)
            || type.name == "key-bits"
              && ["rank", "estimator", "seed", "first-k"].contains(option.name)
            || option.name == "budget" && option.defaultValue == "none", "\(type.name)")
      }
    }
  }

  @Test(
    arguments: sparseMethods + [
      "full", "offload", "lrqk", "topk", "streaming", "lrqk-no-hit-miss", "lrqk-prefill-offload",
      "lrqk:preset=recommended", "lrqk:solver=spectral", "lrqk:solver=spectral,code-map=linear",
      "lrqk:weights=1/2/0.5/3,weighted-update=jacobi,sweeps=4,sweep-tolerance=1e-08",
      "lrqk:initialization=randn:18446744073709551615,basis-update=damped:0.05,alternations=3",
      "lrqk:initialization=topcol,alternation-tolerance=0,ridge=0.001,on-breakdown=proceed",
      "lrqk:code-map=linear,solver=rowwise,map-refresh=16,arithmetic=library,candidates=all",
      "lrqk:preset=recommended,code-map=alternating,basis-update=frozen",
      "lrqk:preset=recommended,solver=gram,initialization=spectral",
      "lrqk:preset=recommended,ranks=by-model,rank-energy=relative,counts=pooled",
    ])
  func `options written out make the same method again`(_ text: String) throws {
    let method = try cacheMethod(text)
    let again = try cacheMethod(method.description)
    #expect(again.description == method.description)
    #expect(again.options.map { $0.name } == method.options.map { $0.name })
    #expect(again.options.map { $0.value } == method.options.map { $0.value })
    // What was asked for is in effect.
    for pair in text.split(separator: ":", maxSplits: 1).dropFirst().joined().split(separator: ",")
    {
      let sides = pair.split(separator: "=", maxSplits: 1).map(String.init)
      let value = method.options.first { $0.name == sides[0] }?.value
      #expect(value == sides[1] || value.flatMap(Double.init) == Double(sides[1]), "\(pair)")
    }
  }

  @Test(arguments: [
    ("fool", "there is no cache method 'fool'; there are: full, offload, lrqk,"),
    ("", "there is no cache method ''"), ("Full", "there is no cache method 'Full'"),
    ("streamin", "did you mean streaming? There are: full"), ("topK", "did you mean topk?"),
    ("lrkq:r=3", "did you mean lrqk?"), ("lrqk:prest=paper", "did you mean preset? It has: preset"),
    ("lrqk:map-refesh=3", "did you mean map-refresh?"), ("streaming:sink=3", "did you mean sinks?"),
    ("full:", "full: '' is not option=value"),
    ("full:k=3", "full has no option 'k'; it has: rows"),
    ("factored:k=3", "factored has no options, so no 'k'"),
    ("topk:r=3", "topk has no option 'r'; it has: k, w, budget, transfers, rows"),
    ("topk:k=3,k=3", "topk: k is given twice"), ("topk:k", "topk: 'k' is not option=value"),
    ("topk:k=", "topk: 'k=' is not option=value"), ("topk:=3", "topk: '=3' is not option=value"),
    ("topk:k=3,", "topk: '' is not option=value"),
    ("topk:k=0", "topk: k=0 is not a whole number from 1 to 1048576"),
    ("topk:w=1048577", "topk: w=1048577 is not a whole number from 1 to 1048576"),
    ("topk:k=99999999999999999999", "is not a whole number"),
    ("topk:k=3.5", "is not a whole number"), ("topk: k=3", "topk has no option ' k'"),
    ("topk:transfers=perQueryHead", "is none of: per-query-head, per-key-value-head"),
    ("streaming:sinks=-1", "streaming: sinks=-1 is not a whole number from 0 to"),
    ("streaming:w=0", "streaming: w=0 is not a whole number from 1 to"),
    ("streaming:positions=new", "positions=new is none of: renumbered, original"),
    ("lrqk:preset=best", "lrqk: preset=best is none of: paper, recommended"),
    ("lrqk:solver=svd", "lrqk: solver=svd is none of: rowwise, gram, spectral"),
    ("lrqk:initialization=given", "is none of: randn:SEED, top, topcol, spectral"),
    ("lrqk:initialization=randn:x", "is none of: randn:SEED"),
    ("lrqk:weights=1/2/3", "weights=1/2/3 is not lambda_Q/lambda_K/lambda_1/lambda_2"),
    ("lrqk:weights=1/2/3/-1", "lrqk: lambda_2 = -1.0: it must be finite, >= 0"),
    ("lrqk:weights=1/2/3/nan", "lambda_2 = nan: it must be finite"),
    ("lrqk:sweeps=1001", "sweeps=1001 is not a whole number from 0 to 1000"),
    ("lrqk:sweeps=0,code-map=linear", "linear codes need the maps of at least one sweep"),
    ("lrqk:alternations=0", "alternations=0 is not a whole number from 1 to 1000"),
    ("lrqk:ridge=inf", "ridge=inf is not a finite number, 0 or larger"),
    ("lrqk:basis-update=damped:0", "damping 0.0: it must be finite, > 0"),
    ("lrqk:code-map=quadratic", "code-map=quadratic is none of: alternating, linear"),
    ("lrqk:on-breakdown=go", "on-breakdown=go is none of: stop, proceed"),
    ("lrqk:reuse=none", "lrqk has no option 'reuse'; it has: preset, r, k, w,"),
    ("lrqk:map-refresh=0,code-map=linear", "map-refresh=0 is not a whole number from 1"),
    (
      "lrqk:map-refresh=5",
      "map-refresh has no effect with solver=gram and alternating codes; drop one of them"
    ),
    (
      "lrqk:preset=recommended,sweeps=3",
      "sweeps has no effect with solver=spectral and linear codes; drop one of them"
    ),
    ("lrqk:preset=recommended,basis-update=frozen", "basis-update has no effect with"),
    ("lrqk:preset=recommended,weights=1/1/1/1", "weights has no effect with"),
    ("lrqk:solver=spectral,weights=2/1/1/1", "lambda_Q and lambda_K of weights have no effect"),
    ("lrqk:code-map=linear,weights=1/1/2/1", "lambda_1 and lambda_2 of weights have no effect"),
    ("lrqk:preset=recommended,ridge=0.1", "ridge has no effect with"),
    ("lrqk:solver=spectral,initialization=top", "initialization has no effect with"),
    ("lrqk-no-hit-miss:k=-3", "lrqk-no-hit-miss: k=-3 is not a whole number"),
  ])
  func `a text that names no method says why in one line`(_ text: String, _ part: String) throws {
    let line = try #require(message(text))
    #expect(line.contains(part), "\(line)")
    #expect(!line.contains("\n"))
  }

  @Test func `a rank above the head width is refused when a cache is made`() throws {
    let method = try cacheMethod("lrqk:r=9")
    #expect(throws: (any Error).self) { _ = try method.makeCache(for: Layer(4, 2, 8).shape) }
    _ = try method.makeCache(for: Layer(3, 3, 16).shape)
  }
}

@Suite struct MethodPageTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../Docs/Methods")

  /// Methods that share a page.
  private static func page(of method: String) -> String {
    switch method {
    case "full", "offload", "factored": "baselines"
    case "topk", "random", "top-p": "controls"
    case let name where name.hasPrefix("lrqk"): "lrqk"
    default: method
    }
  }

  private static func lines(_ page: String) throws -> [String] {
    try String(contentsOf: folder.appending(path: "\(page).md"), encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  /// The page has a row for every option: its name, its default, its meaning.
  @Test func `the page of every method lists the options that there are`() throws {
    for method in cacheMethods where !method.optionList.isEmpty {
      let page = try Self.lines(Self.page(of: method.name))
      let own = page.firstIndex(of: "### `\(method.name)`")
      let start = try #require(own ?? page.firstIndex(of: "## Options"), "\(method.name)")
      let end = page[(start + 1)...].firstIndex { $0.hasPrefix("#") } ?? page.endIndex
      let rows = page[start..<end].filter { $0.hasPrefix("| `") }.map { line in
        line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      }
      #expect(
        rows == method.optionList.map { ["`\($0.name)`", $0.defaultValue, $0.meaning] },
        "\(method.name)")
    }
  }

  @Test func `the page of every weight method lists its options, and names its paper`() throws {
    for method in weightMethods {
      let page = try Self.lines(method.name)
      let start = try #require(page.firstIndex(of: "## Options"), "\(method.name)")
      let rows = page[start...].filter { $0.hasPrefix("| `") }.map { line in
        line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      }
      #expect(
        rows == method.optionList.map { ["`\($0.name)`", $0.defaultValue, $0.meaning] },
        "\(method.name)")
      #expect(page.joined(separator: "\n").contains(method.paper), "\(method.name)")
      let list = try Self.lines("README")
      #expect(list.contains { $0.hasPrefix("| [\(method.name)](\(method.name).md)") })
    }
  }

  @Test func `a method with a paper says so, and its page does`() throws {
    let without = cacheMethods.filter { $0.paper == nil }.map { $0.name }
    #expect(without == ["full", "offload", "topk", "top-p", "random", "key-bits", "compact"])
    for method in cacheMethods {
      guard let paper = method.paper else { continue }
      let page = try Self.lines(Self.page(of: method.name)).joined(separator: "\n")
      #expect(page.contains(paper), "\(method.name)")
    }
  }

  @Test func `all pages of methods have one outline`() throws {
    let pages = cacheMethods.map { Self.page(of: $0.name) } + weightMethods.map { $0.name }
    for page in Set(pages) {
      let lines = try Self.lines(page)
      #expect(lines.first?.hasPrefix("# ") == true, "\(page)")
      #expect(
        lines.filter { $0.hasPrefix("## ") } == [
          "## The idea", "## Formula", "## What is kept where", "## Cost",
          "## What the paper reports", "## What we measure", "## Where we deviate", "## Options",
        ], "\(page)")
    }
  }
}
