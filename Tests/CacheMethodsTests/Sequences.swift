// Random sequences for these tests, and a run of a method over them.
//
// In:  a layer's shape, a seed, the text that names a method.
// Out: everything that the run leaves behind, to be compared with recounts that know no method.
//
// Queries and keys are drawn before RoPE and rotated by place, as a decoder does. Keys of later
// tokens lean on the first ones, so that exact top-k sets change from step to step but not wholly.

import CacheMethods
import Foundation
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

/// A layer of some shape.
struct Layer: CustomTestStringConvertible, Sendable {
  let (H, M, d): (Int, Int, Int)
  let window: Int?

  init(_ H: Int, _ M: Int, _ d: Int, window: Int? = nil) {
    (self.H, self.M, self.d) = (H, M, d)
    self.window = window
  }

  /// Whether a method has a meaning here: a union over a group needs a group of several heads.
  func takes(_ method: String) -> Bool { H > M || !method.contains("support=group") }

  var shape: LayerShape {
    LayerShape(
      layer: 3, queryHeads: H, keyValueHeads: M, width: d, window: window,
      rotary: RotaryEmbedding(rotatedWidth: d, base: 100))
  }
  /// Bytes of a key and a value.
  var rowBytes: Int { 2 * d * 4 }
  var testDescription: String {
    "H \(H), M \(M), d \(d), window \(window.map(String.init) ?? "none")"
  }

  /// Groups, one head a group, one group, an odd number of heads; windows around k = 6 and w = 4.
  static let all = [
    Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20), Layer(4, 2, 8, window: 17),
    Layer(3, 3, 16, window: 9), Layer(4, 1, 8, window: 3), Layer(2, 2, 20, window: 1),
  ]
  /// One of each kind, for tests that try many methods with many prompts.
  static let few = [
    Layer(4, 2, 8), Layer(4, 1, 20, window: 17), Layer(3, 3, 16, window: 9),
    Layer(2, 1, 8, window: 3),
  ]
}

/// Rows of every token of one sequence in one layer.
struct Rows: Sendable {
  let layer: Layer
  /// Of each query head before and after RoPE, (L, d).
  var queriesBefore, queries: [Tensor<Float>]
  /// Of each key/value head before and after RoPE, (L, d).
  var keysBefore, keys: [Tensor<Float>]
  /// Of each key/value head, (L, d).
  var values: [Tensor<Float>]
  /// What a layer's projections could have been applied to, (L, 12); unrelated to the rows.
  var layerInput: Tensor<Float>

  init(_ layer: Layer, tokens L: Int, seed: UInt64 = 1) {
    self.layer = layer
    func normals(_ heads: Int, stream: Int) -> [Tensor<Float>] {
      (0..<heads).map {
        Tensor<Float>.normal(shape: [L, layer.d], seed: seed, stream: UInt64(stream + $0))
      }
    }
    let rotations = layer.shape.rotary.rotations(positions: Array(0..<L), length: L)
    queriesBefore = normals(layer.H, stream: 100)
    keysBefore = normals(layer.M, stream: 200)
    values = normals(layer.M, stream: 300)
    layerInput = .normal(shape: [L, 12], seed: seed, stream: 400)
    queries = queriesBefore.map(rotations.rotate)
    keys = keysBefore.map(rotations.rotate)
  }

  /// The first `l` tokens as a prompt.
  func prompt(_ l: Int) -> PromptRows {
    var prompt = PromptRows(
      queries: queries.map { $0.rows(0..<l) }, keys: keys.map { $0.rows(0..<l) },
      keysBeforeRotary: keysBefore.map { $0.rows(0..<l) }, values: values.map { $0.rows(0..<l) },
      queriesBeforeRotary: queriesBefore.map { $0.rows(0..<l) })
    prompt.layerInput = layerInput.rows(0..<l)
    prompt.residual = prompt.layerInput
    prompt.tokens = (0..<l).map(id)
    return prompt
  }

  /// The rows of tokens `chunk` once more, as if a model had repeated them.
  func repetition(_ chunk: Range<Int>) -> RepetitionRows {
    RepetitionRows(
      chunk: chunk, queries: queries.map { $0.rows(chunk) }, keys: keys.map { $0.rows(chunk) },
      values: values.map { $0.rows(chunk) })
  }

  /// The id of token `t`.
  func id(_ t: Int) -> Int { t * 5 % 11 }

  /// Token `t`.
  func token(_ t: Int) -> TokenRows {
    func rows(_ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }
    var token = TokenRows(
      queries: rows(queries), queriesBeforeRotary: rows(queriesBefore), keys: rows(keys),
      keysBeforeRotary: rows(keysBefore), values: rows(values))
    token.layerInput = layerInput.rows(t..<t + 1)
    token.hint = token.queries
    token.token = id(t)
    return token
  }

