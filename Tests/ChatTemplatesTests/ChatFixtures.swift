// The expected texts that make_chats.py has written.

import ChatTemplates
import Foundation
import Tensors
import Testing

/// A file of Fixtures.
func chatFixture(_ name: String) throws -> [UInt8] {
  let url = Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(name)")
  return [UInt8](try Data(contentsOf: url))
}

/// A JSON file of Fixtures.
func chatFixtureJSON(_ name: String) throws -> JSONValue {
  try JSONValue(parsing: try chatFixture(name), depthLimit: 32)
}

/// The moment at which make_chats.py has set its clock.
let fixtureDate = ChatDate(year: 2026, month: 3, day: 5, hour: 14, minute: 7, second: 9)

/// What a template made of a conversation, in the words of the fixtures.
enum ChatOutcome: Equatable, CustomStringConvertible {
  case text(String)
  case raised(String)
  /// "syntax", "evaluation", "unsupported", "limit" or "file".
  case error(String)

  /// Text is compared by its bytes: Swift's == would take é and e with an accent for the same.
  static func == (a: ChatOutcome, b: ChatOutcome) -> Bool {
    a.description.utf8.elementsEqual(b.description.utf8)
  }

  var description: String {
    switch self {
    case .text(let text): "text \(text)"
    case .raised(let text): "raised \(text)"
    case .error(let kind): "error \(kind)"
    }
  }

  /// Of a fixture's case.
  init(_ json: JSONValue) throws {
    if let text = json["text"]?.stringValue {
      self = .text(text)
    } else {
      self =
        try json["raised"]?.stringValue.map(ChatOutcome.raised)
        ?? .error(#require(json["error"]?.stringValue))
    }
  }

  /// Of a call.
  init(_ render: () throws(ChatTemplateError) -> String) {
    do {
      self = .text(try render())
    } catch {
      self =
        switch error.problem {
        case .raised(let text): .raised(String(text.dropFirst().dropLast()))
        case .syntax: .error("syntax")
        case .evaluation: .error("evaluation")
        case .unsupported: .error("unsupported")
        case .limit: .error("limit")
        case .file: .error("file")
        }
    }
  }
}

/// Variables of a fixture.
func chatVariables(_ json: JSONValue?) throws -> [String: ChatValue] {
  var variables: [String: ChatValue] = [:]
  for member in json?.objectValue ?? [] {
    let value = try #require(ChatValue(member.value))
    variables[member.key] = value
  }
  return variables
}
