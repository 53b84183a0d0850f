// Both sides of the link together: what the device holds, and what has crossed.
//
// In:  allocations and copies, from every layer of a model.
// Out: one book of device bytes and one ledger of transfers.
//
// The next file, RecentRing.swift, keeps the slots of the newest tokens.

/// The device tier and the ledger of everything that crossed between it and the host.
///
/// One value serves all layers of a sequence: they share the device's capacity, and their events
/// stand in one ledger in the order in which they happened.
public struct Tiers: ~Copyable, Sendable {
  /// The device's memory.
  public var device: DeviceTier
  /// Every copy between host and device.
  public var ledger = TransferLedger()

  /// A device of `capacity` bytes; nil sets no limit.
  public init(capacity: Int? = nil) { device = DeviceTier(capacity: capacity) }
}
