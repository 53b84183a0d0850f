// The picture of a sweep: names in plain words, and a title that follows from the points.

import CacheMethods
import Testing

@testable import Evaluation

@Suite struct SweepChartTests {
  private func point(_ text: String, _ score: Double, _ held: Double) throws -> SweepPoint {
    SweepPoint(try cacheMethod(text), score: score, held: held)
  }

  @Test func `every method has a plain name of its own`() {
    // Methods that need a file have no default to make them from.
    let methods = cacheMethods.compactMap { try? cacheMethod($0.name) }
    #expect(methods.count > 20)
    let names = methods.map { plainName($0) }
    #expect(Set(names).count == names.count)
    for name in names { #expect(name.count <= 34 && !name.contains("="), "\(name)") }
  }

  @Test func `options are named only where they tell two methods apart`() throws {
    func names(_ texts: [String]) throws -> [String] {
      plainNames(try texts.map { try cacheMethod($0) }).values.sorted()
    }
    let recommended = "lrqk:preset=recommended,r=8,k=16,w="
    // r and k are the mark and the place on the line.
    #expect(
      try names([recommended + "16", "lrqk:preset=recommended,r=16,k=48,w=16", "full"])
        == ["LRQK recommended", "full attention"])
    #expect(
      try names([recommended + "4", recommended + "16"])
        == ["LRQK recommended, w = 16", "LRQK recommended, w = 4"])
    #expect(
      try names([
        "lrqk:preset=paper,r=8,k=16,w=16", "lrqk:preset=paper,r=8,k=16,w=16,on-breakdown=proceed",
      ]) == ["LRQK as released, on breakdown proceed", "LRQK as released, on breakdown stop"])
  }

  @Test func `the title names the fewest bytes near full attention, or the best there is`() throws {
    let full = try point("full", 98, 1000)
    let oracle = try point("topk:k=16,w=16", 98, 100)
    let cheap = try point("lrqk:preset=recommended,r=32,k=16,w=16", 97.2, 370)
    let dear = try point("lrqk:preset=recommended,r=32,k=48,w=16", 98, 450)
    let poor = try point("lrqk:preset=paper,r=8,k=16,w=16", 40, 200)
    #expect(
      sweepFinding([full, oracle, cheap, dear, poor])
        == "Within two points of full attention: LRQK recommended, r = 32, k = 16 "
        + "with 37 % of its bytes")
    #expect(
      sweepFinding([full, dear, poor]).hasSuffix(
        "LRQK recommended, r = 32, k = 48 with 45 % of its bytes"))
    #expect(
      sweepFinding([full, oracle, poor])
        == "No choice comes within two points of full attention; 58.0 points below it: "
        + "LRQK as released, r = 8, k = 16 with 20 % of its bytes")
    #expect(sweepFinding([full]) == "Full attention finds 98.0 of 100")
    #expect(sweepFinding([poor]) == "Full attention has no score")
  }
}
