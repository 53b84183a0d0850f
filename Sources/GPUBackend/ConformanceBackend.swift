// A device as a candidate of the conformance suite: the cases of Conformance, run on a device.
//
// In:  a case. Out: what the device makes of it; `lrqk check --backend opencl` prints the verdicts.
//
// All thirteen kernels run, through the calls of KernelCalls.swift, KernelCallsCodes.swift and
// DeviceSweeps.swift; decode-step is the device's own prefill and its cache. The sweep over rows runs in d
// by d space, the only form that this backend has. A device without double precision skips the kernels
// that need it, and the verdict says so.

#if OpenCL || CUDA

  package import Conformance
  import LRQK
  import Tensors

  /// The kernels of a device, in Float.
  package struct DeviceBackend: KernelBackend {
    package let name: String
    private let kernels: GPUKernels

    /// Runs cases on `device`.
    package init(_ device: any GPUDevice) {
      name = device.name
      kernels = GPUKernels(GPUContext(device))
    }

    private static let needDoubles: Set = [
      "sweep-rowwise", "sweep-gram", "decode-codes", "decode-step", "rms-norm",
    ]

    package func outputs(of example: KernelCase) throws -> [NamedTensor] {
      if Self.needDoubles.contains(example.kernel) && !kernels.context.device.hasDoubles {
        throw NotRun("\(name) has no double precision, which this kernel needs")
      }
      let x = Arguments(example)
      switch example.kernel {
      case "sweep-rowwise": return try sweepRows(x)
      case "sweep-gram": return try sweepGrams(x)
      case "decode-codes": return try decodeCodes(x)
      case "proxy-scores": return try proxyScores(x)
      case "top-k": return try topK(x)
      case "plan": return try plan(x)
      case "gather": return try gather(x)
      case "sparse-attention", "dense-attention": return try attend(x)
      case "decode-step": return try decodeSteps(x)
      case "rope": return try rope(x)
      case "rms-norm": return try norm(x)
      case "lrkv-attention": return try attendFactored(x)
      default: throw NotRun("\(name) has no kernel \(example.kernel)")
      }
    }

    // MARK: Prefill

    private func sweepRows(_ x: Arguments) throws -> [NamedTensor] {
      let new = try kernels.sweepRows(
        queries: x["Q"], keys: x["K"], queryCodes: x["A_Q"], keyCodes: x["A_K"],
        lambdaQueries: x.parameter("lambda_Q"), lambdaKeys: x.parameter("lambda_K"))
      return factors(new.sweep)
        + named([
          ("A_Q", ["query", "rank"], new.queryCodes), ("A_K", ["token", "rank"], new.keyCodes),
        ])
    }

    private func sweepGrams(_ x: Arguments) throws -> [NamedTensor] {
      func double(_ name: String) -> Tensor<Double> { x[name].converted() }
      return factors(
        try kernels.sweepGram(
          queryGram: double("G_Q"), keyGram: double("G_K"), queryMap: double("W_Q"),
          keyMap: double("W_K"), lambdaQueries: x.parameter("lambda_Q"),
          lambdaKeys: x.parameter("lambda_K")))
    }

    private func factors(_ new: GPUKernels.SweepResult) -> [NamedTensor] {
      func float(_ tensor: Tensor<Double>) -> Tensor<Float> { tensor.converted() }
      return named([
        ("B_Q", ["rank", "width"], float(new.queryBasis)),
        ("B_K", ["rank", "width"], float(new.keyBasis)),
        ("W_Q", ["width", "rank"], float(new.queryMap)),
        ("W_K", ["width", "rank"], float(new.keyMap)),
      ])
    }

    // MARK: Decode

    private func decodeCodes(_ x: Arguments) throws -> [NamedTensor] {
      let new = try kernels.decodeCodes(
        query: x["q"], key: x["k"], queryBasis: x["B_Q"], keyBasis: x["B_K"],
        omegaCodes: x["A_Omega"], omegaKeys: x["K_Omega"],
        iterations: Int(x.parameter("alternations")), lambda1: x.parameter("lambda_1"),
        lambda2: x.parameter("lambda_2"))
      return named([
        ("q_hat", ["head", "rank"], new.queryCodes), ("k_hat", ["key", "rank"], new.keyCode),
        ("B_Q", ["rank", "width"], new.queryBasis), ("B_K", ["rank", "width"], new.keyBasis),
      ])
    }

    private func proxyScores(_ x: Arguments) throws -> [NamedTensor] {
      let scores = try kernels.proxyScores(codes: x["A_K"], queryCodes: x["q_hat"])
      return named([("scores", ["head", "candidate"], scores)])
    }

    private func topK(_ x: Arguments) throws -> [NamedTensor] {
      let k = Int(x.parameter("k"))
      let chosen = try kernels.topK(scores: x["scores"], k: k).indices
      return [
        NamedTensor(
          "selected", [("head", chosen.count), ("place", k)],
          integers: chosen.joined().map { Int($0) })
      ]
    }

    private func plan(_ x: Arguments) throws -> [NamedTensor] {
      let needed = x.integers("needed")
      let found = try kernels.plan(
        residents: x.integers("resident").map { Int32($0) }, needed: needed.map { Int32($0) },
        reserved: Int(x.parameter("reserved")))
      func list(_ name: String, _ axis: String, _ integers: [Int32], _ count: Int) -> NamedTensor {
        let empty = Array(repeating: -1, count: count - integers.count)
        return NamedTensor(name, [(axis, count)], integers: integers.map { Int($0) } + empty)
      }
      return [
        list("missed", "place", found.missed, needed.count),
        list("slots", "place", found.slots, needed.count),
        list("after", "slot", found.residents, found.residents.count),
      ]
    }

    private func gather(_ x: Arguments) throws -> [NamedTensor] {
      let rows = try kernels.gather(
        hostKeys: x["K_host"], hostValues: x["V_host"],
        tokens: x.integers("tokens").map { Int32($0) },
        slots: x.integers("slots").map { Int32($0) }, deviceKeys: x["K"], deviceValues: x["V"])
      return named([("K", ["slot", "width"], rows.keys), ("V", ["slot", "width"], rows.values)])
    }

    private func attend(_ x: Arguments) throws -> [NamedTensor] {
      let (q, K, V) = (x["q"], x["K"], x["V"])
      let out: Tensor<Float>
      if x.contains("slots") {
        let slots = x.integers("slots").map { Int32($0) }
        out = try kernels.sparseAttention(
          queries: q, keys: K, values: V,
          slots: Tensor(shape: [q.rows, slots.count / q.rows], elements: slots))
      } else {
        out = try kernels.denseAttention(queries: q, keys: K, values: V)
      }
      return named([("out", ["head", "width"], out)])
    }

    private func decodeSteps(_ x: Arguments) throws -> [NamedTensor] {
      var layer = try DecodeStepArguments(x)
      layer.parameters.solver = .gram
      let state = try factorizeOnDevice(
        queries: layer.queries, keys: layer.keys, parameters: layer.parameters,
        initial: layer.initial, on: kernels.context)
      let cache = try DeviceLRQKCache(
        queryHeads: layer.queries.count, keyValueHeads: layer.keys.count, width: layer.width,
        parameters: layer.parameters, state: state, keys: layer.keys, values: layer.values,
        on: kernels.context)
      return try layer.decode { q, k, v in
        let step = try cache.decode(queries: q, keys: k, values: v)
        return (step.selected, step.missedRows, step.attention)
      }
    }

    // MARK: Decoder

    private func rope(_ x: Arguments) throws -> [NamedTensor] {
      let y = try kernels.rope(x["x"], cosines: x["cosines"], sines: x["sines"])
      return named([("y", ["token", "head", "width"], y)])
    }

    private func norm(_ x: Arguments) throws -> [NamedTensor] {
      let y = try kernels.rmsNorm(
        x["x"], weight: x.numbers("weight"), epsilon: x.parameter("epsilon"))
      return named([("y", ["token", "width"], y)])
    }

    private func attendFactored(_ x: Arguments) throws -> [NamedTensor] {
      // Factors are (H, r, d) here, and (H, d, r) in the case.
      func factors(_ name: String) -> Tensor<Float> {
        Tensor(stacking: x.slices(name).map { $0.transposed() })
      }
      let out = try kernels.lrkvAttention(
        queries: x["q"], keys: x["K"], values: x["V"], keyCodes: x["R_K"], valueCodes: x["R_V"],
        keyFactors: factors("B_K"), valueFactors: factors("B_V"))
      return named([("out", ["head", "width"], out)])
    }
  }

#endif
