// Queries, keys and values of one layer, from a seed.
//
// In:  sizes. Out: rows whose directions weigh less and less, as those of real heads do: x_t = n_t
//      diag(1, f, f², ...) M with normals n_t and a mixing matrix M that queries and keys of one group
//      share. Selections then have something to select. A query resembles the one before it, so that
//      some of its rows lie there already.

#if OpenCL || CUDA

  public import LRQK
  public import Tensors

  /// One layer's rows and choices, by name.
  public struct LayerCase: Sendable, CustomStringConvertible {
    /// What it is called.
    public let name: String
    /// The choices.
    public let parameters: Parameters
    /// Tokens of the prompt.
    public let prompt: Int
    /// Decode steps.
    public let steps: Int
    /// Queries (l, d) of every query head.
    public let queries: [Tensor<Float>]
    /// Keys (l, d) of every key/value head.
    public let keys: [Tensor<Float>]
    /// Values (l, d) of every key/value head.
    public let values: [Tensor<Float>]
    /// d.
    public let width: Int

    /// The name.
    public var description: String { name }

    /// Rows for `prompt` + `steps` tokens.
    public init(
      _ name: String, _ parameters: Parameters, prompt: Int, steps: Int, queryHeads: Int = 8,
      keyValueHeads: Int = 2, width d: Int = 32, decay: Double = 0.85, seed: UInt64 = 5
    ) {
      let l = prompt + steps
      func rows(_ stream: Int, mixing: Int, memory: Double = 0) -> Tensor<Float> {
        var x = Tensor<Double>.normal(shape: [l, d], seed: seed, stream: UInt64(stream))
        for t in 1..<l {
          for j in 0..<d {
            x[t, j] = memory * x[t - 1, j] + (1 - memory * memory).squareRoot() * x[t, j]
          }
        }
        var factor = 1.0
        for j in 0..<d {
          for t in 0..<l { x[t, j] *= factor }
          factor *= decay
        }
        let mix = Tensor<Double>.normal(shape: [d, d], seed: seed, stream: UInt64(mixing))
        return matmul(x, mix, in: .reference).map { Float($0 / Double(d).squareRoot()) }
      }
      self.name = name
      self.parameters = parameters
      self.prompt = prompt
      self.steps = steps
      width = d
      let share = queryHeads / keyValueHeads
      queries = (0..<queryHeads).map { rows(100 + $0, mixing: 300 + $0 / share, memory: 0.9) }
      keys = (0..<keyValueHeads).map { rows(200 + $0, mixing: 300 + $0) }
      values = (0..<keyValueHeads).map { rows(400 + $0, mixing: 500 + $0) }
    }

    /// The prompt's part of some heads' rows.
    func promptRows(_ heads: [Tensor<Float>]) -> [Tensor<Float>] {
      heads.map { $0.rows(0..<prompt) }
    }

    /// Token t's row of every head.
    func token(_ t: Int, _ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }

    /// The two presets over 300 steps with grouped-query heads, four to a key/value head.
    public static let long: [LayerCase] = [
      LayerCase(
        "paper, 300 steps", choices(.paper, 8, 24, 8), prompt: 200,
        steps: 300),
      LayerCase(
        "recommended, 300 steps", choices(.recommended, 8, 24, 8),
        prompt: 200, steps: 300),
    ]

    private static func short(
      _ name: String, _ preset: Preset = .paper, prompt: Int = 70, width: Int = 16,
      rank: Int = 4, queryHeads: Int = 4, _ change: (inout Parameters) throws -> Void = { _ in }
    ) -> LayerCase {
      let parameters = choices(preset, rank, 12, 5, change)
      return LayerCase(
        name, parameters, prompt: prompt, steps: 24, queryHeads: queryHeads, width: width, seed: 8)
    }

    /// Every choice that decode depends on, and the lengths at which something begins.
    public static let choices: [LayerCase] = [
      short("all candidates") { $0.candidates = .all },
      short("frozen bases") { $0.codes = .alternating(Alternation(.frozen)) },
      short("damped, shared codes") {
        $0.codes = .alternating(Alternation(.damped(0.1)))
        $0.codeSharing = .perKeyValueHead
      },
      short("shared rows") { $0.rows = .perKeyValueHead(attended: .own) },
      short("shared codes, own rows", .recommended) { $0.rows = .perQueryHead },
      short("own codes, linear", .recommended) { $0.codeSharing = .perQueryHead },
      short("weights, ridge, no tolerance") {
        $0.alternation?.weights = try AlternationWeights(selfProduct: 0.5, selectedProducts: 2)
        $0.sweeps?.ridge = 1e-3
        $0.alternation?.ridge = 1e-3
        $0.alternation?.iterations = try AlternationIterations(3, tolerance: 0)
      },
      short("prompt of k tokens", prompt: 12),
      short("prompt of k + w tokens", prompt: 17),
      short("prompt of k + w tokens, recommended", .recommended, prompt: 17),
      short("prompt of k + w + 1 tokens", prompt: 18),
      short("odd sizes", width: 37, rank: 7, queryHeads: 6),
      short("rank 1", .recommended, rank: 1),
      short("rank d", .recommended, width: 8, rank: 8),
    ]
  }

  /// A preset's choices at these sizes, changed.
  func choices(
    _ preset: Preset, _ rank: Int, _ selected: Int, _ recent: Int,
    _ change: (inout Parameters) throws -> Void = { _ in }
  ) -> Parameters {
    do {
      var parameters = try Parameters(preset, rank: rank, selected: selected, recent: recent)
      try change(&parameters)
      return parameters
    } catch {
      preconditionFailure("\(error)")
    }
  }

#endif
