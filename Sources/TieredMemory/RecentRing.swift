// The ring of recent tokens: which slot the next one takes, and when the host gets them.
//
// In:  tokens, one after another.
// Out: each token's slot, and in bursts the tokens that now have to be copied to the host.
//
// A *slot* is the room for one row, a key and a value, in the device's buffers. The newest w tokens
// always stay on the device, exact, whether or not anything selects them. A new token takes the
// slot of the oldest one. It is *pending* until the host has its row; when all w tokens
// of the ring are pending they are copied in one burst. A token that leaves the ring has therefore
// always reached the host, and the host always holds a prefix of the sequence.
//
//     w = 3, a prompt of 10 tokens              tokens     slots    pending
//       prompt, all on the host                  7  8  9   0 1 2    none
//       append 10  -> slot 0                     8  9 10   1 2 0    10
//       append 11  -> slot 1                     9 10 11   2 0 1    10 11
//       append 12  -> slot 2                    10 11 12   0 1 2    10 11 12
//       flush: 10 11 12 go to the host          10 11 12   0 1 2    none
//
// Bookkeeping only: the rows lie in device buffers. Tokens come in order, so the whole state is
// four numbers. The next file, SlotPool.swift, keeps the slots of the selected tokens.

/// The slots of the newest tokens, and which of these tokens the host still lacks.
public struct RecentRing: Sendable, Equatable {
  /// Tokens that the ring holds when full, w; its slots are 0 ..< capacity.
  public let capacity: Int
  /// The tokens in the ring, oldest first.
  public private(set) var tokens: Range<Int>
  /// The slot that the next token takes.
  public private(set) var nextSlot: Int
  private var pendingCount: Int

  /// A ring that holds the newest tokens of a prompt, in slots 0, 1, 2 and so on.
  ///
  /// `tokens` are consecutive and may be fewer than the capacity. The last `pending` of them are
  /// not on the host yet: 0 when the whole prompt was offloaded, all of them for a short prompt
  /// of which only the older part was. An empty range `n..<n` says that n is the next token.
  public init(capacity: Int, holding tokens: Range<Int>, pending: Int = 0) {
    precondition(capacity >= 1, "a ring holds at least one token, its newest")
    precondition(
      tokens.count <= capacity, "\(tokens.count) tokens do not fit a ring of \(capacity)")
    precondition(tokens.lowerBound >= 0, "tokens count from 0")
    precondition(
      pending >= 0 && pending <= tokens.count, "\(pending) of \(tokens.count) cannot be pending")
    self.capacity = capacity
    self.tokens = tokens
    self.nextSlot = tokens.count % capacity
    self.pendingCount = pending
  }

  /// The tokens in the ring that the host lacks, in token order.
  public var pending: Range<Int> { tokens.upperBound - pendingCount..<tokens.upperBound }

  /// True when every slot holds a pending token, so that `flush` comes before the next `append`.
  ///
  /// (A ring made with `capacity` pending tokens starts in this state. The released code does not
  /// flush here, and fails on a prompt of exactly k + w tokens.)
  public var isFlushDue: Bool { pendingCount == capacity }

  /// The slots of `tokens`, in the order of tokens: oldest first.
  public var slots: [Int] { tokens.map(slot(of:)) }

  /// The slot of a token in the ring.
  public func slot(of token: Int) -> Int {
    precondition(tokens.contains(token), "token \(token) is not in the ring, which holds \(tokens)")
    let age = tokens.upperBound - token
    return nextSlot >= age ? nextSlot - age : nextSlot - age + capacity
  }

  /// Gives the next token a slot, that of the oldest token if the ring is full.
  ///
  /// The caller writes the token's row there and then calls `flushIfDue`.
  @discardableResult
  public mutating func append(_ token: Int) -> Int {
    precondition(!isFlushDue, "flush the ring first: token \(tokens.lowerBound) is not on the host")
    precondition(
      token == tokens.upperBound, "token \(token) is not the next one after \(tokens)")
    let slot = nextSlot
    tokens = max(tokens.lowerBound, token + 1 - capacity)..<token + 1
    nextSlot = nextSlot + 1 == capacity ? 0 : nextSlot + 1
    pendingCount += 1
    return slot
  }

  /// The tokens whose rows the caller now copies to the host, in token order; mostly none.
  ///
  /// They stay in the ring, and `slot(of:)` says where. After the call they count as copied.
  public mutating func flushIfDue() -> Range<Int> {
    if !isFlushDue { return tokens.upperBound..<tokens.upperBound }
    let flushed = pending
    pendingCount = 0
    return flushed
  }
}
