"""Checks pages of lrqk view in headless Chromium against the traces that they were made of.

  viewer-page.py large FILE           writes a trace of 4,096 tokens, 500 steps, 12 layers of 4 heads
  viewer-page.py check FOLDER [SHOTS] opens the pages in FOLDER; the pictures of Docs/viewer.md go there, too,
                                      and many more screenshots to the folder SHOTS

What is checked: no error and no warning on the console; no request but for the page itself; every number,
fate and score that is shown, against the trace, at several steps, layers and heads, reached by keys alone;
every control by keyboard; a name for every control and picture (the browser's accessibility tree); the size of
a page; how long a step and a layer take. This is a second text of what View/Page/*.js computes.

Python's standard library, and python3-websocket for the browser's protocol.
"""

import base64
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time

import websocket

# Bytes of a page of 500 steps; seconds of most steps, and of anything at all, on a busy machine.
LARGEST_PAGE = 5_000_000
USUAL_STEP = 0.1
LONGEST = 2.0

KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33, "PageDown": 34, "Home": 36, "End": 35, "Tab": 9,
        " ": 32, "Enter": 13}


class Browser:
    """Chromium with one page, and all that its console said."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--remote-allow-origins=*", f"--user-data-dir={self.folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.startswith("DevTools listening on "):
                break
        self.socket = websocket.create_connection(line.split()[-1], timeout=120)
        self.count, self.session, self.faults, self.requests = 0, None, [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.socket.close()
        self.process.wait(timeout=60)
        self.folder.cleanup()

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.hear(answer)

    def hear(self, event):
        name, about = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description", details["text"]))
        elif name == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.faults.append(f"console.{about['type']}: {about['args']}")
        elif name == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.faults.append(about["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def evaluate(self, text):
        result = self.call("Runtime.evaluate", expression=text, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{text}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, path, width=1280, height=900, scheme="light"):
        self.requests.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=f"file://{path}")
        for _ in range(600):
            if self.evaluate("document.readyState === 'complete' && !!document.querySelector('.method')"):
                return
            time.sleep(0.1)
        raise SystemExit(f"{path} did not open: {self.faults}")

    def press(self, key, times=1):
        shift = len(key) == 1 and key.isupper()
        event = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key.upper()[0])),
                 "modifiers": 8 if shift else 0}
        if key in KEYS:
            event["code"] = key
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        for _ in range(times):
            down = dict(event, text=text) if text else event
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def shoot(self, path):
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=False)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))


class Trace:
    """A trace, and what the page is to show of it."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.all = json.load(file)
        self.prompt, self.recent = self.all["prompt_tokens"], self.all["recent_tokens"]
        self.steps, self.layers = self.all["steps"], self.all["layers"]

    def attended(self, step, layer, head):
        found = set()
        for s in self.steps[:step]:
            change = s["layers"][layer]["heads"][head]
            found = (found - set(change["gone"])) | set(change["came"])
        return found

    def slots(self, step, layer, head):
        """The tokens in the slots of the holder of `head`, after `step`."""
        slots = self.layers[layer]["slots"]
        size = self.layers[layer]["query_heads"] // len(slots)
        holder = head // size
        if step == 0:
            return set(slots[holder])
        ring = self.prompt + step - self.recent
        heads = range(holder * size, (holder + 1) * size)
        return {t for h in heads for t in self.attended(step, layer, h) if t < ring}

    def expected(self, step, layer, head):
        attended = self.attended(step, layer, head)
        length = self.prompt + step
        ring = length - self.recent
        counts = self.steps[step - 1]["layers"][layer]
        seen = counts["heads"][head]
        older = {t for t in attended if t < ring}
        fates = {"recent": set(), "held": set(), "hit": set(), "miss": set()}
        if self.layers[layer].get("slots") is None:
            fates["held"] = attended
        else:
            fates["recent"] = attended - older
            if counts["hits"] + counts["misses"] == 0:
                fates["held"] = older
            elif counts["hits"] == 0:
                fates["miss"] = older
            else:
                fates["hit"] = older & self.slots(step - 1, layer, head)
                fates["miss"] = older - fates["hit"]
        memory = self.steps[step - 1]["memory"]
        moved = sum(line["bytes"] for lines in memory["moved"].values() for line in lines.values())
        scale = self.all["score_step"]
        rows = []
        for token, exact, own in seen["best"]:
            share = math.exp((exact - seen["norm"]) * scale)
            fate = next((f for f, tokens in fates.items() if token in tokens), None)
            rows.append((token, exact, own, share, fate))
        # Where rows came and there are no slots, the trace does not say which.
        untold = self.layers[layer].get("slots") is None and counts["hits"] + counts["misses"] > 0
        return {
            "numbers": {
                "attended": f"{len(attended):,} of {length:,}",
                "recent": f"{len(fates['recent']):,}",
                "hits": "not told" if untold else f"{len(fates['hit']):,}",
                "misses": "not told" if untold else f"{len(fates['miss']):,}",
                "mass": f"{100 * seen['mass'] * self.all['share_step']:.1f} %",
                "found": f"{seen['found']:,} of {len(older):,}",
                "moved": bytes_text(moved), "device": bytes_text(memory["device_bytes"]),
                "host": bytes_text(memory["host_bytes"])},
            "fates": {name: sorted(tokens) for name, tokens in fates.items()},
            "best": sorted(token for token, *_ in seen["best"]), "new": [length - 1], "rows": rows,
            "untold": untold}


