// What a device takes over from prefill, and what it refuses.
//
// In:  a prompt's factors and first selected sets, from the CPU's cache or from
//      DevicePrefill.swift; the choices of a cache.
// Out: the same, checked: sizes that fit each other, choices that DeviceLRQKCache.swift has. An
//      error is one sentence.

#if OpenCL || CUDA

  package import LRQK
  package import Tensors

  /// What prefill leaves for decode: by group of heads that shares codes, and by query head.
  package struct PromptState: Sendable {
    /// Tokens of the prompt, l.
    package let length: Int
    /// A_K of each group, (l, r).
    package let codes: [Tensor<Float>]
    /// B_Q (r, d) of each group, or W_Q (d, r) with linear codes.
    package let queryMatrices: [Tensor<Float>]
    /// B_K (r, d) of each group, or W_K (d, r) with linear codes.
    package let keyMatrices: [Tensor<Float>]
    /// Selected tokens of each query head, ascending.
    package let selected: [[Int]]

    /// A state from its parts.
    package init(
      length: Int, codes: [Tensor<Float>], queryMatrices: [Tensor<Float>],
      keyMatrices: [Tensor<Float>], selected: [[Int]]
    ) {
      self.length = length
      self.codes = codes
      self.queryMatrices = queryMatrices
      self.keyMatrices = keyMatrices
      self.selected = selected
    }

    /// The state of the CPU's cache after its prompt.
    package init(_ cache: LRQKCache<Float>) throws {
      if cache.isCollecting || cache.step != 0 {
        throw LRQKError.parameter(
          "a device takes over a prompt of at least k and r tokens, before its first decode step")
      }
      self.init(
        length: cache.length, codes: cache.keyCodes, queryMatrices: cache.matrices.map(\.queries),
        keyMatrices: cache.matrices.map(\.keys), selected: cache.selected)
    }
  }

  extension PromptState {
    /// Throws unless this state and the prompt's rows have the sizes of such a cache.
    func check(
      keys: [Tensor<Float>], values: [Tensor<Float>], groups: Int, queryHeads: Int,
      keyValueHeads: Int, width: Int, _ parameters: Parameters
    ) throws {
      let (l, r) = (length, parameters.rank)
      func require(_ holds: Bool, _ sentence: @autoclosure () -> String) throws {
        if !holds { throw LRQKError.parameter(sentence()) }
      }
      try require(
        l >= max(parameters.selected, r),
        "a device takes over a prompt of at least k and r tokens, not \(l)")
      let matrix = parameters.hasLinearCodes ? [width, r] : [r, width]
      for (name, tensors, count, shape) in [
        ("A_K", codes, groups, [l, r]), ("B_Q or W_Q", queryMatrices, groups, matrix),
        ("B_K or W_K", keyMatrices, groups, matrix), ("K", keys, keyValueHeads, [l, width]),
        ("V", values, keyValueHeads, [l, width]),
      ] {
        try require(tensors.count == count, "\(name): \(tensors.count) of \(count) were given")
        for tensor in tensors {
          try require(tensor.shape == shape, "\(name) has shape \(tensor.shape), not \(shape)")
        }
      }
      try require(
        selected.count == queryHeads
          && selected.allSatisfy { $0.count == parameters.selected },
        "k = \(parameters.selected) selected tokens of each of \(queryHeads) query heads")
      for tokens in selected {
        try require(
          zip(tokens, tokens.dropFirst()).allSatisfy { $0 < $1 } && tokens.first ?? 0 >= 0
            && tokens.last ?? 0 < l, "selected tokens ascend from 0 and are older than \(l)")
      }
    }
  }

  extension DeviceLRQKCache {
    /// Throws for a choice that this backend does not have.
    static func checkSupport(_ parameters: Parameters, _ context: GPUContext) throws {
      if parameters.refreshInterval != nil {
        throw LRQKError.parameter("the GPU backend does not refresh maps: choose mapRefresh never")
      }
      if parameters.reuse != .hitMiss {
        throw LRQKError.parameter("the GPU backend always reuses rows: choose reuse hit-miss")
      }
      if parameters.counts != .fixed {
        throw LRQKError.parameter("on the GPU every head attends to k rows: choose counts fixed")
      }
      if parameters.ranks != .uniform {
        throw LRQKError.parameter("on the GPU all codes have rank r: choose ranks uniform")
      }
      if parameters.rows.attended != .own {
        throw LRQKError.parameter("on the GPU a head attends to its own rows: choose support own")
      }
      if !parameters.hasLinearCodes {
        try context.requireDoubles(for: "the alternating solver")
      }
    }
  }

#endif
