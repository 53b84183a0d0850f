"""Makes the tokenizer fixtures: small tokenizers in the layouts of well-known models.

In:  nothing; the text that they are trained on stands below.
Out: Fixtures/<layout>/tokenizer.json and tokenizer_config.json, and in each folder
     expected.json: texts, their ids and the decoded texts, as the `tokenizers` library has them.
     Fixtures/declarations: one small tokenizer.json, and in expected.json the files that
     may stand beside it, with what `transformers` makes of texts in such a folder.

Needs `tokenizers` (written with 0.23.3) and `transformers` (5.24). Run it in this folder:

    python3 make_tokenizers.py

Random texts are not stored. Script and tests draw the same ones from the same small generator
(SplitMix64, see `random_text`), and expected.json holds a checksum of the ids of each (FNV-1a
over the numbers), one of the decoded text and one of the text itself.
"""

import json
import os
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, __version__
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Fixtures")
RANDOM_TEXTS = 2000

# ------------------------------------------------------------------------------------------------
# Text to train on: our own sentences in several languages and scripts, numbers, code.

SENTENCES = """
The cache holds the keys and the values of every token that the model has read so far.
Attention compares the query of the newest token with the key of each older one.
When the prompt grows long, reading the whole cache takes longer than all the multiplications.
I'm sure that you've seen it; we'll see what they're doing, and he'd say it isn't so.
She said: "Don't move the rows that are already there!" It's what we'd expect, isn't it?
A low-rank sketch of the keys says which tokens matter, and only those rows are moved.
In 2024 there were 128 heads, 32 layers and 4096 numbers in each row; 3.14159 is not 22/7.
for i in range(10): print(f"row {i} of {n}")    # a comment
    if (x >= 0 && y[i] != 3) { return x->value * 2; }
Der Zwischenspeicher enthält die Schlüssel aller Wörter, die schon gelesen worden sind.
Größe, Übung, Straße und Änderung: im Deutschen gibt es Umlaute und das scharfe S.
Le modèle relit toutes les clés à chaque étape, même celles qui n'ont plus d'importance.
Où est la mémoire ? Elle a été déplacée là-bas, près du garçon et de la forêt.
El niño leyó el capítulo rápidamente y volvió mañana por la canción de su corazón.
Память хранит ключи и значения каждого слова, которое модель уже прочитала.
Η μνήμη κρατά τα κλειδιά και τις τιμές κάθε λέξης που έχει διαβαστεί.
记忆保存着模型已经读过的每一个词的键和值。我们只移动需要的行。
記憶はモデルが読んだすべての単語のキーと値を保持します。必要な行だけを動かします。
모델은 읽은 모든 단어의 키와 값을 기억합니다. 필요한 행만 옮깁니다.
الذاكرة تحفظ مفاتيح وقيم كل كلمة قرأها النموذج حتى الآن.
הזיכרון שומר את המפתחות והערכים של כל מילה שהמודל קרא.
मॉडल ने जो भी शब्द पढ़े हैं, उन सबकी कुंजियाँ और मान स्मृति में रहते हैं।
หน่วยความจำเก็บคีย์และค่าของทุกคำที่แบบจำลองอ่านแล้ว
Smile 😀, thumbs 👍🏽, family 👨‍👩‍👧, flag 🇩🇪, heart ❤️ and a rocket 🚀!
""".strip().split("\n")

# ------------------------------------------------------------------------------------------------
# Texts with stored expectations.

