"""Writes the expected texts of ChatTemplateTests.swift and ChatSubsetTests.swift.

Run in this folder, with transformers 5 and jinja2 3.1 installed:

    python3 make_chats.py

Reads  Fixtures/*.jinja, templates of our own in the shape of the model families'.
Writes Fixtures/conversations.json: every template with every conversation, rendered by
           transformers' render_jinja_template;
       Fixtures/dialogues.json: conversations with tools as JSON files have them, rendered in the
           way of apply_chat_template;
       Fixtures/snippets.json: short templates and their texts, from the same environment.
"""

import datetime
import json
import pathlib

import jinja2
import transformers.utils.chat_template_utils as utils

FOLDER = pathlib.Path(__file__).parent / "Fixtures"
NOW = datetime.datetime(2026, 3, 5, 14, 7, 9)


class Clock(datetime.datetime):
    """datetime.now() at one moment, for strftime_now."""

    @classmethod
    def now(cls, tz=None):
        return NOW


utils.datetime = Clock

TOKENS = {
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama31": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral01": ("<s>", "</s>"),
    "mistral03": ("<s>", "</s>"),
    "qwen2": (None, "<|im_end|>"),
    "qwen25": (None, "<|im_end|>"),
    "qwen3": (None, "<|im_end|>"),
    "phi3": ("<s>", "<|endoftext|>"),
}

CONVERSATIONS = {
    "question": [("user", "What is a cache?")],
    "system": [("system", "Answer in one line."), ("user", "What is a cache?")],
    "turns": [
        ("user", "Hello."),
        ("assistant", "Hello! What can I do for you?"),
        ("user", "Count to three."),
        ("assistant", "One, two, three."),
        ("user", "Backwards."),
    ],
    "system and turns": [
        ("system", "  You are brief.\n"),
        ("user", "Hello."),
        ("assistant", "Hello."),
        ("user", "Goodbye."),
    ],
    "answered": [("user", "Two and two?"), ("assistant", "Four.")],
    "spaces": [
        ("system", "\n\n be kind \t"),
        ("user", "   in front, behind   \n\n"),
        ("assistant", "\n yes \u00a0\u3000"),
        ("user", "\x1c\x85 done \u2028"),
    ],
    "letters": [
        ("system", "Zwölf Boxkämpfer — ça va ?"),
        ("user", "日本語と 한국어, עברית, e\u0301 is not \u00e9, 👩‍👩‍👧 🇩🇪"),
        ("assistant", "Ünïcödé ✓ \U0001f600"),
        ("user", "Ω ≠ \u2126"),
    ],
    "braces": [
        ("user", "{{ messages }} {% if x %} {# no #} <|im_end|> [INST] \"quoted\" \\n 'x'\r\nline"),
        ("assistant", "{'a': 1}"),
        ("user", "<b>&amp;</b>"),
    ],
    "thoughts": [
        ("user", "Is 7 prime?"),
        ("assistant", "<think>\nTry 2, 3.\n</think>\n\nYes."),
        ("user", "And 9?"),
        ("assistant", "<think>\n3 times 3.\n\n</think>\n\nNo.\n"),
    ],
    "open thought": [("user", "Hm?"), ("assistant", "</think>Ah.</think> Oh."), ("user", "Ok")],
    "tool answer": [
        ("user", "Look it up."),
        ("assistant", "I call."),
        ("user", "<tool_response>\n42\n</tool_response>"),
        ("assistant", "It is 42."),
    ],
    "tool role": [("user", "Go."), ("tool", '{"a": [1, 2]}'), ("tool", "é"), ("user", "So?")],
    "empty": [("system", ""), ("user", ""), ("assistant", ""), ("user", " ")],
    "assistant first": [("assistant", "Welcome."), ("user", "Thanks.")],
    "two users": [("user", "One."), ("user", "Two.")],
    "late system": [("user", "One."), ("system", "Be terse."), ("user", "Two.")],
    "only system": [("system", "Nobody speaks.")],
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": 'Adds "two" numbers: ä + b < c',
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "number"}},
                "required": ["a", "b"],
                "strict": True,
                "default": None,
                "limits": [],
                "range": [-1, 1.5, 1e-7, 1e16],
            },
        },
    }
]

# Extra variables beyond the plain calls, and the conversations that are worth trying with them.
EXTRAS = {
    "llama31": [
        {"date_string": "26 Jul 2024"},
        {"tools": TOOLS},
        {"tools": TOOLS, "tools_in_user_message": False},
        {"builtin_tools": ["code_interpreter", "search", "maps"]},
    ],
    "mistral03": [{"tools": TOOLS}],
    "qwen25": [{"tools": TOOLS}],
    "qwen3": [{"enable_thinking": False}, {"enable_thinking": True}, {"tools": TOOLS}],
}


def plain(turns):
    return [{"role": role, "content": content} for role, content in turns]


