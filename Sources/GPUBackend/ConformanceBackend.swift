// A device as a candidate of the conformance suite: the cases of Conformance, run on a device.
//
// In:  a case. Out: what the device makes of it; `lrqk check --backend opencl` prints the verdicts.
//
// All fourteen kernels run, through the calls of KernelCalls.swift, KernelCalls+Codes.swift and
// DeviceSweeps.swift; decode-step is the device's own prefill and its cache. The sweep over rows
// runs in d by d space, the only form that this backend has. A device without double precision
// skips the kernels that need it, and the verdict says so.

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

    package func outputs(of example: KernelCase) throws -> [NamedTensor] {
      if Self.needsDoubles(example.kernel) && !kernels.context.device.hasDoubles {
        throw NotRun("\(name) has no double precision, which this kernel needs")
      }
      let x = Inputs<Float>(example)
      var out = Outputs(of: example.kernel)
      switch example.kernel {
      case .sweepRowwise: try sweepRows(x, &out)
      case .sweepGram: try sweepGrams(x, &out)
      case .decodeCodes: try decodeCodes(x, &out)
      case .proxyScores: try proxyScores(x, &out)
      case .codeScores: try codeScores(x, &out)
      case .topK: try topK(x, &out)
      case .plan: try plan(x, &out)
      case .gather: try gather(x, &out)
      case .sparseAttention, .denseAttention: try attend(x, &out)
      case .decodeStep: try decodeSteps(x, &out)
      case .rope: try rope(x, &out)
      case .rmsNorm: try norm(x, &out)
      case .lrkvAttention: try attendFactored(x, &out)
      }
      return out.tensors
    }

    private static func needsDoubles(_ kernel: Kernel) -> Bool {
      switch kernel {
      case .sweepRowwise, .sweepGram, .decodeCodes, .decodeStep, .rmsNorm: true
      case .proxyScores, .codeScores, .topK, .plan, .gather, .sparseAttention,
        .denseAttention, .rope, .lrkvAttention:
        false
      }
    }

    // MARK: Prefill

    private func sweepRows(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let new = try kernels.sweepRows(
        queries: x.tensor("Q"), keys: x.tensor("K"), queryCodes: x.tensor("A_Q"),
        keyCodes: x.tensor("A_K"),
        lambdaQueries: x.number("lambda_Q"), lambdaKeys: x.number("lambda_K"))
      write(new.sweep, &out)
      out.write("A_Q", new.queryCodes)
      out.write("A_K", new.keyCodes)
    }

    private func sweepGrams(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      func double(_ name: String) -> Tensor<Double> { x.tensor(name).converted() }
      let new = try kernels.sweepGram(
        queryGram: double("G_Q"), keyGram: double("G_K"), queryMap: double("W_Q"),
        keyMap: double("W_K"), lambdaQueries: x.number("lambda_Q"),
        lambdaKeys: x.number("lambda_K"))
      write(new, &out)
    }

    private func write(_ new: GPUKernels.SweepResult, _ out: inout Outputs) {
      out.write("B_Q", new.queryBasis.converted())
      out.write("B_K", new.keyBasis.converted())
      out.write("W_Q", new.queryMap.converted())
      out.write("W_K", new.keyMap.converted())
    }

    // MARK: Decode

    private func decodeCodes(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let new = try kernels.decodeCodes(
        query: x.tensor("q"), key: x.tensor("k"), queryBasis: x.tensor("B_Q"),
        keyBasis: x.tensor("B_K"),
        omegaCodes: x.tensor("A_Omega"), omegaKeys: x.tensor("K_Omega"),
        iterations: x.count("alternations"), lambda1: x.number("lambda_1"),
        lambda2: x.number("lambda_2"))
      out.write("q_hat", new.queryCodes)
      out.write("k_hat", new.keyCode)
      out.write("B_Q", new.queryBasis)
      out.write("B_K", new.keyBasis)
    }

    private func proxyScores(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      out.write(
        "scores", try kernels.proxyScores(codes: x.tensor("A_K"), queryCodes: x.tensor("q_hat")))
    }

    private func codeScores(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let scores = try kernels.codeScores(
        codes: x.integers("codes").elements.map { UInt8($0) }, bits: x.count("bits"),
        scales: x.integers("scales").elements.map { UInt16($0) },
        queryCodes: x.tensor("q_hat"))
      out.write("scores", scores)
    }

    private func topK(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let k = x.count("k")
      let chosen = try kernels.topK(scores: x.tensor("scores"), k: k).indices
      out.write("selected", integers: Grid([chosen.count, k], chosen.joined().map { Int($0) }))
    }

    private func plan(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let needed = x.integers("needed").elements
      let found = try kernels.plan(
        residents: x.integers("resident").elements.map { Int32($0) },
        needed: needed.map { Int32($0) },
        reserved: x.count("reserved"))
      func list(_ integers: [Int32], _ count: Int) -> Grid<Int> {
        let empty = Array(repeating: -1, count: count - integers.count)
        return Grid([count], integers.map { Int($0) } + empty)
      }
      out.write("missed", integers: list(found.missed, needed.count))
      out.write("slots", integers: list(found.slots, needed.count))
      out.write("after", integers: list(found.residents, found.residents.count))
    }

    private func gather(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let rows = try kernels.gather(
        hostKeys: x.tensor("K_host"), hostValues: x.tensor("V_host"),
        tokens: x.integers("tokens").elements.map { Int32($0) },
        slots: x.integers("slots").elements.map { Int32($0) }, deviceKeys: x.tensor("K"),
        deviceValues: x.tensor("V"))
      out.write("K", rows.keys)
      out.write("V", rows.values)
    }

    private func attend(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let (q, K, V) = (x.tensor("q"), x.tensor("K"), x.tensor("V"))
      if x.contains("slots") {
        let slots = x.integers("slots").elements.map { Int32($0) }
        let answers = try kernels.sparseAttention(
          queries: q, keys: K, values: V,
          slots: Tensor(shape: [q.rows, slots.count / q.rows], elements: slots))
        out.write("out", answers)
      } else {
        out.write("out", try kernels.denseAttention(queries: q, keys: K, values: V))
      }
    }

    private func decodeSteps(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      var layer = try DecodeStepInputs(x)
      layer.parameters.solver = .gram
      let state = try factorizeOnDevice(
        queries: layer.queries, keys: layer.keys, parameters: layer.parameters,
        initial: layer.initial, on: kernels.context)
      let cache = try DeviceLRQKCache(
        queryHeads: layer.queries.count, keyValueHeads: layer.keys.count, width: layer.width,
        parameters: layer.parameters, state: state, keys: layer.keys, values: layer.values,
        on: kernels.context)
      try layer.decode(into: &out) { q, k, v in
        let step = try cache.decode(queries: q, keys: k, values: v)
        return (step.selected, step.missedRows, step.attention)
      }
    }

    // MARK: Decoder

    private func rope(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let y = try kernels.rope(
        x.tensor("x"), cosines: x.tensor("cosines"), sines: x.tensor("sines"))
      out.write("y", y)
    }

    private func norm(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      let y = try kernels.rmsNorm(
        x.tensor("x"), weight: x.tensor("weight").elements, epsilon: x.number("epsilon"))
      out.write("y", y)
    }

    private func attendFactored(_ x: Inputs<Float>, _ out: inout Outputs) throws {
      // Factors are (H, r, d) here, and (H, d, r) in the case.
      func factors(_ name: String) -> Tensor<Float> {
        Tensor(stacking: x.matrices(name).map { $0.transposed() })
      }
      let answers = try kernels.lrkvAttention(
        queries: x.tensor("q"), keys: x.tensor("K"), values: x.tensor("V"),
        keyCodes: x.tensor("R_K"), valueCodes: x.tensor("R_V"),
        keyFactors: factors("B_K"), valueFactors: factors("B_V"))
      out.write("out", answers)
    }
  }

#endif