def bytes_text(count):
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    unit = 0
    while count >= 1024 and unit < 4:
        count, unit = count / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{count:.2f} {units[unit]}"


SHOWN = """(() => [...document.querySelectorAll('.method')].map((method) => {
  const spans = [...method.querySelectorAll('.t')];
  const of = (name) => spans.flatMap((span, n) => span.classList.contains(name) ? [n] : []);
  return {
    numbers: Object.fromEntries([...method.querySelectorAll('[data-value]')]
      .map((node) => [node.dataset.value, node.textContent])),
    fates: {recent: of('recent'), held: of('held'), hit: of('hit'), miss: of('miss')},
    best: of('best'), new: of('new'), text: spans.map((span) => span.textContent).join(''),
    rows: [...method.querySelectorAll('tbody tr')].map((row) =>
      [...row.cells].map((cell) => cell.textContent.trim())),
  };
}))()"""
FATES = {None: "not attended to", "recent": "recent", "held": "kept", "hit": "hit", "miss": "fetched"}


class Check:
    """What was looked at, and what was wrong."""

    def __init__(self, browser):
        self.browser, self.count, self.faults = browser, 0, []

    def equal(self, what, found, wanted):
        self.count += 1
        if found != wanted:
            self.faults.append(f"{what}: the page has {str(found)[:300]}, expected {str(wanted)[:300]}")

    def state(self):
        return self.browser.evaluate("({step: shown.step, layer: shown.layer, head: shown.head})")

    def page(self, name, traces):
        """Everything that is shown now, against the traces."""
        at = self.state()
        for n, (found, trace) in enumerate(zip(self.browser.evaluate(SHOWN), traces)):
            place = f"{name}, method {n}, {at}"
            wanted = trace.expected(min(at["step"], len(trace.steps)), at["layer"], at["head"])
            for key in ["best", "new"]:
                self.equal(f"{place}, {key}", found[key], wanted[key])
            for key, value in wanted["numbers"].items():
                self.equal(f"{place}, {key}", near(found["numbers"][key], value), value)
            for key, value in wanted["fates"].items():
                self.equal(f"{place}, {key}", found["fates"][key], value)
            self.equal(f"{place}, rows of scores", len(found["rows"]), len(wanted["rows"]))
            scale = trace.all["score_step"]
            for cells, (token, exact, own, share, fate) in zip(found["rows"], wanted["rows"]):
                written = [f"{token:,}", f"{exact * scale:.2f}",
                           "none" if own is None else f"{own * scale:.2f}", f"{100 * share:.1f} %",
                           "attended to" if wanted["untold"] and fate == "held" else FATES[fate]]
                self.equal(f"{place}, token {token}", [near(c, w) for c, w in zip(cells[1:], written)], written)
            self.equal(f"{place}, the text", found["text"], "".join(trace.all["pieces"]))


def near(found, wanted):
    """`wanted` where `found` differs by a rounding in its last digit, else `found`."""
    numbers = [re.sub(r"[^0-9.eE+-]", "", text) for text in (found, wanted)]
    units = [re.sub(r"[0-9., \u2007+-]", "", text) for text in (found, wanted)]
    try:
        a, b = map(float, numbers)
    except ValueError:
        return found
    last = 10.0 ** -len(numbers[1].partition(".")[2]) if "." in numbers[1] else 0
    return wanted if units[0] == units[1] and abs(a - b) <= last * 1.001 else found


