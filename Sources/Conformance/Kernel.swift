// The kernels that a device has to reproduce, by name.
//
// In:  a case.
// Out: the reference, by loops in a written order in Double, and what plain implementations in a
//      candidate's precision compute.
//
// Quick start for adding a kernel:
//
//   1. Write Kernels/NAMEKernel.swift: a struct that is a `KernelDefinition`. Its head gives shapes
//      and formula, `outputs` declares what it writes, `run` is the loops, and `cases` are what it
//      is tried on. Kernels/ProxyScoresKernel.swift is a short one to copy.
//   2. Add a case to `Kernel` below, in the order of the method, and its line to `definition`.
//   3. Build. Every backend now fails to compile until it says what it does with the kernel:
//      Backends/CPUBackend.swift, and with --traits OpenCL also
//      GPUBackend/ConformanceBackend.swift. Call the code that is to be judged, or throw `NotRun`
//      with the reason.
//   4. Run `lrqk check --backend cpu --kernel NAME`, then write the golden bundle again with
//      `lrqk golden write Tests/ConformanceTests/Golden`, and describe the kernel
//      in Docs/golden.md.

/// The kernels, in the order of the method; the raw value is the name that files and options use.
package enum Kernel: String, Sendable, CaseIterable {
  case sweepRowwise = "sweep-rowwise"
  case sweepGram = "sweep-gram"
  case decodeCodes = "decode-codes"
  case proxyScores = "proxy-scores"
  case codeScores = "code-scores"
  case topK = "top-k"
  case plan
  case gather
  case sparseAttention = "sparse-attention"
  case decodeStep = "decode-step"
  case rope
  case rmsNorm = "rms-norm"
  case denseAttention = "dense-attention"
  case lrkvAttention = "lrkv-attention"

  /// The kernel's shapes, loops and cases.
  var definition: any KernelDefinition {
    switch self {
    case .sweepRowwise: RowwiseSweepKernel()
    case .sweepGram: GramSweepKernel()
    case .decodeCodes: DecodeCodesKernel()
    case .proxyScores: ProxyScoresKernel()
    case .codeScores: CodeScoresKernel()
    case .topK: TopKKernel()
    case .plan: PlanKernel()
    case .gather: GatherKernel()
    case .sparseAttention: SparseAttentionKernel()
    case .decodeStep: DecodeStepKernel()
    case .rope: RotaryKernel()
    case .rmsNorm: RMSNormKernel()
    case .denseAttention: DenseAttentionKernel()
    case .lrkvAttention: LRKVAttentionKernel()
    }
  }
}

/// What a file of Kernels/ says about one kernel.
protocol KernelDefinition: Sendable {
  /// The kernel that this defines.
  var kernel: Kernel { get }
  /// What the kernel computes, in one line.
  var summary: String { get }
  /// Whether it solves systems, whose errors spread over all rows (Verdicts/AllowedErrors.swift).
  var solvesSystems: Bool { get }
  /// What it writes, in this order; declared here and nowhere else.
  var outputs: [KernelOutput] { get }
  /// What it is tried on.
  var cases: [KernelCase] { get }
  /// The loops: every output of `outputs` is written once.
  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs)
}

extension KernelDefinition {
  var solvesSystems: Bool { false }
}

extension Kernel {
  /// The name in files, options and reports, such as "proxy-scores".
  package var name: String { rawValue }
  /// What the kernel computes, in one line.
  package var summary: String { definition.summary }
  /// What it writes, in this order.
  package var outputs: [KernelOutput] { definition.outputs }
  /// What it is tried on.
  package var cases: [KernelCase] { definition.cases }

  /// What a candidate is compared with.
  package func reference(_ example: KernelCase) -> [NamedTensor] {
    run(Inputs<Double>(example))
  }

  /// What plain implementations in this precision compute: the loops as they are written, and up to
  /// eight that make their sums in other orders.
  ///
  /// Where the rounding of an order leads to other integers than the reference's, everything after
  /// that choice differs for this reason alone. Such an order is left out.
  package func plains(_ example: KernelCase, _ precision: CandidatePrecision) -> [[NamedTensor]] {
    func integers(_ tensors: [NamedTensor]) -> [NamedTensor.Values] {
      tensors.map(\.values).filter { if case .integers = $0 { true } else { false } }
    }
    let chosen = integers(reference(example))
    let others = (1...8).map { reordered(example, precision, seed: $0) }
    return [plain(example, precision)] + others.filter { integers($0) == chosen }
  }

  /// What the loops compute as they are written, in this precision.
  package func plain(_ example: KernelCase, _ precision: CandidatePrecision) -> [NamedTensor] {
    switch precision {
    case .float32: run(Inputs<Float>(example))
    case .bfloat16: run(Inputs<Rounded<BFloat16>>(example))
    case .float16: run(Inputs<Rounded<Float16Format>>(example))
    }
  }

  /// All declared outputs, by the loops.
  func run<N: KernelNumber>(_ inputs: Inputs<N>) -> [NamedTensor] {
    var out = Outputs(of: self)
    definition.run(inputs, into: &out)
    precondition(out.isComplete, "\(name): an output was declared and not written")
    return out.tensors
  }
}
