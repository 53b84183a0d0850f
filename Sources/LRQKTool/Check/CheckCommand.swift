// lrqk check: does a backend, or a file of outputs, reproduce the reference?

import ArgumentParser
import Conformance
import Foundation
import Reports

#if OpenCL || CUDA
  import GPUBackend
#endif

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check kernels against the reference: a backend's, or outputs computed elsewhere.",
    discussion: """
      The reference is a plain loop in Double. An output passes when its error is at most twice that \
      of a plain implementation in the candidate's own precision, plus rounding; integers must be \
      equal. `worst` is the largest error over the allowed one. Exit status 0 where everything that ran \
      passed, 1 where something failed or is not to be trusted, 69 where there is no such device. What \
      does not run is skipped, and the table says why.

        lrqk check --backend cpu
        lrqk check --candidate mine.safetensors --candidate another.safetensors

      Several candidates are all judged, and one that fails makes the exit status 1; with --json each is \
      an object, one a line. A candidate that cannot be read ends the command before any is judged.

      Devices need a build that has them: swift build -c release --traits OpenCL (or CUDA, or GPU for \
      both). Docs/gpu.md says what else.
      """)

  @Option(
    help: """
      Who runs the kernels: cpu, the package's own code in Float; opencl or cuda, the first device.
      """)
  var backend: BackendName?

  @Option(
    help: "A safetensors file with the outputs of one case; may be repeated, all are judged.",
    completion: .file(extensions: ["safetensors"]))
  var candidate: [String] = []

  @Option(help: "One kernel.", completion: .kernels) var kernel: String?
  @Option(name: .customLong("case"), help: "One case of it.") var caseName: String?
  @Flag(help: "List kernels and cases, and check nothing.") var list = false
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    if list ? backend != nil || !candidate.isEmpty : (backend == nil) == candidate.isEmpty {
      throw ValidationError("give --backend NAME or --candidate FILE, or --list")
    }
    if list && json { throw ValidationError("--json has no effect with --list") }
    if let kernel, !Kernel.allCases.contains(where: { $0.name == kernel }) {
      throw ValidationError(
        "--kernel \(kernel): there are \(Kernel.allCases.map(\.name).joined(separator: ", "))")
    }
    if let caseName {
      guard let kernel = Kernel.allCases.first(where: { $0.name == kernel }) else {
        throw ValidationError("--case \(caseName) needs --kernel")
      }
      if !kernel.cases.contains(where: { $0.name == caseName }) {
        throw ValidationError(
          "--case \(caseName): \(kernel.name) has "
            + kernel.cases.map(\.name).joined(separator: ", "))
      }
    }
  }

  private func isWanted(_ example: KernelCase) -> Bool {
    (kernel ?? example.kernel.name) == example.kernel.name
      && (caseName ?? example.name) == example.name
  }

  func run() throws {
    if list {
      show(listing)
      return
    }
    var hasPassed = true
    do {
      if let backend {
        let report = try verdicts(of: backend)
        hasPassed = report.hasPassed
        show(json ? try jsonText(report) : report.text)
      }
      // All are opened first: a file that cannot be read loses no verdict.
      let files = candidate.map { path in
        do { return try CandidateFile(path: path, kernel: kernel, case: caseName) } catch {
          fail(error, path)
        }
      }
      for (n, file) in files.enumerated() {
        let report = verdicts(of: file)
        hasPassed = hasPassed && report.hasPassed
        if json {
          show(try jsonText(report, isPretty: files.count == 1))
        } else {
          show((n > 0 ? "\n" : "") + report.text)
        }
      }
    } catch let absence as NoDevice {
      say("lrqk: \(absence.description)")
      Streams.exit(EX_UNAVAILABLE)
    } catch { fail(error, "check") }
    if !hasPassed { Streams.exit(1) }
  }

  private func verdicts(of file: CandidateFile) -> CheckReport {
    CheckReport(
      "\(file.name) (\(file.precision.rawValue))", again: "--candidate \(file.name)",
      check(file, precision: file.precision) { $0.path == file.example.path })
  }

  private func verdicts(of name: BackendName) throws -> CheckReport {
    func report(_ backend: some KernelBackend) -> CheckReport {
      CheckReport(
        "\(backend.name) (F32)", again: "--backend \(name)", check(backend, where: isWanted))
    }
    switch name {
    case .cpu: return report(CPUBackend())
    case .opencl, .cuda:
      #if OpenCL || CUDA
        let device: any GPUDevice
        do { device = try (name == .cuda ? GPUInterface.cuda : .opencl).open() } catch {
          throw NoDevice("--backend \(name): \(error)")
        }
        return report(DeviceBackend(device))
      #else
        let trait = name == .cuda ? "CUDA" : "OpenCL"
        throw NoDevice(
          "--backend \(name): this build has no \(trait): build it with "
            + "`swift build -c release --traits \(trait)`")
      #endif
    }
  }

  private var listing: String {
    Kernel.allCases.filter { $0.cases.contains(where: isWanted) }.map { kernel in
      "\(kernel.name): \(kernel.summary)\n"
        + table(kernel.cases.filter(isWanted).map { [$0.name + "  " + $0.purpose] })
    }.joined(separator: "\n")
  }
}