def texts(specials):
    plain = [
        "", " ", "  ", "a", " a", "  a", "a ", "Hello world", " Hello  world ", "    four spaces",
        "\n", "\n\n", "a\nb", "a\r\nb\r\n", "\t", "\ta\t\tb", "a \n b", "line \n\n\n line", " \n ",
        "trailing  \n", "x\u00a0y\u2003z\u3000w\u2028v\u0085u", "0", "12", "123", "1234", "12345678",
        "3.14 1,000,000 x2 2x ½ Ⅷ ١٢٣ ೩", "I'm you're he's I've I'll she'd don't",
        "I'M YOU'RE HE'S I'VE I'LL SHE'D DON'T don'T 'Ll 'S's''s 'ſ", "it\u2019s", "'", "''", "'x",
        "é e\u0301 \u00c5 A\u030a \u212b ñ n\u0303 ạ̈ a\u0308\u0323 a\u0323\u0308",
        "\u1e9b\u0323 \u0344 \u0958 \u2126 \uac00 \u1100\u1161 \u1100\u1161\u11a8 \ufb01",
        "记忆保存着 記憶は 기억", "日本語とEnglishのmix、句読点。", "😀 👍🏽 👨‍👩‍👧 🇩🇪 ❤️ 🏴\U000e0067\U000e0062\U000e007f",
        "الذاكرة تحفظ", "शब्द पढ़े कुंजियाँ", "หน่วยความจำ", "Größe ǅ ſ İ ß", "a\u0000b\u0001c\u007f\u0080",
        "\ufeffBOM", "\u200b\u200d\u202e", "\ufffd", "\U0010ffff\U000f0000\ue000", "\U00016ea0 \U00010940",
        "▁", "▁▁ ▁a", "a▁b", "Ġ Ċ", "<0x41> <0x0A> <0xC3><0xA9>", "a" * 300, " " * 300, "\n" * 50,
        "ab" * 150, "1" * 50, "!?" * 40, "for i in range(10):\n    print(i)  # x\n",
        "https://example.org/a_b?c=d&e=%20f", "f(x) = {a: [1, 2], 'b': \"c\"}", "--- ... ;;; \\\\",
        "snake_case camelCase SCREAMING kebab-case", "тест Τεστ test", "q\u0308\u0301", "\u0301",
        "\u0301a", "e\u0301\u0301", "x" + "\u0323\u0301" * 5,
    ]
    for token in specials:
        plain += [token, f"a{token}b", f" {token} ", f"a  {token}  b", f"{token}{token}x", f"\n{token}\n",
                  token[:-1], f"{token} {specials[0]}é", f"é{token}\u0301"]
    return plain

# ------------------------------------------------------------------------------------------------
# Random texts: the same in RandomTexts of TokenizerFixtures.swift.

MASK = (1 << 64) - 1

class Dice:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % limit

# First and last scalar of the ranges that random texts are drawn from.
RANGES = [
    (0x20, 0x7E), (0x61, 0x7A), (0x20, 0x20), (0x00, 0xFF), (0x09, 0x0D), (0x30, 0x39),
    (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
    (0xE00, 0xFFF), (0x1100, 0x11FF), (0x1E00, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x12FFF), (0x16000, 0x16FFF),
    (0x1D000, 0x1DFFF), (0x1F000, 0x1FAFF), (0x20000, 0x323AF), (0xE0000, 0x10FFFF),
]

def random_text(seed):
    """1 to 40 scalars in runs from one range each."""
    dice = Dice(seed)
    length = 1 + dice.below(40)
    text = ""
    while len(text) < length:
        first, last = RANGES[dice.below(len(RANGES))]
        for _ in range(1 + dice.below(6)):
            text += chr(first + dice.below(last - first + 1))
    return text

def checksum(numbers):
    """FNV-1a of 64 bits, over whole numbers in the place of bytes."""
    state = 0xCBF29CE484222325
    for number in numbers:
        state = ((state ^ number) * 0x100000001B3) & MASK
    return state

# ------------------------------------------------------------------------------------------------
# The layouts.

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

def byte_level(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
    ])

def train(tokenizer, size, alphabet, tokens=()):
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=list(tokens), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)

def special(content, **options):
    return AddedToken(content, special=True, normalized=False, **options)

def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = byte_level(LLAMA3)
    train(tokenizer, 900, pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens([special(t) for t in [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]])
    tokenizer.decoder = decoders.ByteLevel()
    begin = "<|begin_of_text|>"
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
            special_tokens=[(begin, tokenizer.token_to_id(begin))]),
    ])
    return tokenizer, {"bos_token": begin, "eos_token": "<|eot_id|>",
                       "model_max_length": 1000000000000000019884624838656}

