// lrqk calibrate infinigen: the directions in which every head's queries vary.

import ArgumentParser
import CacheMethods
import Tensors

struct CalibrateInfiniGenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "infinigen",
    abstract: "Skew matrices of the queries, for infinigen:skew=FILE.",
    discussion: """
      For every layer: layers.N.skew (query heads, d, d), the right singular vectors of each head's \
      queries after RoPE as columns, largest singular value first; layers.N.group_skew (key/value \
      heads, d, d), the same of all queries of a group.
      """)

  @OptionGroup var options: CalibrationOptions

  func run() throws {
    try options.run(
      method: InfiniGenMethod.name, gatherer: { QueryMoments(layer: $0) }
    ) { layer, moments, writer in
      for (name, parts) in [("skew", moments.heads), ("group_skew", moments.groups)] {
        try writer.add(
          layerName(layer, name), Tensor(stacking: try parts.map { try $0.rightSingularVectors() }),
          as: .float32)
      }
    }
  }
}