/// Who can run kernels.
enum BackendName: String, ExpressibleByArgument, CaseIterable {
  case cpu, opencl, cuda
}

/// A device that this build or this machine does not have.
private struct NoDevice: Error {
  /// One line: which device is missing, and what to do.
  let description: String

  init(_ description: String) { self.description = description }
}

/// Verdicts, as a table or as JSON.
struct CheckReport: Encodable {
  struct Row: Encodable {
    let `case`, output, status, reason: String
    let worst: Double?
    let differences: [DifferenceRow]
  }
  struct DifferenceRow: Encodable {
    let place: [Int]
    let expected: String, found: String, allowed: Double
  }

  let candidate: String
  let counts: [String: Int]
  let verdicts: [Row]
  private let again: String

  private enum CodingKeys: CodingKey { case candidate, counts, verdicts }

  /// `again` are the options that name the candidate.
  init(_ candidate: String, again: String, _ verdicts: [Verdict]) {
    (self.candidate, self.again) = (candidate, again)
    counts = Dictionary(grouping: verdicts, by: \.status.rawValue).mapValues(\.count)
    self.verdicts = verdicts.map { verdict in
      Row(
        case: verdict.path, output: verdict.output, status: verdict.status.rawValue,
        reason: verdict.reason, worst: verdict.worst.isFinite ? verdict.worst : nil,
        differences: verdict.differences.map {
          DifferenceRow(
            place: $0.place, expected: "\($0.expected)", found: "\($0.found)", allowed: $0.allowed)
        })
    }
  }

  /// Whether nothing failed, nothing is mistrusted and something passed.
  var hasPassed: Bool {
    counts["failed", default: 0] == 0 && counts["mistrusted", default: 0] == 0
      && counts["passed", default: 0] > 0
  }

  var text: String {
    let rows = verdicts.map { row in
      [row.case, row.output, row.status, row.worst.map { number($0, 3) } ?? "-"]
    }
    var lines = [candidate, table([["case", "output", "verdict", "worst"]] + rows)]
    for row in verdicts where row.status != "passed" {
      lines.append("\(row.case) \(row.output): \(row.status), \(row.reason)")
      for d in row.differences {
        let place = d.place.map(String.init).joined(separator: ", ")
        lines.append(
          "    [\(place)]  expected \(d.expected), found \(d.found), may differ by \(number(d.allowed))"
        )
      }
      let parts = row.case.split(separator: "/")
      if row.status == "failed", parts.count == 2 {
        lines.append("    again: lrqk check \(again) --kernel \(parts[0]) --case \(parts[1])")
      }
    }
    let order = ["passed", "failed", "mistrusted", "skipped"]
    lines.append(
      order.compactMap { name in counts[name].map { "\($0) \(name)" } }.joined(separator: ", "))
    return lines.joined(separator: "\n")
  }
}
