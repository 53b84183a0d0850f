// What a cache method is to the rest of the package: a name, its options, and a cache for a layer.
//
// In:  text such as "lrqk:preset=paper,r=16,k=240,w=16"; the same syntax wherever a method is
//      named.
// Out: a checked method that makes caches and says what they will hold.
//
// One method = one file = one type:
//
//   FullMethod.swift            full                   every row on the device
//   OffloadMethod.swift         offload                every row on the host, reloaded at each step
//   LRQKMethod.swift            lrqk                   codes and k + w rows on the device
//   LRQKNoHitMiss.swift         lrqk-no-hit-miss       the same, selected rows moved at every step
//   LRQKPrefillOffload.swift    lrqk-prefill-offload   the same, on the host after the prompt
//   TopKMethod.swift            topk                   the k best by exact scores: an oracle
//   TopPMethod.swift            top-p                  the fewest with p of attention: an oracle
//   RandomMethod.swift          random                 k random rows: a control
//   LokiMethod.swift            loki                   the k best in the keys' first components
//   InfiniGenMethod.swift       infinigen              rows that the layer before promises
//   ShadowKVMethod.swift        shadowkv               low-rank keys, chunks chosen by landmarks
//   QuestMethod.swift           quest                  pages by bounds of their scores
//   SparQMethod.swift           sparq                  rows by the channels where q is large
//   DoubleSparsityMethod.swift  double-sparsity        rows by calibrated channels in few bits
//   StreamingMethod.swift       streaming              the first rows and the last ones
//   SnapKVMethod.swift          snapkv                 the last rows, and what they attend to
//   H2OMethod.swift             h2o                    the newest rows, and the most attended ones
//   FastGenMethod.swift         fastgen                a policy for each head
//   KVzipMethod.swift           kvzip                  the rows that a repetition needs
//   FastKVzipMethod.swift       fastkvzip              the rows that a trained gate scores highest
//   PyramidKVMethod.swift       pyramidkv              as snapkv, fewer in late layers
//   CurDKVMethod.swift          curdkv                 rows with long keys and values
//   ExpectedAttentionMethod.swift  expected-attention  what queries like the prompt's attend to
//   KeyDiffMethod.swift         keydiff                rows whose keys are unlike the others
//   KIVIMethod.swift            kivi                   few bits, keys by channel
//   ThinKMethod.swift           think                  keys of old rows in fewer channels
//   ZipVLMethod.swift           zipvl                  important rows in more bits than others
//   KVQuantMethod.swift         kvquant                all rows in few bits, outliers exact
//   KVSinkMethod.swift          kvsink                 the same, attention sinks exact
//   KVEfficientMethod.swift     kv-efficient-vla       recent rows, and means of older chunks
//   SmallKVMethod.swift         smallkv                rows of two kinds, as a second model says
//   FactoredMethod.swift        factored               LRKV's or MLA's factors on the device
//
// RecallProbe.swift and RecordingCache.swift wrap a cache of any method to look at it.

import Synchronization
import Tensors
public import Transformers

/// A way to keep keys and values, with its options.
///
/// A new method is a file of this module and an element of `ownMethods`, or a type of another
/// package and a call of `addCacheMethods`.
public protocol CacheMethod: Sendable, CustomStringConvertible {
  /// What the command line calls it.
  static var name: String { get }
  /// What it does, in one line.
  static var summary: String { get }
  /// The number of its paper on arXiv; nil for what no paper of its own describes.
  static var paper: String? { get }
  /// The options that it takes, in the order in which `options` has them.
  static var optionList: [MethodOption] { get }
  /// Reads the options, each of them one of `optionList` and given at most once.
  init(_ given: MethodOptions) throws(MethodError)
  /// The options in effect, defaults included, in a fixed order.
  var options: [(name: String, value: String)] { get }
  /// How many of the newest tokens are attended to whatever their scores are, the new one included.
  var recentTokens: Int { get }
  /// The sentence for a method that leaves tokens out, where it attended to all `tokens` in sight.
  ///
  /// They are the newest of `length`; the sentence says which size would change it. Nil where some
  /// tokens were left out.
  func nothingLeftOut(tokens: Int, of length: Int) -> String?
  /// Whether a layer can be served at all, whatever the options; `makeCache` throws if not.
  func applies(to layer: LayerShape) -> Bool
  /// An empty cache for one layer of one sequence.
  func makeCache(for layer: LayerShape) throws -> any KeyValueCache
  /// What one layer holds after a prompt of `tokens` tokens, in closed form.
  func bytes(tokens: Int, layer: LayerShape) -> CacheBytes
  /// How many rows a head attends to after a prompt of `tokens` tokens, forced ones among them.
  func attendedRows(tokens: Int, layer: LayerShape) -> Int
  /// Tokens that are among these rows whatever their scores are: first ones and recent ones.
  ///
  /// `rows` is how many a head has in all after a prompt of `tokens` tokens.
  func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int
  /// Throws where the method's budget cannot be met after a prompt of `tokens` tokens.
  func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError)
}

extension CacheMethod {
  /// No paper, unless the method names one.
  public static var paper: String? { nil }

  /// The text that makes this method again: "topk:k=512,w=16,transfers=per-query-head".
  public var description: String {
    let pairs = options.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
    return pairs.isEmpty ? Self.name : "\(Self.name):\(pairs)"
  }