def walk(check, name, traces):
    """Steps, layers and heads by keys alone."""
    browser = check.browser
    last, layers = len(traces[0].steps), len(traces[0].layers)
    heads = traces[0].layers[0]["query_heads"]
    check.equal(f"{name}, at first", check.state(), {"step": 1, "layer": 0, "head": 0})
    check.page(name, traces)
    moves = [("ArrowRight", 3, {"step": 4}), ("l", 1, {"layer": 1 % layers}), ("ArrowLeft", 1, {"step": 3}),
             ("PageDown", 1, {"step": 13}), ("h", 1, {"head": 1}), ("l", 2, {"layer": 3 % layers}),
             ("End", 1, {"step": last}), ("L", 1, {"layer": 2 % layers}), ("PageUp", 1, {"step": last - 10}),
             ("H", 2, {"head": -1}), ("H", 1, {"head": heads - 1}), ("Home", 1, {"step": 1})]
    at = check.state()
    for key, times, change in moves:
        browser.press(key, times)
        at.update(change)
        check.equal(f"{name}, after {key}", check.state(), at)
        if at["head"] >= 0:
            check.page(name, traces)
        else:
            total = sum(s["hits"] for s in [traces[0].steps[at["step"] - 1]["layers"][at["layer"]]])
            shown = browser.evaluate(SHOWN)[0]["numbers"]
            check.equal(f"{name}, hits of the layer", shown["hits"], f"{total:,}")
    said = browser.evaluate("document.getElementById('said').textContent")
    check.equal(f"{name}, the sentence", said.startswith(f"Step 1, layer {at['layer']}, head {at['head']}."), True)


def controls(check, name):
    """Every control with the keyboard, and a name for each."""
    browser = check.browser
    browser.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        browser.press("Tab")
        reached.append(browser.evaluate(
            "(document.activeElement.id || document.activeElement.closest('details')?.id || document.activeElement.className)"))
    for wanted in ["back", "step", "forward", "play", "layer", "head", "follow", "help", "table", "text"]:
        check.equal(f"{name}, Tab reaches {wanted}", wanted in reached, True)
    browser.evaluate("document.getElementById('step').focus()")
    browser.press("Home")
    browser.press("ArrowRight", 2)
    check.equal(f"{name}, the slider's own arrows", check.state()["step"], 3)
    browser.evaluate("document.getElementById('forward').focus()")
    browser.press("Enter")
    check.equal(f"{name}, the button forward", check.state()["step"], 4)
    browser.evaluate("document.getElementById('back').focus()")
    browser.press(" ")
    check.equal(f"{name}, the button back", check.state()["step"], 3)
    browser.evaluate("document.activeElement.blur()")
    browser.press("p")
    time.sleep(1)
    check.equal(f"{name}, it plays", check.state()["step"] > 3, True)
    browser.press("p")
    check.equal(f"{name}, it rests",
                browser.evaluate("document.getElementById('play').getAttribute('aria-pressed')"), "false")
    browser.press("?")
    check.equal(f"{name}, the keys", browser.evaluate("document.getElementById('help').open"), True)
    browser.press("?")
    nameless = []
    for node in browser.call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if role in ("button", "slider", "combobox", "checkbox", "image", "region", "table", "textbox"):
            if not node.get("name", {}).get("value", "").strip():
                nameless.append(role)
    check.equal(f"{name}, nameless controls and pictures", nameless, [])


def speed(check, name):
    """Milliseconds of steps and layers, measured by the page itself, pixels included."""
    timed = """(async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      const time = async (work) => { const t = performance.now(); work(); await frame(); return performance.now() - t; };
      const walk = []; for (let s = 100; s < 160; s++) walk.push(await time(() => go(s)));
      const jump = await time(() => go(steps));
      const layer = []; for (let n = 0; n < 4; n++) layer.push(await time(() => choose(n, 0)));
      const any = await time(() => choose(2, -1));
      walk.sort((a, b) => a - b);
      return {step: walk[30], slowest: walk[59], jump, layer: Math.max(...layer), any};
    })()"""
    found = check.browser.call("Runtime.evaluate", expression=timed, awaitPromise=True, returnByValue=True)
    times = found["result"]["value"]
    print(name + ", milliseconds: " + ", ".join(f"{key} {value:.0f}" for key, value in times.items()))
    check.equal(f"{name}, a step is quick", times.pop("step") <= 1000 * USUAL_STEP, True)
    check.equal(f"{name}, nothing stalls", max(times.values()) <= 1000 * LONGEST, True)


def narrow(check, name):
    """Nothing sticks out of a narrow window."""
    check.browser.press("?")
    wide = check.browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check.browser.press("?")
    check.equal(f"{name}, pixels beyond the window", wide, 0)


def pictures(browser, path, folder):
    """Those of Docs/viewer.md: the copying head of the shipped model, under two methods, light and dark."""
    for name, scheme in [("viewer", "light"), ("viewer-dark", "dark")]:
        browser.open(path, width=1180, height=1190, scheme=scheme)
        browser.press("l")
        browser.press("h", 2)
        browser.shoot(f"{folder}/{name}.png")


