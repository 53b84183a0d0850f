// What can be called by name.
//
// In:  arguments.
// Out: a value; raise_exception never returns.
//
//   range(n), range(a, b), range(a, b, step)     at most 100,000 numbers, as in Jinja's sandbox
//   namespace(a=1), dict(a=1), both also of a dict or of pairs
//   raise_exception(message)                     transformers': the template's own refusal
//   strftime_now(format)                         transformers': the date, here the caller's
//
// The next file, Renderer+Markup.swift, is text that is marked safe.

extension Renderer {
  /// As many numbers as Jinja's sandbox lets range() have.
  static let rangeLimit = 100_000

  func call(
    _ function: NamedFunction, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    switch function {
    case .range: return try range(arguments)
    case .dict: return try mapping(try members(arguments, of: "dict()"))
    case .namespace:
      let namespace = try namespace()
      for (name, value) in try members(arguments, of: "namespace()") {
        guard let name = name.text, !name.hasPrefix("_") else {
          throw fault(.evaluation("the attributes of a namespace are str and begin without _"))
        }
        try checkItem(value)
        namespace.attributes[name] = value
      }
      return .namespace(namespace)
    case .raiseException:
      let given = try bind(arguments, to: ["message"], required: 1, of: "raise_exception()")
      throw fault(.raised(excerpt(try string(given[0] ?? .none))))
    case .strftimeNow:
      let given = try bind(arguments, to: ["format"], required: 1, of: "strftime_now()")
      return .text(try formatted(try text(given[0], of: "strftime_now()")))
    }
  }

  private func range(_ arguments: GivenArguments) throws(ChatTemplateError) -> Value {
    var numbers: [Int] = []
    for value in arguments.positional {
      guard let number = value.integer else {
        throw fault(.evaluation("range() takes int, not \(value.typeName)"))
      }
      numbers.append(number)
    }
    guard arguments.named.isEmpty, (1...3).contains(numbers.count) else {
      throw fault(.evaluation("range() takes one to three arguments without names"))
    }
    let start = numbers.count > 1 ? numbers[0] : 0
    let end = numbers.count > 1 ? numbers[1] : numbers[0]
    let step = numbers.count > 2 ? numbers[2] : 1
    if step == 0 { throw fault(.evaluation("the step of range() is zero")) }
    // ceil(|end - start| / |step|), without a difference that could overflow.
    let isEmpty = step > 0 ? start >= end : start <= end
    let distance = isEmpty ? 0 : start.distanceMagnitude(to: end)
    let count = (distance / step.magnitude) + (distance % step.magnitude == 0 ? 0 : 1)
    if count > Self.rangeLimit {
      throw fault(.limit("range() of more than \(Self.rangeLimit) numbers"))
    }
    try charge(Int(count))
    return try list((0..<Int(count)).map { .integer(start + $0 * step) }, kind: .range)
  }

  /// The members of a dict and the named arguments behind it.
  private func members(
    _ arguments: GivenArguments, of what: String
  ) throws(ChatTemplateError) -> [(key: Value, value: Value)] {
    var members: [(key: Value, value: Value)] = []
    if arguments.positional.count > 1 {
      throw fault(.evaluation("\(what) takes at most one argument without a name"))
    }
    if let first = arguments.positional.first {
      if case .mapping(let mapping) = first {
        for (key, value) in zip(mapping.keys, mapping.values) { members.append((key, value)) }
      } else {
        for pair in try items(of: first) {
          let pair = try items(of: pair)
          if pair.count != 2 { throw fault(.evaluation("\(what) takes pairs of two values")) }
          members.append((pair[0], pair[1]))
        }
      }
    }
    for (name, value) in arguments.named { members.append((.text(name), value)) }
    return members
  }

  // MARK: strftime

  private static let days = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]
  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]

  /// C's strftime with English names; %-d is glibc's: no padding.
  private func formatted(_ format: String) throws(ChatTemplateError) -> String {
    try charge(bytes: format.utf8.count * 10)
    var text = ""
    var scalars = format.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      guard scalar == "%" else {
        text.unicodeScalars.append(scalar)
        continue
      }
      var code = scalars.next()
      let isShort = code == "-"
      if isShort { code = scalars.next() }
      let letter = code.map(String.init) ?? ""
      guard let part = field(letter, isShort: isShort) else {
        throw fault(.unsupported("the date format \(excerpt("%" + (isShort ? "-" : "") + letter))"))
      }
      text += part
    }
    return text
  }

  private func field(_ letter: String, isShort: Bool) -> String? {
    func padded(_ number: Int, _ width: Int = 2) -> String {
      let digits = String(number)
      return isShort ? digits : String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    switch letter {
    case "d": return padded(date.day)
    case "m": return padded(date.month)
    case "y": return padded(date.year % 100)
    case "H": return padded(date.hour)
    case "I": return padded((date.hour + 11) % 12 + 1)
    case "M": return padded(date.minute)
    case "S": return padded(date.second)
    case "j": return padded(dayOfYear, 3)
    case _ where isShort: return nil
    case "e": return (date.day < 10 ? " " : "") + String(date.day)
    case "Y": return String(date.year)
    case "A": return Self.days[weekday]
    case "a": return String(Self.days[weekday].prefix(3))
    case "B": return Self.months[date.month - 1]
    case "b": return String(Self.months[date.month - 1].prefix(3))
    case "p": return date.hour < 12 ? "AM" : "PM"
    case "F": return "\(date.year)-\(padded(date.month))-\(padded(date.day))"
    case "T": return "\(padded(date.hour)):\(padded(date.minute)):\(padded(date.second))"
    case "%": return "%"
    default: return nil
    }
  }

  /// 1...366.
  private var dayOfYear: Int {
    (1..<date.month).reduce(date.day) { $0 + ChatDate.days(in: $1, of: date.year) }
  }

  /// The weekday, 0 for Sunday.
  ///
  /// The days before January 1st of the year are 365 years + leap days, and January 1st of the
  /// year 1 was a Monday.
  private var weekday: Int {
    let years = date.year - 1
    return (365 * years + years / 4 - years / 100 + years / 400 + dayOfYear) % 7
  }
}

extension Int {
  /// |other - self|, which can need all 64 bits.
  fileprivate func distanceMagnitude(to other: Int) -> UInt {
    let (low, high) = (Swift.min(self, other), Swift.max(self, other))
    return UInt(bitPattern: high) &- UInt(bitPattern: low)
  }
}