def qwen2():
    tokenizer = Tokenizer(models.BPE(fuse_unk=False, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = byte_level(QWEN2)
    train(tokenizer, 800, pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens([special(t) for t in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ["<tool_call>", "<think>"]])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"bos_token": None, "eos_token": "<|im_end|>", "add_bos_token": False}

def sentencepiece_vocabulary(size, specials):
    """A vocabulary with specials, bytes, then pieces; merges as pairs of pieces."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    train(trained, size, [])
    model = json.loads(trained.to_str())["model"]
    tokens = specials + [f"<0x{byte:02X}>" for byte in range(256)]
    merged = ["".join(pair) for pair in model["merges"]]
    pieces = merged + [t for t in model["vocab"] if t not in set(merged)]
    # Rare characters stay out, so that bytes have something to do.
    pieces = [p for p in pieces if not any(ord(c) > 0x0900 and c not in "▁记忆键值" for c in p)]
    vocabulary = {}
    for token in tokens + pieces:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(p) for p in model["merges"] if p[0] in vocabulary and p[1] in vocabulary
              and "".join(p) in vocabulary]
    return vocabulary, merges

SPIECE_DECODER = lambda: decoders.Sequence([
    decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])

def template(tokenizer, begin):
    return processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
        special_tokens=[(begin, tokenizer.token_to_id(begin))])

def llama2():
    vocabulary, merges = sentencepiece_vocabulary(700, ["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([special(t) for t in ["<unk>", "<s>", "</s>"]])
    tokenizer.decoder = SPIECE_DECODER()
    tokenizer.post_processor = template(tokenizer, "<s>")
    return tokenizer, {"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>",
                       "add_bos_token": True, "add_eos_token": False}

def mistral():
    vocabulary, merges = sentencepiece_vocabulary(700, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True,
                                     ignore_merges=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.add_special_tokens([special(t) for t in ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]])
    tokenizer.decoder = SPIECE_DECODER()
    tokenizer.post_processor = template(tokenizer, "<s>")
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": False}

def phi3():
    vocabulary, merges = sentencepiece_vocabulary(600, ["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([special("<unk>"), special("<s>")])
    tokenizer.add_tokens([AddedToken("</s>", special=False, normalized=False, rstrip=True)])
    tokenizer.add_special_tokens([special("<|endoftext|>")] + [
        special(t, rstrip=True) for t in ["<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]])
    tokenizer.decoder = SPIECE_DECODER()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    return tokenizer, {"bos_token": "<s>", "eos_token": "<|endoftext|>", "add_bos_token": False,
                       "add_eos_token": False}

def gpt2():
    """GPT-2, plus one added token with each option."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    train(tokenizer, 500, pre_tokenizers.ByteLevel.alphabet(), ["<|endoftext|>"])
    tokenizer.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=True),
        AddedToken("word", single_word=True, normalized=True), AddedToken("words", normalized=True),
        AddedToken("<both>", lstrip=True, rstrip=True, special=True, normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}

LAYOUTS = {"llama3": llama3, "qwen2": qwen2, "llama2": llama2, "mistral": mistral, "phi3": phi3, "gpt2": gpt2}

def legacy(description):
    """The merges as older files have them: "a b"."""
    description["model"]["merges"] = [" ".join(pair) for pair in description["model"]["merges"]]

# ------------------------------------------------------------------------------------------------
# Tokens declared beside tokenizer.json: every file and key that may say something about ids.

def token(content, **options):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True, **options}

def typed(content, **options):
    return {"__type": "AddedToken", **token(content, **options)}

ROLES = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}