def check_pages(folder, shots):
    browser = Browser()
    try:
        return check_with(browser, folder, shots)
    finally:
        browser.close()


def check_with(browser, folder, shots):
    check = Check(browser)
    pages = {"one": ["recommended"], "two": ["recommended", "window"], "other": ["paper", "reload"],
             "untold": ["offload", "shadowkv"],
             "large": ["large"]}
    for name, traces in pages.items():
        path = f"{folder}/{name}.html"
        loaded = [Trace(f"{folder}/{trace}.json") for trace in traces]
        start = time.monotonic()
        browser.open(path)
        size = os.path.getsize(path)
        print(f"{name}: {size:,} bytes, open after {time.monotonic() - start:.1f} s")
        check.equal(f"{name}, a page below {LARGEST_PAGE:,} bytes", size < LARGEST_PAGE, True)
        if name == "large":
            speed(check, name)
            browser.open(path)
        walk(check, name, loaded)
        controls(check, name)
        check.equal(f"{name}, requests", browser.requests, [f"file://{path}"])
        browser.call("Accessibility.disable")
        if name == "two":
            pictures(browser, path, folder)
        for scheme in ["light", "dark"]:
            for width in [1280, 390]:
                browser.open(path, width=width, scheme=scheme)
                narrow(check, f"{name}, {scheme}, {width}")
                if shots:
                    browser.press("ArrowRight", 7)
                    browser.press("l", 3)
                    browser.shoot(f"{shots}/{name}-{scheme}-{width}.png")
    check.equal("errors and warnings on the console", browser.faults, [])
    for fault in check.faults[:40]:
        print("FAILED  ", fault)
    print(f"{check.count} checks, {len(check.faults)} failed")
    return 1 if check.faults else 0


def write_large(path):
    """A trace as large as a page has to bear: random, but in form what lrqk generate writes."""
    draw = random.Random(22)
    prompt, steps, layers, heads, k, w = 4096, 500, 12, 4, 240, 16
    change = k // 10
    memory = {"moved": {"host_to_device": {}, "device_to_host": {}}, "device_bytes": 1 << 20, "host_bytes": 1 << 24}
    sets = [[set(draw.sample(range(prompt - w), k)) for _ in range(heads)] for _ in range(layers)]
    trace = {
        "schema": "lrqk-trace/1", "model": "none", "name": "random numbers", "cache": "none", "prompt_tokens": prompt,
        "recent_tokens": w, "score_step": 0.01, "share_step": 0.0001,
        "tokens": [draw.randrange(30000) for _ in range(prompt + steps + 1)],
        "pieces": [draw.choice(["the ", "of ", "needle", ", ", "grass ", "is "]) for _ in range(prompt + steps + 1)],
        "layers": [{"query_heads": heads, "key_value_heads": heads, "slots": [sorted(s) for s in sets[n]]}
                   for n in range(layers)],
        "prompt": memory, "steps": []}
    before = [[set() for _ in range(heads)] for _ in range(layers)]
    for t in range(1, steps + 1):
        length = prompt + t
        step = {"memory": {"moved": {"host_to_device": {"miss": {"rows": layers * heads * change, "bytes": layers * heads * change * 512}},
                                     "device_to_host": {}}, "device_bytes": 1 << 20, "host_bytes": (1 << 24) + t}, "layers": []}
        for n in range(layers):
            row = {"hits": 0, "misses": 0, "heads": []}
            for h in range(heads):
                old = sets[n][h]
                kept = old - set(draw.sample(sorted(old), change))
                new = set(kept)
                while len(new) < k:
                    new.add(draw.randrange(length - w))
                row["hits"] += len(new & old)
                row["misses"] += len(new - old)
                now = new | set(range(length - w, length))
                scores = sorted((draw.randrange(-500, 900) for _ in range(8)), reverse=True)
                best = [[token, score, score + draw.randrange(-90, 90)]
                        for token, score in zip(draw.sample(range(length), 8), scores)]
                row["heads"].append({"came": sorted(now - before[n][h]), "gone": sorted(before[n][h] - now),
                                     "mass": draw.randrange(10000), "found": draw.randrange(k), "norm": 1000, "best": best})
                sets[n][h], before[n][h] = new, now
            step["layers"].append(row)
        trace["steps"].append(step)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(trace, file)


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["large"] and len(arguments) == 2:
        write_large(arguments[1])
        return 0
    if arguments[:1] == ["check"] and len(arguments) in (2, 3):
        return check_pages(arguments[1], arguments[2] if len(arguments) == 3 else None)
    print(__doc__.strip())
    return 64


if __name__ == "__main__":
    sys.exit(main())