  /// Exact attention of token `t`'s query head `h` over `tokens`: (d).
  func attention(_ h: Int, _ t: Int, over tokens: [Int]) -> [Float] {
    let m = h * layer.M / layer.H
    return fullAttention(
      query: queries[h].row(t), keys: keys[m].gather(rows: tokens),
      values: values[m].gather(rows: tokens))
  }
}

/// What a run of one cache left behind.
struct Run {
  var steps: [AttendedStep] = []
  var events: [TransferEvent] = []
  /// After the prompt, and after every step.
  var residentBytes: [Int] = []
  /// After the prompt, and after every step.
  var hostBytes: [Int] = []
  /// After the prompt.
  var liveBuffers: [DeviceTier.LiveBuffer] = []
  var peakBytes = 0
  var cache: any KeyValueCache

  /// A prompt of `prompt` tokens, then one step for each later one.
  init(_ cache: any KeyValueCache, _ rows: Rows, prompt: Int, capacity: Int? = nil) throws {
    self.cache = cache
    var tiers = Tiers(capacity: capacity)
    try self.cache.prefill(rows.prompt(prompt), tiers: &tiers)
    try hearRepetition(rows, &tiers)
    try settle(&tiers)
    liveBuffers = tiers.device.liveBuffers
    note(tiers)
    for t in prompt..<rows.keys[0].rows {
      steps.append(try self.cache.decode(rows.token(t), tiers: &tiers))
      try settle(&tiers)
      note(tiers)
      if self.cache.length != t + 1 { Issue.record("length \(self.cache.length) after token \(t)") }
    }
    events = tiers.ledger.events
    peakBytes = tiers.device.peakBytes
  }

  init(_ method: String, _ rows: Rows, prompt: Int, capacity: Int? = nil) throws {
    let cache = try rival(method, rows.layer).makeCache(for: rows.layer.shape)
    try self.init(cache, rows, prompt: prompt, capacity: capacity)
  }

  /// Where the cache needs a repetition: one that makes the context's own queries and keys again.
  private mutating func hearRepetition(_ rows: Rows, _ tiers: inout Tiers) throws {
    guard var scored = cache as? any RepetitionScored else { return }
    for chunk in scored.repeatedChunks { try scored.hear(rows.repetition(chunk), tiers: &tiers) }
    cache = scored
  }

  /// The layer alone, as all layers of a model.
  private mutating func settle(_ tiers: inout Tiers) throws {
    var all = [cache]
    try settleTogether(&all, tiers: &tiers)
    cache = all[0]
  }

  private mutating func note(_ tiers: borrowing Tiers) {
    residentBytes.append(tiers.device.residentBytes)
    hostBytes.append(cache.hostBytes)
  }
}

/// Methods that drop, choose and move rows within 30 tokens: k = 6 and w = 4.
let sparseMethods = [
  "full", "offload", "lrqk:r=3,k=6,w=4", "lrqk:r=3,k=6,w=4,transfers=per-key-value-head",
  "lrqk:preset=recommended,r=3,k=6,w=4",
  "lrqk:preset=recommended,r=3,k=6,w=4,map-refresh=5,transfers=per-query-head",
  "lrqk:preset=recommended,r=3,k=6,w=4,support=group",
  "lrqk:preset=recommended,r=3,k=6,w=4,ranks=by-layer,rank-energy=relative,counts=pooled",
  "lrqk:preset=recommended,r=3,k=6,w=4,ranks=by-layer,map-refresh=5,transfers=per-query-head",
  "lrqk:r=3,k=6,w=4,counts=pooled", "lrqk-no-hit-miss:r=3,k=6,w=4,counts=pooled",
  "lrqk:preset=recommended,r=7,k=6,w=1", "lrqk-no-hit-miss:r=3,k=6,w=4",
  "lrqk-no-hit-miss:preset=recommended,r=3,k=6,w=4", "lrqk-prefill-offload:r=3,k=6,w=4",
  "lrqk-prefill-offload:preset=recommended,r=3,k=6,w=4,map-refresh=5", "topk:k=6,w=4",
  "topk:k=6,w=1", "topk:k=6,w=4,transfers=per-key-value-head", "streaming:sinks=3,w=7",
  "streaming:sinks=0,w=1", "streaming:sinks=3,w=7,positions=original",
]

/// Prompts around every border of k = 6, w = 4 and r = 3 or 7, one token among them.
let promptLengths = [1, 5, 6, 7, 9, 10, 11, 21]

