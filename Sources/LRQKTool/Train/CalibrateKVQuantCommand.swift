// lrqk calibrate kvquant: thresholds of key channels, and codebooks.

import ArgumentParser
import CacheMethods
import Tensors
import Transformers

struct CalibrateKVQuantCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvquant",
    abstract: "Thresholds of key channels and codebooks, for kvquant:calibration=FILE.",
    discussion: """
      For every layer: layers.N.lower and layers.N.upper (heads, d), the quantiles of every channel \
      of the keys before RoPE; for 2, 3, 4 and 5 bits layers.N.key_codebook_BITS and \
      layers.N.value_codebook_BITS (2^BITS), by k-means on normalised numbers that are no outliers, \
      all of one weight; layers.N.key_norm_BITS and layers.N.value_norm_BITS, scale and shift of \
      Q-Norm. All rows stay in memory: 8 bytes times the width of all heads for every token and \
      layer; --tokens limits them.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(help: "The part of numbers that is no outlier, above 0; 1: there are none.")
  var sparsity = 0.99
  @Option(help: "First tokens of a stretch that codebooks leave out.") var first = 0

  func validate() throws {
    if !(sparsity > 0 && sparsity <= 1) {
      throw ValidationError(
        "--sparsity \(sparsity): it must be above 0, where every number is an outlier, and at most "
          + "1, where none is")
    }
    if !(0...1 << 30).contains(first) {
      throw ValidationError("--first \(first): it must be from 0 to \(1 << 30)")
    }
  }

  func run() throws {
    try options.run(
      method: KVQuantMethod.name, options: ["sparsity": "\(sparsity)", "first": "\(first)"],
      gatherer: { _ in RowCollector(first: first) },
      checking: { stretches in
        let longest = stretches.map(\.count).max() ?? 0
        if first >= longest {
          throw InputError(
            "--first \(first) leaves no token for codebooks: the longest stretch has \(longest)")
        }
      }
    ) { layer, rows, writer in
      let ranges = rows.ranges(sparsity: sparsity)
      let shape = [layer.keyValueHeads, layer.width]
      for (name, limits) in [("lower", ranges.map(\.low)), ("upper", ranges.map(\.high))] {
        try writer.add(
          layerName(layer, name), Tensor(shape: shape, elements: limits), as: .float32)
      }
      let numbers = rows.numbers(ranges, sparsity: sparsity)
      for (side, numbers) in [("key", numbers.keys), ("value", numbers.values)] {
        if numbers.min() == numbers.max() {
          throw InputError(
            "layer \(layer.layer): no two \(side)s between their thresholds differ, so there is no "
              + "codebook; give more text, or a larger --sparsity")
        }
        for bits in 2...5 {
          let entries = kMeans(numbers, size: 1 << bits)
          let norm = qNorm(of: numbers, rounded: entries)
          try writer.add(
            layerName(layer, "\(side)_codebook_\(bits)"),
            Tensor(shape: [entries.count], elements: entries), as: .float32)
          try writer.add(
            layerName(layer, "\(side)_norm_\(bits)"),
            Tensor(shape: [2], elements: [norm.scale, norm.shift]), as: .float32)
        }
      }
    }
  }
}
