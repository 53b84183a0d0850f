// The tool starts with the OpenBLAS kernels that fit the processor, and leaves a user's choice
// alone.

import Foundation
import Tensors
import Testing

@Suite("Kernels of OpenBLAS, as the tool starts")
struct KernelStartTests {
  /// The fields about OpenBLAS of a small benchmark, run with OPENBLAS_CORETYPE as given.
  private func fields(_ coreType: String?) throws -> (core: String, chosenBy: String) {
    let arguments = [
      "bench", "decode", "--tokens", "64", "--rank", "4", "--selected", "8", "--recent", "4",
      "--query-heads", "1", "--key-value-heads", "1", "--width", "8", "--runs", "1", "--json",
    ]
    let outcome = try run(
      "lrqk", arguments, changing: ["OPENBLAS_CORETYPE": coreType, "LRQK_CORETYPE": nil])
    #expect(outcome.status == 0 && outcome.error.isEmpty, "\(outcome.error)")
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
    return (
      try #require(object["openblas_core_type"] as? String),
      try #require(object["openblas_chosen_by"] as? String)
    )
  }

  @Test func `with nothing set the kernels fit the processor, or OpenBLAS has none that do`() throws
  {
    let (core, chosenBy) = try fields(nil)
    let running = LibraryKernels(
      version: "0", coreType: core, isChoosable: true, processor: .best)
    #expect(
      running.better == nil || chosenBy.hasPrefix("OpenBLAS"), "\(core), chosen by \(chosenBy)")
  }

  @Test func `a setting by hand wins`() throws {
    guard LibraryKernels.current.isChoosable, ChainLevel.best != .plain else { return }
    let (core, chosenBy) = try fields("PRESCOTT")
    #expect(core == "Prescott")
    #expect(chosenBy == "OPENBLAS_CORETYPE")
  }

  @Test func `arguments and standard input survive the second start`() throws {
    let tokenizer = try tokenizerFolder()
    func ids(_ coreType: String?) throws -> Outcome {
      try run(
        "lrqk", ["tokenize", "--model", tokenizer], input: Array("two words, ünïcode".utf8),
        changing: ["OPENBLAS_CORETYPE": coreType])
    }
    let (again, once) = (try ids(nil), try ids("PRESCOTT"))
    #expect(again.status == 0 && !again.output.isEmpty)
    #expect(again.output == once.output)
  }

  private func tokenizerFolder() throws -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("TokenizersTests/Fixtures/gpt2").path
  }
}