def beside(configuration=None, special_tokens_map=None, added_tokens=None, **tokenizer):
    """Files of a folder; the other arguments are members of tokenizer.json in the place of its own."""
    files = {"tokenizer_config.json": None if configuration is None else {**ROLES, **configuration},
             "special_tokens_map.json": special_tokens_map, "added_tokens.json": added_tokens}
    return {name: value for name, value in files.items() if value is not None}, tokenizer

def numbered(**tokens):
    return {"added_tokens_decoder": {key[1:]: value for key, value in tokens.items()}}

PADDING = {"strategy": {"Fixed": 20}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
           "pad_type_id": 0, "pad_token": "[PAD]"}
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}

DECLARATIONS = {
    "nothing": beside(),
    "numbered: a new token": beside(numbered(_262=token("<new>"))),
    "numbered: not special": beside(numbered(_262=token("<new>", special=False))),
    "numbered: normalized": beside(numbered(_262=token("<new>", special=False, normalized=True))),
    "numbered: two, out of order": beside(numbered(_263=token("<n2>"), _262=token("<new>", lstrip=True))),
    "numbered: other options": beside(numbered(_261=token("<turn>", rstrip=True))),
    "numbered: a word of its own": beside(numbered(_261=token("<turn>", lstrip=True, single_word=True))),
    "numbered: no longer special": beside(numbered(_261=token("<turn>", special=False))),
    "numbered: of the vocabulary": beside(numbered(_257=token("the", single_word=True))),
    "numbered: options left out": beside(numbered(_262={"content": "<new>"})),
    "numbered: a role makes it special": beside({**numbered(_262={"content": "<new>"}), "pad_token": "<new>"}),
    "role: a new token": beside({"pad_token": "<pad>"}),
    "role: with options": beside({"pad_token": typed("<pad>", lstrip=True)}),
    "role: of the vocabulary": beside({"pad_token": "the"}),
    "role: two of one token": beside({"eos_token": "<end>", "pad_token": "<end>"}),
    "role: the standard ones": beside({"mask_token": typed("<mask>", lstrip=True), "unk_token": "<unk>",
                                       "cls_token": "<cls>", "sep_token": "<sep>", "pad_token": "<pad>"}),
    "role: one of the model": beside({"image_token": "<img>", "audio_token": typed("<aud>", rstrip=True)}),
    "role: an object of them": beside({"model_specific_special_tokens": {"image_token": "<img>"}}),
    "list: additional_special_tokens": beside({"additional_special_tokens": ["<new>", "<turn>", "<n2>"]}),
    "list: extra_special_tokens": beside({"extra_special_tokens": ["<new>", "<n2>"]}),
    "list: with options": beside({"extra_special_tokens": [typed("<new>", rstrip=True)]}),
    "list: an object": beside({"extra_special_tokens": {"image_token": "<img>", "boi_token": "<boi>"}}),
    "list: an object and the older list": beside({"extra_special_tokens": {"image_token": "<img>"},
                                                  "additional_special_tokens": ["<n2>"]}),
    "list: both": beside({"extra_special_tokens": ["<new>"], "additional_special_tokens": ["<n2>"]}),
    "older: special_tokens_map.json alone": beside(None, {"bos_token": "<s>", "pad_token": "<pad>",
                                                          "additional_special_tokens": ["<new>"]}),
    "older: it overrules": beside({"pad_token": "<p1>"}, {"pad_token": token("<pad>", lstrip=True)}),
    "older: a list more": beside({"extra_special_tokens": ["<new>"]},
                                 {"extra_special_tokens": ["<n2>", {"content": "<img>", "rstrip": True}]}),
    "older: not read": beside(numbered(_262=token("<new>")), {"pad_token": "<pad>"}, {"<n2>": 262}),
    "older: added_tokens.json": beside({}, None, {"<new>": 262, "<n2>": 263}),
    "older: its special ones": beside({"pad_token": "<new>", "additional_special_tokens": ["<n2>"]}, None,
                                      {"<new>": 262, "<n2>": 263, "<turn>": 261}),
    "setting: special tokens are text": beside({"split_special_tokens": True,
                                                **numbered(_262=token("<new>", special=False))}),
    "setting: without effect": beside({"clean_up_tokenization_spaces": True, "add_prefix_space": True,
                                       "add_bos_token": False, "add_eos_token": True, "legacy": True}),
    "tokenizer.json: truncation": beside({}, truncation=TRUNCATION),
    "tokenizer.json: padding": beside({}, padding=PADDING),
    "tokenizer.json: padding, but no such token": beside({"pad_token": None}, padding=PADDING),
}