  /// A shorter text that makes the same method: sizes, and what differs from its preset's choices.
  public var brief: String {
    let preset = options.first { $0.name == "preset" }.map { "preset=\($0.value)" }
    let plain = try? cacheMethod(preset.map { "\(Self.name):\($0)" } ?? Self.name)
    let pairs = options.filter { option in
      ["preset", "r", "k", "w"].contains(option.name)
        || !(plain?.options.contains { $0 == option } ?? false)
    }.map { "\($0.name)=\($0.value)" }
    return pairs.isEmpty ? Self.name : "\(Self.name):\(pairs.joined(separator: ","))"
  }

  /// 1, the new token alone; methods with a recent window have more.
  public var recentTokens: Int { 1 }

  /// Nil: methods that leave tokens out have a sentence.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? { nil }

  /// The same after `length` tokens of a model with these layers, all of whose tokens are in sight,
  /// or those of the widest sliding window.
  public func nothingLeftOut(length: Int, layers: [LayerShape]) -> String? {
    nothingLeftOut(
      tokens: layers.map { $0.visible(length: length).count }.max() ?? length, of: length)
  }

  /// All that are in sight; methods that leave rows out have fewer.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    layer.visible(length: tokens).count
  }

  /// The recent tokens.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(recentTokens, rows)
  }

  /// Nothing: a method without a budget of bytes has nothing to check.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {}

  /// True: every layer has keys and values.
  public func applies(to layer: LayerShape) -> Bool { true }
}

/// An option of a method, as help and errors show it.
public struct MethodOption: Sendable, Equatable {
  /// What stands left of the equals sign.
  public let name: String
  /// What it means, with the values that it takes.
  public let meaning: String
  /// The value that it has when it is not given.
  public let defaultValue: String

  /// An option, its meaning with the values that it takes, and its value when it is not given.
  public init(_ name: String, _ meaning: String, defaultValue: String) {
    self.name = name
    self.meaning = meaning
    self.defaultValue = defaultValue
  }
}

/// What one layer of a cache holds, in bytes.
public struct CacheBytes: Sendable, Equatable {
  /// Keys and values on the device.
  public var deviceRows: Int
  /// Codes, bases and maps on the device.
  public var deviceCodes: Int
  /// Everything on the host.
  public var host: Int
  /// True where the device's figures are an upper bound: heads that share rows may want the same
  /// ones, and some methods learn from the prompt how many rows or codes they need.
  public var isUpperBound: Bool

  /// The bytes of each kind; what is left out is 0.
  public init(deviceRows: Int = 0, deviceCodes: Int = 0, host: Int = 0, isUpperBound: Bool = false)
  {
    self.deviceRows = deviceRows
    self.deviceCodes = deviceCodes
    self.host = host
    self.isUpperBound = isUpperBound
  }

  /// Everything on the device.
  public var device: Int { deviceRows + deviceCodes }
}

/// All methods that a text can name, in the order in which help lists them: ours, then those that
/// were added.
public var cacheMethods: [any CacheMethod.Type] {
  ownMethods + addedMethods.withLock { $0 }
}

/// Lets texts, and so every command, name methods of another package as well.
///
/// Their names must be new. Docs/extending.md shows how a program of one's own does this.
public func addCacheMethods(_ methods: [any CacheMethod.Type]) {
  addedMethods.withLock { added in
    for method in methods {
      let isNew = !(ownMethods + added).contains { $0.name == method.name }
      precondition(isNew, "there is a cache method \(method.name) already")
      added.append(method)
    }
  }
}

private let addedMethods = Mutex<[any CacheMethod.Type]>([])

/// The methods of this package.
private let ownMethods: [any CacheMethod.Type] = [
  FullMethod.self,
  OffloadMethod.self,
  LRQKMethod.self,
  LRQKNoHitMissMethod.self,
  LRQKPrefillOffloadMethod.self,
  TopKMethod.self,
  TopPMethod.self,
  RandomMethod.self,
  LokiMethod.self,
  InfiniGenMethod.self,
  ShadowKVMethod.self,
  QuestMethod.self,
  SparQMethod.self,
  DoubleSparsityMethod.self,
  KeyBitsMethod.self, CompactMethod.self,
  StreamingMethod.self,
  SnapKVMethod.self,
  H2OMethod.self,
  FastGenMethod.self,
  KVzipMethod.self,
  FastKVzipMethod.self,
  PyramidKVMethod.self,
  CurDKVMethod.self,
  ExpectedAttentionMethod.self,
  KeyDiffMethod.self,
  KIVIMethod.self,
  ThinKMethod.self,
  ZipVLMethod.self,
  KVQuantMethod.self,
  KVSinkMethod.self,
  KVEfficientMethod.self,
  SmallKVMethod.self,
  FactoredMethod.self,
]

/// The method that `text` names: METHOD[:option=value,...].
///
/// A method or option that does not exist, an option given twice, a value that cannot be read and
/// an option that has no effect are errors of one line.
///
/// `methods` are those that can be named: ours, and perhaps those of another package.
public func cacheMethod(
  _ text: String, among methods: [any CacheMethod.Type] = cacheMethods
) throws(MethodError) -> any CacheMethod {
  let (place, given) = try readMethod(
    text, among: methods.map { ($0.name, $0.optionList) }, kind: "cache method")
  return try methods[place].init(given)
}
