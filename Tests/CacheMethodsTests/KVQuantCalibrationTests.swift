// KVQuant: what a calibration says, how one is collected, and options that have no meaning.

import CacheMethods
import Tensors
import Testing
import Transformers

@Suite struct KVQuantCalibrationTests {
  @Test func `a calibration's ranges and codebooks are the ones that count`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    let shape = [2, 8]
    let tensors: [String: Tensor<Double>] = [
      "lower": Tensor(repeating: -1, shape: shape), "upper": Tensor(repeating: 1, shape: shape),
      "key_codebook_2": Tensor(shape: [4], elements: [-1, 0, 0.5, 1]),
      "value_codebook_2": Tensor(shape: [4], elements: [-1, -0.5, 0.5, 1]),
      "key_norm_2": Tensor(shape: [2], elements: [1, 0]),
      "value_norm_2": Tensor(shape: [2], elements: [0.5, 0]),
    ]
    try withCalibration("kvquant", tensors, options: ["sparsity": "0.99"]) { path in
      let text = "kvquant:bits=2,first=0,calibration=\(path)"
      let cache = try heldPrompt(text, rows, prompt: 30).cache
      for m in 0..<2 {
        for (a, b) in zip(cache.rows(head: m, 0..<30).keys.elements, rows.keysBefore[m].elements) {
          #expect(abs(b) > 1 ? a == b : [-1, 0, 0.5, 1].contains(a))
        }
      }
      let method = try cacheMethod(text)
      #expect(method.bytes(tokens: 30, layer: layer.shape).isUpperBound)
      #expect(try cacheMethod(method.description).description == method.description)
      // With Q-Norm values go half as far from their middle.
      let narrow = try heldPrompt(text + ",norm=on", rows, prompt: 30).cache
      #expect(narrow.rows(head: 0, 0..<30).values != cache.rows(head: 0, 0..<30).values)
      #expect(narrow.rows(head: 0, 0..<30).keys == cache.rows(head: 0, 0..<30).keys)
      #expect(
        methodError { _ = try cacheMethod("kvquant:sparsity=0.9,calibration=\(path)") }
          == "kvquant: sparsity is the calibration file's; drop one of them")
      let other = methodError {
        _ = try cacheMethod("kvquant:bits=3,calibration=\(path)").makeCache(for: layer.shape)
      }
      #expect(other.contains("layers.3.key_codebook_3"))
    }
    for (name, entries, part) in [
      ("key_codebook_2", [1.0, 0.5, 0, -1], "layers.3.key_codebook_2 is no codebook"),
      ("value_codebook_2", [-1, 0, 1, 3e38], "layers.3.value_codebook_2 is no codebook"),
      ("value_codebook_2", [0, 0, 0, 0], "layers.3.value_codebook_2 is no codebook: all entries"),
      ("value_norm_2", [3e38, 0], "layers.3.value_norm_2 moves a codebook beyond any number"),
    ] {
      var bad = tensors
      bad[name] = Tensor(shape: [entries.count], elements: entries)
      try withCalibration("kvquant", bad, options: ["sparsity": "0.99"]) { path in
        let text = "kvquant:bits=2,norm=on,calibration=\(path)"
        let line = methodError { _ = try cacheMethod(text).makeCache(for: layer.shape) }
        #expect(line.contains(part))
      }
    }
    var swapped = tensors
    swapped["lower"] = Tensor(repeating: 2, shape: shape)
    try withCalibration("kvquant", swapped, options: ["sparsity": "0.99"]) { path in
      let line = methodError {
        _ = try cacheMethod("kvquant:bits=2,calibration=\(path)").makeCache(for: layer.shape)
      }
      #expect(line.contains("a lower threshold of layer 3 is above the upper one"))
    }
  }

  @Test func `collected stretches give the thresholds of all rows, and leave first rows out`() {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 50)
    var collector = RowCollector(first: 2)
    for part in [0..<20, 20..<50] {
      collector.add(
        PromptRows(
          queries: rows.queries.map { $0.rows(part) }, keys: rows.keys.map { $0.rows(part) },
          keysBeforeRotary: rows.keysBefore.map { $0.rows(part) },
          values: rows.values.map { $0.rows(part) }))
    }
    let ranges = collector.ranges(sparsity: 0.9)
    let all = sideBySide(rows.keysBefore)
    #expect(ranges == channelRanges(all, sparsity: 0.9))
    let kept = Array(2..<20) + Array(22..<50)
    let numbers = collector.numbers(ranges, sparsity: 0.9)
    #expect(numbers.keys == channelNumbers(all.gather(rows: kept), ranges))
    #expect(
      numbers.values
        == tokenNumbers(sideBySide(rows.values).gather(rows: kept), sparsity: 0.9))
    #expect(numbers.keys.allSatisfy { abs($0) <= 1 } && numbers.values.allSatisfy { abs($0) <= 1 })
  }

  @Test(arguments: [
    ("bits=1", "bits=1 is not a whole number from 2 to 5"), ("sparsity=1.5", "is not from 0 to 1"),
    ("codebook=nf", "is none of: kmeans, even"),
    ("norm=on,codebook=even", "norm has no effect with codebook=even; drop one of them"),
    ("cap=on,sparsity=1", "cap has no effect where there are no outliers; drop one of them"),
    ("calibration=/nowhere", "kvquant: /nowhere"),
  ])
  func `an option that has no meaning is one line`(_ options: String, _ part: String) {
    let line = methodError { _ = try cacheMethod("kvquant:\(options)") }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
