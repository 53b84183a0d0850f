// Which kernels OpenBLAS runs, and what a program does about them.

import Tensors
import Testing

struct LibraryKernelsTests {
  private func kernels(
    _ coreType: String, _ processor: ChainLevel, choosable: Bool = true
  ) -> LibraryKernels {
    LibraryKernels(
      version: "0.3.21", coreType: coreType, isChoosable: choosable, processor: processor)
  }

  @Test func `this process says what it runs`() {
    let kernels = LibraryKernels.current
    print("tests run on \(kernels)")
    #expect(kernels.version.first?.isNumber == true, "\(kernels)")
    #expect(!kernels.coreType.isEmpty && kernels.coreType != "unknown")
    #expect(kernels.processor == .best)
  }

  @Test func `the kernels of this process compute rightly`() {
    #expect(LibraryKernels.areRight())
  }

  @Test(arguments: [0, 1, 2])
  func `one wrong element of one product is found`(size: Int) {
    let rows = [5, 33, 129][size]
    func spoilt<E: Scalar>(_ a: Tensor<E>, _ b: Tensor<E>) -> Tensor<E> {
      var c = matmul(a, b, in: .library)
      if a.rows == rows { c[rows - 1, c.columns - 1] += 1 }
      return c
    }
    #expect(!LibraryKernels.areRight(float: spoilt))
    #expect(!LibraryKernels.areRight(double: spoilt))
  }

  @Test func `wider kernels are better exactly where the processor has wider instructions`() {
    #expect(kernels("Prescott", .avx512).better == "SKYLAKEX")
    #expect(kernels("Haswell", .avx512).better == "SKYLAKEX")
    #expect(kernels("Zen", .avx512).better == "SKYLAKEX")
    #expect(kernels("Sandybridge", .avx2).better == "HASWELL")
    #expect(kernels("a name of next year", .avx2).better == "HASWELL")
    for right in ["SkylakeX", "Cooperlake", "SapphireRapids"] {
      #expect(kernels(right, .avx512).better == nil)
    }
    #expect(kernels("Zen", .avx2).better == nil)
    #expect(kernels("Haswell", .avx2).better == nil)
    #expect(kernels("Prescott", .plain).better == nil)
    #expect(kernels("armv8", .plain).better == nil)
  }

  @Test func `a build with the kernels of one core type has nothing to choose`() {
    #expect(kernels("Prescott", .avx512, choosable: false).better == nil)
  }

  @Test func `the line names the better core type only where there is one`() {
    #expect("\(kernels("Haswell", .avx2))" == "OpenBLAS 0.3.21, kernels of core type Haswell")
    #expect("\(kernels("Prescott", .avx2))".contains("OPENBLAS_CORETYPE=HASWELL"))
  }
}

struct KernelChoiceTests {
  private let old = LibraryKernels(
    version: "0.3.21", coreType: "Prescott", isChoosable: true, processor: .avx512)
  private let new = LibraryKernels(
    version: "0.3.21", coreType: "SkylakeX", isChoosable: true, processor: .avx512)

  /// `expected`, and whether the products were asked for.
  private func expect(
    _ expected: KernelChoice, _ kernels: LibraryKernels, _ environment: [String: String],
    right: Bool = true, checks: Bool = false, _ location: SourceLocation = #_sourceLocation
  ) {
    var asked = false
    let choice = KernelChoice(running: kernels, environment: environment) {
      asked = true
      return right
    }
    #expect(choice == expected, sourceLocation: location)
    #expect(asked == checks, "products were checked: \(asked)", sourceLocation: location)
  }

  @Test func `better kernels are taken once, and then checked`() {
    expect(.take("SKYLAKEX"), old, [:])
    let again = ["OPENBLAS_CORETYPE": "SKYLAKEX", "LRQK_CORETYPE": "SKYLAKEX"]
    expect(.stay, new, again, checks: true)
  }

  @Test func `kernels that compute wrongly are left once, and not taken again`() {
    let again = ["OPENBLAS_CORETYPE": "SKYLAKEX", "LRQK_CORETYPE": "SKYLAKEX"]
    expect(.leave("SKYLAKEX"), new, again, right: false, checks: true)
    expect(.stay, old, ["LRQK_CORETYPE": "none"], right: false)
  }

  @Test(arguments: ["PRESCOTT", "HASWELL", "", "nonsense"])
  func `a user's own setting wins`(setting: String) {
    expect(.stay, old, ["OPENBLAS_CORETYPE": setting], right: false)
    expect(.stay, new, ["OPENBLAS_CORETYPE": setting], right: false)
  }

  @Test func `a core type that this OpenBLAS does not have is asked for once`() {
    let again = ["OPENBLAS_CORETYPE": "SKYLAKEX", "LRQK_CORETYPE": "SKYLAKEX"]
    expect(.stay, old, again, checks: true)
    #expect(
      KernelChoice.chosenBy(running: old, environment: again)
        == "OpenBLAS (it has none of core type SKYLAKEX)")
  }

  @Test func `a report says who chose`() {
    func chosenBy(_ kernels: LibraryKernels, _ environment: [String: String]) -> String {
      KernelChoice.chosenBy(running: kernels, environment: environment)
    }
    #expect(chosenBy(old, [:]) == "OpenBLAS")
    #expect(chosenBy(old, ["OPENBLAS_CORETYPE": "PRESCOTT"]) == "OPENBLAS_CORETYPE")
    #expect(
      chosenBy(new, ["OPENBLAS_CORETYPE": "SKYLAKEX", "LRQK_CORETYPE": "SKYLAKEX"]) == "lrqk")
    #expect(chosenBy(old, ["LRQK_CORETYPE": "none"]).contains("compute wrongly"))
  }
}