def rendered(template, messages, prompt, variables):
    """("text", ...) or ("raised", message) or ("error", kind).

    OverflowError is how the sandbox of Jinja refuses a range() that is too long: a limit here too.
    """
    try:
        texts, _ = utils.render_jinja_template(
            conversations=[messages],
            chat_template=template,
            add_generation_prompt=prompt,
            **variables,
        )
        return "text", texts[0]
    except (jinja2.exceptions.TemplateSyntaxError, SyntaxError):
        return "error", "syntax"
    except jinja2.exceptions.TemplateRuntimeError:
        return "error", "evaluation"
    except jinja2.exceptions.TemplateError as error:
        return "raised", error.message
    except OverflowError:
        return "error", "limit"
    except (TypeError, ValueError, ZeroDivisionError, AttributeError, LookupError):
        return "error", "evaluation"


def conversations():
    result = {"conversations": CONVERSATIONS, "templates": []}
    for path in sorted(FOLDER.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        bos, eos = TOKENS[path.stem]
        tokens = {"eos_token": eos} | ({"bos_token": bos} if bos else {})
        cases = []
        for name, messages in CONVERSATIONS.items():
            for prompt in (False, True):
                kind, text = rendered(source, plain(messages), prompt, tokens)
                cases.append({"conversation": name, "prompt": prompt, kind: text})
        for extra in EXTRAS.get(path.stem, []):
            for name in ("question", "system and turns", "thoughts", "only system"):
                kind, text = rendered(source, plain(CONVERSATIONS[name]), True, tokens | extra)
                cases.append({"conversation": name, "prompt": True, "extra": extra, kind: text})
        result["templates"].append({"name": path.stem, "variables": tokens, "cases": cases})
    return result


CONTEXT = {
    "name": "Ada",
    "text": "  Hello, wörld!  ",
    "lines": "one\ntwo\n\nthree\n",
    "numbers": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "nothing": None,
    "yes": True,
    "half": 0.5,
    "tool": {"name": "add", "items": "a key", "args": {"b": 1, "a": [True, None, "é\n"]}},
    "people": [
        {"name": "Ada", "age": 36, "role": "user"},
        {"name": "Bob", "age": 7, "role": "assistant"},
        {"name": "cy", "role": "user"},
    ],
    "e1": "\u00e9",
    "e2": "e\u0301",
}

SNIPPETS = (FOLDER / "snippets.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n====\n")


def snippets():
    result = {"context": CONTEXT, "snippets": []}
    for source in SNIPPETS:
        kind, text = rendered(
            source, plain([("user", "Hi"), ("assistant", "Ho")]), False, CONTEXT
        )
        result["snippets"].append({"template": source, kind: text})
    return result


def call(city, number):
    function = {"name": "add", "arguments": {"a": 1, "city": city, "b": [2.5, None]}}
    return {"type": "function", "id": f"call{number:05}", "function": function}


# Files that `lrqk chat-template` reads.
DIALOGUES = {
    "one call": {
        "messages": [
            {"role": "system", "content": "You may add."},
            {"role": "user", "content": "Add <1> and 2."},
            {"role": "assistant", "content": None, "tool_calls": [call("Köln", 1)]},
            {"role": "tool", "tool_call_id": "call00001", "name": "add", "content": "3"},
            {"role": "assistant", "content": "It is 3."},
            {"role": "user", "content": "Thanks."},
        ],
        "tools": TOOLS,
    },
    "two calls": {
        "messages": [
            {"role": "user", "content": "Add twice."},
            {"role": "assistant", "content": "", "tool_calls": [call("a", 1), call("b", 2)]},
            {"role": "tool", "tool_call_id": "call00001", "content": "{\"sum\": 3}"},
            {"role": "tool", "tool_call_id": "call00002", "content": "5"},
        ],
        "tools": TOOLS,
    },
    "no tools": [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "I call.", "tool_calls": [call("a", 1)]},
        {"role": "tool", "tool_call_id": "call00001", "content": "3"},
    ],
    "reasoning": [
        {"role": "user", "content": "Is 7 prime?"},
        {"role": "assistant", "content": "Yes.", "thinking": "2 and 3 do not divide it."},
        {"role": "user", "content": "And 9?"},
        {"role": "assistant", "content": "No.", "reasoning": "3 times 3", "name": None},
    ],
    "parts": [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ho"}], "weight": 0.5},
        {"role": "user", "content": "7"},
    ],
}

# Shows every member that a template gets to see, in order.
WHOLE = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}{{ tools | tojson }}"


def dialogue(template, given, prompt, tokens):
    """What tokenizer.apply_chat_template makes of a file."""
    messages = given["messages"] if isinstance(given, dict) else given
    tools = given.get("tools") if isinstance(given, dict) else None
    messages = utils._normalize_chat_messages(messages)
    return rendered(template, messages, prompt, tokens | {"tools": tools})


def dialogues():
    cases = []
    for path in sorted(FOLDER.glob("*.jinja")) + [None]:
        source = path.read_text(encoding="utf-8") if path else WHOLE
        bos, eos = TOKENS[path.stem] if path else ("<s>", "</s>")
        tokens = {"eos_token": eos} | ({"bos_token": bos} if bos else {})
        for name, given in DIALOGUES.items():
            kind, text = dialogue(source, given, True, tokens)
            case = {"template": path.stem if path else None, "variables": tokens, "file": name}
            cases.append(case | {kind: text})
    return {"whole": WHOLE, "files": DIALOGUES, "cases": cases}


def write(name, value):
    path = FOLDER / name
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(path, path.stat().st_size, "bytes")


write("conversations.json", conversations())
write("dialogues.json", dialogues())
write("snippets.json", snippets())
