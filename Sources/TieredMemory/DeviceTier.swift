// The device's memory, simulated: who holds how many bytes of it.
//
// In:  requests for buffers of so many elements, and a capacity in bytes (or none).
// Out: the buffers, or an error that says who wanted how much; the bytes held now, and the most
//      that were ever held.
//
// A buffer is an ordinary Swift value, so that heads can work on their own buffers at the same
// time without locks. What makes it device memory is that the tier keeps a book of every buffer it
// has handed out. A program that drops a buffer without freeing it leaves its line in the book, as
// it would leave the bytes on a real device: `liveBuffers` shows it. What is left out: alignment,
// fragmentation, and the moment in which a growing buffer exists twice on a real device. The next
// file, HostStore.swift, is the other tier.

/// A buffer in the device's memory.
///
/// Its elements may be read and written in place; its size is the tier's business. The value can be
/// moved about freely, but only one copy is the buffer: once that one has been resized or freed,
/// the tier turns the other copies away.
public struct DeviceBuffer<Element: Sendable>: Sendable {
  /// What the buffer is for, as errors and reports call it.
  public let label: String
  /// Number of elements.
  public private(set) var count: Int
  /// The elements, to be read and written in place; their number is fixed.
  ///
  /// Neither `buffer.elements[i] = x` nor passing `&buffer.elements` copies the array.
  public var elements: [Element] {
    get { storage }
    // Not a stored property with didSet: other modules' writes through one copy the whole array.
    _modify {
      defer { precondition(storage.count == count, "\(label): only the tier resizes a buffer") }
      yield &storage
    }
  }
  private var storage: [Element]
  /// The line of the tier's book; nil once freed.
  fileprivate var id: Int?

  /// The size in bytes, measured from the elements.
  public var bytes: Int { storage.count * MemoryLayout<Element>.stride }

  /// Lends all elements to `body`, in place, for loops that write many of them.
  public mutating func withMutableSpan<Result, Failure: Error>(
    _ body: (inout MutableSpan<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = storage.mutableSpan
    return try body(&span)
  }

  fileprivate init(id: Int, label: String, elements: [Element]) {
    self.id = id
    self.label = label
    self.count = elements.count
    self.storage = elements
  }

  fileprivate mutating func resize(count newCount: Int, fill: Element) {
    let kept = count
    count = newCount
    if newCount >= kept {
      storage.append(contentsOf: repeatElement(fill, count: newCount - kept))
    } else {
      storage.removeLast(kept - newCount)
    }
  }

  fileprivate mutating func retire() {
    id = nil
    count = 0
    storage = []
  }
}

/// A device that has not enough memory left.
public enum DeviceTierError: Error, Equatable, CustomStringConvertible {
  /// The buffer `label` needed `needed` more bytes while `resident` of `capacity` were taken.
  case outOfMemory(label: String, needed: Int, resident: Int, capacity: Int)

  /// One line: what, how much, what to do.
  public var description: String {
    switch self {
    case .outOfMemory(let label, let needed, let resident, let capacity):
      "device out of memory: \(label) needs \(needed) bytes, and \(resident) of \(capacity) are "
        + "taken; raise the capacity or ask for less"
    }
  }
}

/// The device's memory: it hands out buffers and knows what they hold.
public struct DeviceTier: ~Copyable, Sendable {
  /// A buffer that has been handed out and not freed.
  public struct LiveBuffer: Sendable, Equatable {
    /// What it is for; many heads may use one label.
    public let label: String
    /// Its size in bytes.
    public let bytes: Int
  }

  /// What all buffers together may hold, in bytes; nil for no limit.
  public let capacity: Int?
  /// What the buffers hold now, in bytes: the sum over `liveBuffers`.
  public private(set) var residentBytes = 0
  /// The most that they ever held at once, in bytes.
  public private(set) var peakBytes = 0

  private var book: [Int: LiveBuffer] = [:]
  private var nextID = 0

  /// A device with so many bytes, or without a limit.
  public init(capacity: Int? = nil) {
    precondition((capacity ?? 0) >= 0, "a capacity is not negative")
    self.capacity = capacity
  }

  /// All buffers handed out and not freed, oldest first.
  public var liveBuffers: [LiveBuffer] {
    book.sorted { $0.key < $1.key }.map(\.value)
  }

  /// A new buffer of `count` elements, all of them `zero`.
  ///
  /// Throws `DeviceTierError.outOfMemory` before anything is allocated; the tier is then unchanged.
  public mutating func allocate<E: Sendable>(
    _ label: String, count: Int, of zero: E
  ) throws(DeviceTierError) -> DeviceBuffer<E> {
    // Checked before the array exists, so that a request that does not fit costs nothing.
    try checkRoom(label, for: Self.bytes(count, E.self))
    return try allocate(label, holding: Array(repeating: zero, count: count))
  }

  /// Reserves a buffer that takes over `elements` as they are.
  ///
  /// Throws `DeviceTierError.outOfMemory`, and changes nothing, if they do not fit.
  public mutating func allocate<E: Sendable>(
    _ label: String, holding elements: [E]
  ) throws(DeviceTierError) -> DeviceBuffer<E> {
    let bytes = Self.bytes(elements.count, E.self)
    try checkRoom(label, for: bytes)
    let id = nextID
    nextID += 1
    enter(id, label, bytes)
    return DeviceBuffer(id: id, label: label, elements: elements)
  }

  /// Changes the size of a buffer: its first elements stay, new ones are `fill`.
  ///
  /// Counted as if done in place. Throws `DeviceTierError.outOfMemory`, naming the bytes to be
  /// added, before anything is changed.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public mutating func resize<E: Sendable>(
    _ buffer: inout DeviceBuffer<E>, count: Int, fill: E
  ) throws(DeviceTierError) {
    let id = check(buffer)
    let bytes = Self.bytes(count, E.self)
    try checkRoom(buffer.label, for: bytes - buffer.bytes)
    strike(id)
    enter(id, buffer.label, bytes)
    buffer.resize(count: count, fill: fill)
  }

  /// Gives a buffer's bytes back; the buffer is left empty.
  public mutating func free<E: Sendable>(_ buffer: inout DeviceBuffer<E>) {
    strike(check(buffer))
    buffer.retire()
  }

  // MARK: The book

  private static func bytes<E>(_ count: Int, _: E.Type) -> Int {
    precondition(count >= 0, "a buffer has no negative size: \(count)")
    let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<E>.stride)
    precondition(!overflow, "\(count) elements are more bytes than an Int counts")
    return bytes
  }

  private func checkRoom(_ label: String, for bytes: Int) throws(DeviceTierError) {
    if let capacity, bytes > capacity - residentBytes {
      throw .outOfMemory(
        label: label, needed: bytes, resident: residentBytes, capacity: capacity)
    }
  }

  /// The line of a buffer in the book, which must agree with the buffer.
  private func check<E>(_ buffer: DeviceBuffer<E>) -> Int {
    guard let id = buffer.id, let line = book[id] else {
      preconditionFailure("\(buffer.label): this buffer has been freed, or is another tier's")
    }
    precondition(
      line == LiveBuffer(label: buffer.label, bytes: buffer.bytes),
      "\(buffer.label): this is an old copy of a buffer that has been resized, or another tier's")
    return id
  }

  private mutating func enter(_ id: Int, _ label: String, _ bytes: Int) {
    book[id] = LiveBuffer(label: label, bytes: bytes)
    residentBytes += bytes
    peakBytes = max(peakBytes, residentBytes)
  }

  private mutating func strike(_ id: Int) {
    residentBytes -= book.removeValue(forKey: id)?.bytes ?? 0
  }
}
