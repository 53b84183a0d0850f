// lrqk bench: how long things take here, beside what this machine can do.
//
// Times mean nothing alone: the machine may be slow or busy. So every run also measures the limits
// that matter, OpenBLAS products and memory reads, on the same cores, and prints ratios
// (MachineLimits.swift). Each figure is a median with its range. Reading order of the folder:
//
//   Measure, MachineLimits   a stopwatch, a spread, the machine's limits
//   BytesTouched             what must be read and written
//   Twin, twin.py            the same work with PyTorch, for --compare
//   BenchSizes               sizes and random numbers of one layer
//   BenchPrefill, BenchDecode, BenchAttention          one layer's work
//   BenchSelect, MethodSteps                           every cache method beside full attention
//   SyntheticModel, BenchGenerate, GenerateRun         a whole model
//   BenchTraining                                      a step of training
//   BenchGrowth, GrowthData, GrowthTable, GrowthChart  how time and memory grow with the sizes

import ArgumentParser

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Time LRQK, attention, a model or training beside this machine's limits.",
    subcommands: [
      BenchPrefill.self, BenchDecode.self, BenchAttention.self, BenchSelect.self,
      BenchGenerate.self, BenchGrowth.self, BenchTraining.self,
    ])
}
