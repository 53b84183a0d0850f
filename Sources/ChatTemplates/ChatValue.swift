// What a caller can tell a chat template: values, messages, the date.
//
// In:  the caller's Swift values.
// Out: the same in the shape of Jinja's, which are Python's: None, bool, int, float, str, list,
//      dict.
//
// The date is an argument wherever it is used, so that a rendered prompt can be repeated; only
// `ChatDate.now()` looks at the clock.

import Foundation
public import Tensors

/// A value that a chat template can read.
public indirect enum ChatValue: Sendable, Equatable {
  /// Python's None, of the type NoneType.
  case none
  /// True or False.
  case bool(Bool)
  /// An int; Python's have no limit, ours 64 bits, and more is an error.
  case integer(Int)
  /// A float of Python's, 64 bits.
  case number(Double)
  /// A str: a sequence of Unicode scalars.
  case text(String)
  /// A list of any values.
  case list([ChatValue])
  /// A dict with str keys, in order; of equal keys the last one holds.
  case mapping([Member])

  /// One `key: value` of a mapping.
  public struct Member: Sendable, Equatable {
    /// The member's name.
    public let key: String
    /// What the name stands for.
    public let value: ChatValue

    /// Pairs a key with its value.
    public init(_ key: String, _ value: ChatValue) {
      self.key = key
      self.value = value
    }
  }
}

extension ChatValue {
  /// The value of a JSON text, for options that come from a file or a command line.
  ///
  /// nil where a number is beyond a Double's range, or an integer beyond 64 bits.
  public init?(_ json: JSONValue) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .integer(value)
    case .number(let text):
      // Without a point and an exponent it is an int in Python: -0, or one that 64 bits cannot
      // hold.
      if text.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }) {
        guard text.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || $0 == 0x30 }) else { return nil }
        self = .integer(0)
        return
      }
      guard let number = json.doubleValue else { return nil }
      self = .number(number)
    case .string(let text): self = .text(text)
    case .array(let elements):
      let items = elements.compactMap(ChatValue.init)
      if items.count < elements.count { return nil }
      self = .list(items)
    case .object(let members):
      let list = members.compactMap { member in
        ChatValue(member.value).map { Member(member.key, $0) }
      }
      if list.count < members.count { return nil }
      self = .mapping(list)
    }
  }
}

/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// Who speaks, in the words of the template: "system", "user", "assistant".
  public let role: String
  /// What is said.
  public let content: String

  /// What `role` says.
  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }

  /// As a template sees it: `message.role`, `message['content']`.
  var value: ChatValue {
    .mapping([.init("role", .text(role)), .init("content", .text(content))])
  }
}

/// A local date and time of the Gregorian calendar, for templates that print today's.
public struct ChatDate: Sendable, Equatable {
  /// The year, 1...9999.
  public let year: Int
  /// The month, 1...12.
  public let month: Int
  /// The day of the month, 1...31.
  public let day: Int
  /// The hour, 0...23.
  public let hour: Int
  /// The minute, 0...59.
  public let minute: Int
  /// The second, 0...59.
  public let second: Int

  /// A date that exists.
  public init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
    precondition((1...9999).contains(year), "the year \(year) is not in 1...9999")
    precondition((1...12).contains(month), "the month \(month) is not in 1...12")
    precondition(
      (1...Self.days(in: month, of: year)).contains(day), "\(year)-\(month) has no day \(day)")
    precondition(
      (0...23).contains(hour) && (0...59).contains(minute) && (0...59).contains(second),
      "\(hour):\(minute):\(second) is no time of day")
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// What the clock says, in the local time zone.
  public static func now() -> ChatDate {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .current
    let now = calendar.dateComponents(
      [.year, .month, .day, .hour, .minute, .second], from: Date())
    guard let year = now.year, let month = now.month, let day = now.day, let hour = now.hour,
      let minute = now.minute, let second = now.second
    else { preconditionFailure("the calendar left out a component that it was asked for") }
    return ChatDate(
      year: year, month: month, day: day, hour: hour, minute: minute, second: min(second, 59))
  }

  static func isLeap(_ year: Int) -> Bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
  }

  static func days(in month: Int, of year: Int) -> Int {
    switch month {
    case 2: isLeap(year) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }
}