def declared_texts():
    names = ["<new>", "<n2>", "<turn>", "<s>", "</s>", "<pad>", "<p1>", "<img>", "<boi>", "<aud>", "<end>",
             "<mask>", "<sep>", "<unk>", "[PAD]", "the"]
    return ["on the way", "Hello, world !  It 's", "".join(f"a{name} b  {name}\n" for name in names)]

def declarations():
    from transformers import AutoTokenizer, __version__ as version

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)}
    merges = [("t", "h"), ("th", "e"), ("o", "n")]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special(t) for t in ["<s>", "</s>", "<turn>"]])
    tokenizer.post_processor = template(tokenizer, "<s>")
    description = json.loads(tokenizer.to_str())
    folder = os.path.join(FOLDER, "declarations")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, ensure_ascii=False, separators=(",", ":"))
    cases = []
    for name, (files, members) in DECLARATIONS.items():
        with tempfile.TemporaryDirectory() as folder_of_case:
            for file_name, content in {**files, "tokenizer.json": {**description, **members},
                                       "config.json": {"model_type": "llama"}}.items():
                with open(os.path.join(folder_of_case, file_name), "w", encoding="utf-8") as file:
                    json.dump(content, file, ensure_ascii=False)
            tokenizer = AutoTokenizer.from_pretrained(folder_of_case)
        ids = [tokenizer(text)["input_ids"] for text in declared_texts()]
        cases.append({
            "name": name, "files": files, "tokenizer": members, "ids": ids,
            "kept": [tokenizer.decode(i, skip_special_tokens=False) for i in ids],
            "skipped": [tokenizer.decode(i, skip_special_tokens=True) for i in ids],
            "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id})
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"library": f"transformers {version}", "texts": declared_texts(), "cases": cases},
                  file, ensure_ascii=False, separators=(",", ":"))
    print("declarations:", len(cases), "folders,", len(declared_texts()), "texts")

def main():
    for name, make in LAYOUTS.items():
        tokenizer, configuration = make()
        description = json.loads(tokenizer.to_str())
        if name in ("llama2", "gpt2"):
            legacy(description)
        folder = os.path.join(FOLDER, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            json.dump(description, file, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump(configuration, file, indent=2)
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        specials = [t.content for _, t in sorted(tokenizer.get_added_tokens_decoder().items())]

        cases = []
        for text in texts(specials):
            ids = tokenizer.encode(text).ids
            kept = tokenizer.decode(ids, skip_special_tokens=False)
            skipped = tokenizer.decode(ids)
            # Where nothing was skipped, the second text would repeat the first.
            cases.append([text, ids, kept] + ([skipped] if skipped != kept else []))
        random = []
        for seed in range(RANDOM_TEXTS):
            text = random_text(seed)
            ids = tokenizer.encode(text).ids
            decoded = tokenizer.decode(ids)
            # 48 bits are enough to tell and short to store.
            random.append((checksum(ids) ^ checksum(map(ord, decoded)) ^ checksum(map(ord, text))) >> 16)
        expected = {
            "library": f"tokenizers {__version__}", "vocabulary_size": tokenizer.get_vocab_size(),
            "without_special_tokens": tokenizer.encode("Hello world", add_special_tokens=False).ids,
            "cases": cases, "random": random,
        }
        with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
            json.dump(expected, file, ensure_ascii=False, separators=(",", ":"))
        print(name, tokenizer.get_vocab_size(), "tokens,", len(cases), "texts,", RANDOM_TEXTS, "random texts")
    declarations()

if __name__ == "__main__":
    main()
