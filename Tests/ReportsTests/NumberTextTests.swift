// Numbers as reports show them.

import Reports
import Testing

@Suite struct NumberTextTests {
  @Test func `tiny and huge numbers are in scientific form`() {
    #expect(number(0) == "0.000" && number(0.001) == "0.001" && number(999_999, 0) == "999999")
    #expect(number(0.0009) == "9.00e-04" && number(1e6, 0) == "1.00e+06")
  }

  @Test func `bytes have the largest unit that leaves at least 1`() {
    #expect(bytes(0) == "0 B" && bytes(1023) == "1023 B" && bytes(1024) == "1.00 KiB")
    #expect(bytes(1_234_567) == "1.18 MiB")
  }

  @Test func `zero has no sign, and what is absent is a dash`() {
    #expect(decimal(-0.001, 2) == "0.00" && decimal(-0.01, 2) == "-0.01")
    #expect(decimals(nil, 2) == "-" && decimals(1.005, 1) == "1.0")
  }
}
