// A kernel that a device has to reproduce.
//
// In:  a case.
// Out: the outputs, by loops in a written order; in Double the reference.
//
// One file a kernel, in Kernels/: what a kernel's author reads. Shapes stand at the head, the loops are
// the definition, cases follow. The package's own fast implementations are candidates like any other
// (CPUBackend.swift).

/// One kernel.
package protocol Kernel: Sendable {
  /// "proxy-scores".
  var name: String { get }
  /// What it does: one line.
  var summary: String { get }
  /// Whether it solves systems, whose errors spread over all rows (Verdict.swift).
  var solvesSystems: Bool { get }
  /// What it is tried on.
  var cases: [KernelCase] { get }
  /// The loops.
  func run<N: KernelNumber>(_ inputs: Inputs<N>) -> Outputs
}

/// All kernels, in the order of the method.
package let kernels: [any Kernel] = [
  RowwiseSweepKernel(), GramSweepKernel(), DecodeCodesKernel(), ProxyScoresKernel(), TopKKernel(),
  PlanKernel(), GatherKernel(), SparseAttentionKernel(), DecodeStepKernel(), RotaryKernel(),
  RMSNormKernel(), DenseAttentionKernel(), LRKVAttentionKernel(),
]

/// The precision of a candidate.
package enum CandidatePrecision: String, Sendable, CaseIterable {
  case float32 = "F32"
  case bfloat16 = "BF16"
  case float16 = "F16"

  /// u: the largest relative error of one rounding.
  package var unitRoundoff: Double {
    switch self {
    case .float32: 0x1p-24
    case .bfloat16: 0x1p-8
    case .float16: 0x1p-11
    }
  }

  /// The largest number.
  package var largest: Double {
    switch self {
    case .float32: 0x1.fffffep127
    case .bfloat16: 0x1.fep127
    case .float16: 65504
    }
  }

  /// The smallest positive number.
  package var smallest: Double {
    switch self {
    case .float32: 0x1p-149
    case .bfloat16: 0x1p-133
    case .float16: 0x1p-24
    }
  }
}

extension Kernel {
  package var solvesSystems: Bool { false }

  /// What a candidate is compared with.
  package func reference(_ example: KernelCase) -> [NamedTensor] {
    run(Inputs<Double>(example)).tensors
  }

  /// What plain implementations in this precision compute: the loops as they are written, and eight
  /// that make their sums in other orders.
  ///
  /// Where rounding made another choice than the reference, what follows it says nothing about
  /// rounding, and such an order is left out.
  package func plains(_ example: KernelCase, _ precision: CandidatePrecision) -> [[NamedTensor]] {
    func integers(_ tensors: [NamedTensor]) -> [NamedTensor.Values] {
      tensors.map(\.values).filter { if case .integers = $0 { true } else { false } }
    }
    let chosen = integers(reference(example))
    let others = (1...8).map { reordered(example, precision, seed: $0) }
    return [plain(example, precision)] + others.filter { integers($0) == chosen }
  }

  /// What a plain implementation in this precision computes.
  package func plain(_ example: KernelCase, _ precision: CandidatePrecision) -> [NamedTensor] {
    switch precision {
    case .float32: run(Inputs<Float>(example)).tensors
    case .bfloat16: run(Inputs<Rounded<BFloat16>>(example)).tensors
    case .float16: run(Inputs<Rounded<Float16Format>>(example)).tensors
    }
  }
}