/// Methods that choose rows, k = 6 and w = 4 or as near as they come: for the properties that every
/// method has.
let selectingRivals = [
  "topk:k=6,w=4",
  "topk:budget=10,w=4,transfers=per-key-value-head",
  "shadowkv:k=4,chunk=2,outliers=1,local=2",
  "shadowkv:budget=10,rank=4,chunk=1,outliers=1,local=4,scale=width,group=mean",
  "top-p:p=0.6,k=6,w=4",
  "top-p:p=1,k=6,w=4,transfers=per-key-value-head",
  "random:k=6,w=4",
  "random:seed=7,k=6,w=4,transfers=per-key-value-head",
  "quest:page=2,k=6,w=4",
  "quest:page=3,newest=forced,group=max,k=6,w=4,transfers=per-key-value-head",
  "sparq:r=3,k=6,w=4",
  "sparq:r=3,keys=device,reallocate=off,group=own,k=6,w=4,transfers=per-query-head",
  "double-sparsity:factor=4,k=6,w=4",
  "double-sparsity:factor=2,label-bits=3,group=mean,k=6,w=4,transfers=per-key-value-head",
  "key-bits:k=6,w=4",
  "key-bits:bits=1,centred=true,first=none,k=6,w=4,transfers=per-key-value-head",
  "key-bits:map=closed-form,rank=5,bits=8,centred=true,group=mean,budget=10,w=4",
  "key-bits:map=random,bits=3,estimator=rabitq,seed=3,first=1,first-k=2,group=max,k=6,w=4",
  "loki:rank=5,k=6,w=4",
  "loki:rank=90%,group=mean,budget=10,w=4,transfers=per-key-value-head",
  "infinigen:ratio=0.5,alpha=2,k=6,w=4",
  "infinigen:speculation=own,skew=none,partial=per-key-value-head,budget=10,w=4",
]

/// The method that `text` names; gate=random stands for a file of random gates for this layer,
/// which is gone once the method has read it.
func rival(_ text: String, _ layer: Layer) throws -> any CacheMethod {
  guard text.contains("gate=random") else { return try cacheMethod(text) }
  let path = try gateFile(layer)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try cacheMethod(text.replacing("gate=random", with: "gate=\(path)"))
}

/// Methods that keep rows, about 10 of 30.
let keepingRivals = [
  "streaming:sinks=3,w=7,positions=original",
  "streaming:sinks=3,w=7,positions=original,during-answer=keep",
  "snapkv:budget=10,window=4,kernel=3",
  "snapkv:budget=10,window=4,kernel=3,pooling=max,group=own,dropped=parked",
  "h2o:budget=10",
  "h2o:budget=10,recent=3,group=own,dropped=parked",
  "h2o:budget=10,recent=0,group=max,normalise=queries",
  "fastgen:recovery=0.6,special=1,punctuation=3/7",
  "fastgen:recovery=0.7,budget=10,globals=1,heavy=0.2,window=0.1,special=1,dropped=parked",
  "pyramidkv:budget=10,window=4,kernel=3,beta=2",
  "pyramidkv:budget=10,window=3,kernel=3,rule=kvpress,beta=2,group=max,dropped=parked",
  "curdkv:budget=10,sinks=2,block=4",
  "curdkv:budget=10,block=none,leverage=value,projection=randn:7,dropped=parked",
  "expected-attention:budget=10,future=16,sinks=2",
  "expected-attention:budget=10,sinks=0,covariance=off,group=own,dropped=parked",
  "kvzip:budget=10,sinks=2,chunk=7",
  "kvzip:budget=10,sinks=2,level=uniform,dropped=parked",
  "keydiff:budget=10",
  "keydiff:budget=10,during-answer=evict,dropped=parked",
  "fastkvzip:gate=random,budget=10,first=2,window-ratio=0.15,every=4,answer-window=2",
  "fastkvzip:gate=random,budget=10,first=0,prefill=chunked,chunk=9,window=3,level=layer",
  "kv-efficient-vla:w=5,chunk=3",
  "kv-efficient-vla:budget=12,chunk=4,alpha=0.55,merge=plain",
]

/// Methods that hold rows in another form, and so attend to all of them, but not to exact ones.
let holdingRivals = [
  "kivi:bits=2,group=4,residual=8",
  "kivi:bits=4,group=3,residual=3",
  "think:ratio=0.4,recent=5,queries=7",
  "think:ratio=0.7,recent=0,queries=32,group=own",
  "zipvl:tau=0.8,probes=all,high=int8,low=int3,every=3",
  "zipvl:tau=0.9,probes=50%,prefill=exact,high=f16,rest=dropped,every=5",
]
