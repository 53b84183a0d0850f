// The option that makes a command compute one part of its samples.
//
// In:  --shard 2/3.
// Out: the part; the command's log holds what `lrqk merge` needs (Evaluation/Shards).

import ArgumentParser
import Evaluation

/// Which part of a run is computed here.
struct ShardOption: ParsableArguments {
  @Option(
    help:
      "Run part i of n, written i/n: samples (or windows) s with s mod n + 1 = i; lrqk merge puts the logs together, lrqk compare --merge the folders.",
    transform: shardOfRun)
  var shard: Shard?

  /// Requires a log beside a part: without it the part would be lost for the whole.
  func check(log: String?) throws(ValidationError) {
    if let shard, log == nil {
      throw ValidationError("--shard \(shard) needs --log FILE, which lrqk merge reads")
    }
  }
}

/// Reads a part of a run; the error says how one is written.
@Sendable private func shardOfRun(_ text: String) throws -> Shard {
  guard let shard = Shard(text) else {
    throw ValidationError("a shard is i/n, such as 2/3, with i from 1 to n")
  }
  return shard
}
