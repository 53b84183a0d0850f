// Which of its kernels OpenBLAS runs, and whether better ones fit this processor.
//
// In:  OpenBLAS's own words (version, core type) and the processor's instruction sets.
// Out: what runs, what would fit better, a sentence about both; and products checked against exact
//      sums.
//
// OpenBLAS holds kernels for many processors. When a process starts it looks at the processor's
// model number and takes those of one *core type*. A processor that is newer than the library is
// unknown to it, and the library then takes its oldest kernels, without a word: Debian's 0.3.21 on
// an Intel processor of model 207, which has AVX-512, runs those of a Prescott of 2004, at a fifth
// of the speed. The environment variable OPENBLAS_CORETYPE names a core type by hand. OpenBLAS
// reads it once, before `main`, so a process that runs cannot change its kernels any more: the
// tool starts itself again (Sources/LRQKTool/Terminal/KernelRestart.swift), and a library can only
// say what runs. The core type changes the last bits of library order, never those of reference
// order.
//
// This file meets C, so it is one of the few with unsafe code.

internal import CFusedChains
internal import CLinearAlgebra

/// The kernels that OpenBLAS took when this process started.
public struct LibraryKernels: Sendable, Hashable, CustomStringConvertible {
  /// OpenBLAS's version, "0.3.21".
  public let version: String
  /// The core type whose kernels run, in OpenBLAS's spelling: "Prescott", "Haswell", "SkylakeX".
  public let coreType: String
  /// Whether this build of OpenBLAS holds kernels of several core types to choose from.
  public let isChoosable: Bool
  /// The widest of our instruction sets that the processor has.
  public let processor: ChainLevel

  /// What runs in this process.
  public static let current: LibraryKernels = {
    let words = unsafe text(openblas_get_config()).split(separator: " ").map(String.init)
    return LibraryKernels(
      version: words.first { $0.first?.isNumber == true } ?? "of an unknown version",
      coreType: unsafe text(openblas_get_corename()),
      isChoosable: words.contains("DYNAMIC_ARCH"), processor: .best)
  }()

  /// Kernels described by hand; tests use it.
  package init(version: String, coreType: String, isChoosable: Bool, processor: ChainLevel) {
    self.version = version
    self.coreType = coreType
    self.isChoosable = isChoosable
    self.processor = processor
  }

  /// The core type to name in OPENBLAS_CORETYPE for wider instructions than those that run; nil
  /// where the kernels that run use all that the processor has.
  public var better: String? {
    if !isChoosable || instructions >= processor { return nil }
    return processor == .avx512 ? "SKYLAKEX" : "HASWELL"
  }

  /// The instruction set that the kernels of `coreType` are written for.
  ///
  /// Core types without AVX2, and names that are not known here, count as plain.
  private var instructions: ChainLevel {
    switch coreType.lowercased() {
    case "skylakex", "cooperlake", "sapphirerapids": .avx512
    case "haswell", "zen": .avx2
    default: .plain
    }
  }

  /// One line: what runs, and what would be faster.
  public var description: String {
    let runs = "OpenBLAS \(version), kernels of core type \(coreType)"
    guard let better else { return runs }
    return runs + "; OPENBLAS_CORETYPE=\(better), set before the process starts, would be faster"
  }

  /// Whether the kernels that run compute rightly: products of small integers, whose sums are exact
  /// in any order, and a symmetric decomposition put together again.
  ///
  /// Takes about a millisecond. `product` is A B or one of its transposed forms in library order;
  /// tests hand in a wrong one.
  package static func areRight(
    float: (Tensor<Float>, Tensor<Float>) -> Tensor<Float> = { matmul($0, $1, in: .library) },
    double: (Tensor<Double>, Tensor<Double>) -> Tensor<Double> = { matmul($0, $1, in: .library) }
  ) -> Bool {
    // One row, tails in every direction, and blocks larger than a kernel's tile.
    let sizes = [(1, 65, 33), (5, 3, 7), (33, 47, 65), (129, 70, 150)]
    let productsAreRight = sizes.allSatisfy { m, n, k in
      isExact(m, n, k, float) && isExact(m, n, k, double)
    }
    return productsAreRight && decompositionIsRight()
  }

  /// Whether A B, Aᵀ B and A Bᵀ of integers from -8 to 8 equal the chains of reference order.
  ///
  /// The sums stay below 64 k, far inside the 2^24 up to which Float holds every integer.
  private static func isExact<E: Scalar>(
    _ m: Int, _ n: Int, _ k: Int, _ product: (Tensor<E>, Tensor<E>) -> Tensor<E>
  ) -> Bool {
    let a: Tensor<E> = integers([m, k], stream: 0)
    let b: Tensor<E> = integers([k, n], stream: 1)
    let right = matmul(a, b, in: .reference)
    return product(a, b) == right
      && matmul(transposed: a.transposed(), b, in: .library) == right
      && matmul(a, transposed: b.transposed(), in: .library) == right
  }

  /// Whether A V = V diag(λ) for a symmetric A of 40 by 40, within the rounding of LAPACK's method.
  ///
  /// Its error is a small multiple of n 2^-53 |A|, and |A| is at most 40 · 16 here: 3e-12.
  private static func decompositionIsRight() -> Bool {
    let n = 40
    let half: Tensor<Double> = integers([n, n], stream: 2)
    let transpose = half.transposed()
    let a = Tensor(
      shape: [n, n], elements: zip(half.elements, transpose.elements).map { $0 + $1 })
    guard let (values, vectors) = try? a.symmetricEigen() else { return false }
    let image = matmul(a, vectors, in: .reference)
    return (0..<n * n).allSatisfy { i in
      abs(image.elements[i] - vectors.elements[i] * values[i % n]) < 1e-10
    }
  }

  private static func integers<E: Scalar>(_ shape: [Int], stream: UInt64) -> Tensor<E> {
    let numbers = RandomNumbers(seed: 17, stream: stream)
    return Tensor(
      shape: shape,
      elements: (0..<shape[0] * shape[1]).map { E((numbers.uniform($0) * 17).rounded(.down) - 8) })
  }

  private static func text(_ words: UnsafeMutablePointer<CChar>?) -> String {
    unsafe words.map { unsafe String(cString: $0) } ?? "unknown"
  }
}
