// lrqk check: exit statuses, and what it says where there is nothing to check.

import Testing

@Suite struct CheckToolTests {
  @Test func `the package's own code passes, and the table says so`() throws {
    let found = try run("lrqk", ["check", "--backend", "cpu", "--kernel", "top-k"])
    #expect(found.status == 0, "\(found.error)")
    #expect(found.output.hasSuffix("8 passed\n"))
  }

  #if !OpenCL && !CUDA
    @Test(arguments: [("opencl", "OpenCL"), ("cuda", "CUDA")])
    func `a build without devices says how to build one, in one line`(
      _ name: String, _ trait: String
    ) throws {
      let found = try run("lrqk", ["check", "--backend", name])
      #expect(found.status == 69)
      #expect(found.output.isEmpty)
      #expect(
        found.error
          == "lrqk: --backend \(name): this build has no \(trait): build it with "
          + "`swift build -c release --traits \(trait)`\n")
    }
  #endif

  @Test func `a backend that does not exist is refused with those that do`() throws {
    let found = try run("lrqk", ["check", "--backend", "metal"])
    #expect(found.status == 64)
    #expect(found.error.contains("cpu") && found.error.contains("opencl"), "\(found.error)")
  }
}
