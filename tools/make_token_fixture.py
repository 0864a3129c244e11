#!/usr/bin/env python3
"""Writes tests/golden/tokens.jsonl and tokens_variants.jsonl: hard texts and the ids that the `tokenizers`
package gives them.

tokens.jsonl, one text a line, for the tokenizer of models/bge-small-en-v1.5:
  {"t": TEXT, "i": IDS}     {"x": HEX, "i": IDS}     {"p": [[TEXT, TIMES], ...], "i": IDS}
HEX are bytes that may not be UTF-8; they are decoded with errors="replace" first. In IDS a negative number
-n stands for n more of the id before it; the special tokens around are left out.

tokens_variants.jsonl, one small tokenizer a line: {"name": ..., "tokenizer": {...}, "cases": [...]}, whose
cases are as above with the special tokens. They show what one vocabulary cannot: the order of marks,
normaliser flags, prefixes of continuing pieces, kinds of added tokens.

usage: make_token_fixture.py TOKENIZER_JSON [DIRECTORY]      needs: pip install tokenizers==0.23.3
"""
import json
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer, normalizers

rng = random.Random(20240)
CODE_POINTS = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
UNIFORM = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x18CFF), (0x20000, 0x323AF),
           (0xE0200, 0x10FFFF)]  # large blocks of alike characters: a sample is enough
SPECIAL = ["[SEP]", "[CLS]", "[MASK]", "[UNK]", "[PAD]", "[sep]", "[Mask]", "[SEP", "SEP]", "[ SEP]", "[SEP ]", "[[SEP]]",
           "[S\u0301EP]", "[S\u200bEP]", "[\x00SEP]", "\uff3bSEP\uff3d", "[unused1]", "##ing", "[MASK", "[]"]
SPACING = ["", " ", "  ", "\t", "\n", "\r\n", "\u3000", "\u00a0", "\u2028", "\x0b", "\x85", "\x00", "\u200b", "a", "the", ".", "-"]


def pick(pool, low, high, glue=""):
    return glue.join(rng.choice(pool) for _ in range(rng.randint(low, high)))


def of_category(*categories):
    return [chr(cp) for cp in CODE_POINTS if unicodedata.category(chr(cp)) in categories]


def in_range(first, last):
    return [chr(cp) for cp in range(first, last + 1) if unicodedata.category(chr(cp)) != "Cn"]


def blocks():
    """Of every 16 code points (no block is smaller) some, assigned or not, alone and inside a word."""
    for start in range(0, 0x110000, 64):
        if 0xD800 <= start < 0xE000 or any(a <= start <= b and start % 2048 for a, b in UNIFORM):
            continue
        chosen = []
        for column in range(start, start + 64, 16):
            known = [cp for cp in range(column, column + 16) if unicodedata.category(chr(cp)) != "Cn"]
            chosen += rng.sample(known, min(3, len(known)))
        if not chosen and start % 4096:
            continue
        chosen.append(start + rng.randrange(64))
        text = " ".join(map(chr, chosen))
        yield text + " a" + chr(rng.choice(chosen)) + "b " + chr(rng.choice(chosen)) + "day" + chr(rng.choice(chosen))


def groups(pool, size, make):
    for i in range(0, len(pool), size):
        yield " ".join(make(c) for c in pool[i : i + size])


def marks():
    every = of_category("Mn", "Mc", "Me")
    letters = list("aeioucnAEIOUCN") + list("\u00e9\u1ec7\u0439\u0915\u0928\u05d0\u0627\uac00")
    yield from groups(every, 6, lambda c: "a" + c)
    for _ in range(500):
        yield "".join(rng.choice(letters) + pick(every[:300] if rng.random() < 0.5 else every, 0, 4) for _ in range(rng.randint(1, 6)))


def emoji():
    faces = in_range(0x1F300, 0x1F6FF) + in_range(0x1F900, 0x1FAFF) + in_range(0x2600, 0x27BF)
    people, tones = list("\U0001F468\U0001F469\U0001F467\U0001F466\U0001F9D1"), [chr(c) for c in range(0x1F3FB, 0x1F400)]
    for _ in range(200):
        family = "\u200d".join(rng.choice(people) + rng.choice([""] + tones) for _ in range(rng.randint(2, 4)))
        flag = "".join(chr(0x1F1E6 + rng.randrange(26)) for _ in range(2))
        keycap = rng.choice("0123456789#*") + "\ufe0f\u20e3"
        yield rng.choice(["thanks ", "ok", ""]) + pick([family, flag, keycap, pick(faces, 1, 3), "\u2764\ufe0f", " ", "lol"], 1, 5)


def scripts():
    hebrew, arabic = in_range(0x591, 0x5F4), in_range(0x600, 0x6FF) + in_range(0xFB50, 0xFDFB)
    words = {
        150: [hebrew, arabic],
        151: [in_range(0x1100, 0x11FF), in_range(0xAC00, 0xD7A3), in_range(0x3130, 0x318F)],
        152: [in_range(0x3040, 0x30FF), in_range(0x4E00, 0x9FFF), in_range(0xF900, 0xFAD9), in_range(0x20000, 0x2A6DF)],
        153: [in_range(0x370, 0x3FF), in_range(0x1F00, 0x1FFE), in_range(0x400, 0x52F)],
        154: [in_range(0x900, 0xDFF), in_range(0xE00, 0xFFF)],
        100: [in_range(0x1D400, 0x1D7FF), in_range(0xFF00, 0xFFEE), in_range(0x2100, 0x218B)],
    }
    for count, pools in words.items():
        for _ in range(count):
            text = pick([pick(rng.choice(pools), 1, 6) for _ in range(4)] + ["\u200f", "\u202e", "a"], 1, 5, rng.choice([" ", "", ", "]))
            yield text


def controls():
    odd = of_category("Cc", "Cf", "Zs", "Zl", "Zp", "Co")[:260] + [chr(c) for c in (0xFFFD, 0xFFFE, 0xFFFF, 0xFDD0, 0x1FFFE, 0x10FFFF, 0xE0001, 0x378)]
    yield from ["", " ", "\n", "\t\r\n ", "\x00", "\ufeff", "\u3000" * 20, "\u200b", "\r", "\x7f", "\ufeffhello"]
    yield from groups(odd, 3, lambda c: f"a{c}b{c}")
    for _ in range(250):
        yield "".join(rng.choice(["play", "ing", "a", "Z", "7", "."]) + pick(odd, 0, 2) for _ in range(rng.randint(1, 8)))


def english(vocabulary):
    plain = [piece for piece in vocabulary if piece.isascii() and piece.isalpha()]
    continuing = [piece[2:] for piece in vocabulary if piece.startswith("##") and piece.isascii()]
    signs = list("'\"-_/\\.,:;!?@#$%^&*()[]{}<>|~`+=") + ["...", "://", "'s", "n't", "'re", " - ", "$1,000.50", "50%", "3rd", "\u2019s"]
    for _ in range(700):
        parts = []
        for _ in range(rng.randint(1, 7)):
            word = rng.choice(plain) + pick(continuing, 0, rng.choice([0, 0, 1, 2, 5]))
            parts.append(rng.choice([word, word.upper(), word.title(), word[: rng.randint(1, 9)], str(rng.randrange(10**7))]))
            parts.append(rng.choice([" ", " ", "  ", rng.choice(signs)]))
        yield "".join(parts)
    for _ in range(150):  # letters that no piece was made for
        yield pick([pick("qzxjkvwybgh", 1, 14), pick("aeiou", 1, 4), pick("0123456789", 1, 12)], 1, 6, rng.choice([" ", ""]))


def special():
    for token in SPECIAL:
        for spacing in SPACING[:12]:
            yield spacing + token + spacing
    for _ in range(350):
        yield "".join(rng.choice(SPACING) + rng.choice(SPECIAL) for _ in range(rng.randint(1, 6))) + rng.choice(SPACING)


def mixed():
    pools = [list("abcdefgh ABC.,"), list("abcdefgh ABC.,"), [chr(c) for c in range(0x80, 0x2000)], [chr(c) for c in CODE_POINTS]]
    for _ in range(600):
        yield "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 24)))


def broken():
    """Bytes that are not UTF-8, among bytes that are."""
    yield from [b"\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff", b"abc\xe2\x82",
                b"\xe2\x82abc", b"\xf0\x9f\x98", b"a\xf0\x9fb", b"\xf0\x9f\x98\x80\x80", b"[SE\xffP]", b"[SEP\xe2", b"\xc3[SEP]", b"caf\xc3 \xa9"]
    alphabet = [b"a", b"B", b" ", b".", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xe4\xb8\xad", b"[SEP]"]
    pieces = [bytes([b]) for b in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF)]
    for _ in range(500):
        yield b"".join(rng.choice(alphabet if rng.random() < 0.5 else pieces) for _ in range(rng.randint(1, 12)))
    for _ in range(100):
        whole = "".join(rng.choice("a\u00e9\u20ac\U0001F600\u4e2d \u0130") for _ in range(8)).encode()
        cut = rng.randrange(len(whole))
        yield whole[:cut] + whole[cut + 1 :]


def long_ones():
    yield [["a", 100000]]
    yield [["a", 100000], [" word", 1]]
    yield [["word ", 1], ["\u00e9", 100000], [".", 1], ["x", 1]]
    yield [["\u0301", 100000], ["a", 1]]
    yield [["a", 1], ["\u0301", 100000], ["b", 1]]
    yield [[" ", 100000]]
    yield [["\n\t", 50000], ["end", 1]]
    yield [["\u4e2d", 300]]
    yield [["[SEP]", 300]]
    yield [["the cat. ", 400]]
    yield [["un", 1], ["\u200b", 50000], ["believable", 1]]
    yield [["\u302e", 100000], [" b", 1]]
    for n in (98, 99, 100, 101, 102):
        for c in ("a", "\u00e9", "\uac00", "\u0130", "e\u0301", "1", "\U0001D165"):
            yield [[c, n], [" b", 1]]
            yield [["x", 1], [c, n - 1]]
    for n in (33, 34, 49, 50, 51):
        yield [["\uac01", n], ["y", 1]]


def shorten(ids):
    out = []
    for token in ids:
        if out and out[-1] < 0 and out[-2] == token:
            out[-1] -= 1
        elif len(out) > 1 and out[-1] == token and out[-2] == token:
            out[-1] = -2  # the third
        else:
            out.append(token)
    return out


def dump(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # What editors and git might take for line ends or choke on is escaped.
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp", "Zs", "Cn", "Co") or c == " "
                   else json.dumps(c)[1:-1] for c in text)


def write_tokens(tokenizer, path):
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=False))
    lower, nfd = (normalizers.BertNormalizer(False, False, False, True), normalizers.NFD())
    lowers = [chr(cp) for cp in CODE_POINTS if lower.normalize_str(chr(cp)) != chr(cp)]
    composed = [chr(cp) for cp in CODE_POINTS if nfd.normalize_str(chr(cp)) != chr(cp) and not 0xAC00 <= cp < 0xD7A4]
    texts = []
    for source in (blocks(), groups(composed, 4, lambda c: f"a{c}e {c}"), groups(lowers, 4, lambda c: f"{c} x{c}"), marks(), emoji(),
                   scripts(), controls(), english(vocabulary), special(), mixed()):
        texts += [({"t": text}, text) for text in source]
    texts += [({"x": data.hex()}, data.decode("utf-8", errors="replace")) for data in broken()]
    texts += [({"p": parts}, "".join(text * times for text, times in parts)) for parts in long_ones()]
    encodings = tokenizer.encode_batch([text for _, text in texts], add_special_tokens=False)
    lines = {dump({**entry, "i": shorten(encoding.ids)}): None for (entry, _), encoding in zip(texts, encodings)}
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{path}: {len(lines)} texts, {path.stat().st_size} bytes")


# ---- Variants ----------------------------------------------------------------------------------------

MARKS = "\u302e\u302f\U0001D165\U0001D16D\U0001D170\u0c3c\u0898\u1715\u07fd\U00016FF0\u09fe"  # left by strip_accents, of several classes
REMOVED = "\u0301\u0323\u0334\u0345\u093e\u0e31\u0941"  # removed marks, starters (the last ones) among them
LETTERS = "abefopiAEOI\u00e9\u00c9\u00e5\u0130\u0307\u4e2d\uf900\u8c48\u1100\u1161\u11a8\u1fef`K\u212a\x0b\x85\u200b\ufffd"
PUNCTUATION = ".,-[]#@$\u3002"


def base():
    vocabulary = {}
    for piece in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *MARKS, *REMOVED, *PUNCTUATION]:
        vocabulary.setdefault(piece, len(vocabulary))
    for piece in [*LETTERS, *MARKS, *REMOVED, "foo", "bar", "abeabeabe", "abeabeabeabe", "\u00e9\u00e9\u00e9\u00e9\u00e9"]:
        vocabulary.setdefault("##" + piece, len(vocabulary))
    for piece in ["foo", "foobar", "abeabeab", "abeabeabe"]:
        vocabulary.setdefault(piece, len(vocabulary))
    special = {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(vocabulary[name], name, special=True) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 20,
                  "vocab": vocabulary},
    }


def added(number, content, **flags):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **flags}


def variants():
    for clean in (True, False):
        for ideographs in (True, False):
            for strip, lower in ((None, True), (None, False), (True, False), (False, True)):
                tokenizer = base()
                tokenizer["normalizer"].update(clean_text=clean, handle_chinese_chars=ideographs, strip_accents=strip, lowercase=lower)
                yield f"clean {clean} ideographs {ideographs} strip {strip} lower {lower}", tokenizer
    for prefix in ("", "@@", "a"):
        tokenizer = base()
        pieces = [prefix + piece[2:] if piece.startswith("##") and len(piece) > 2 else piece for piece in tokenizer["model"]["vocab"]]
        tokenizer["model"].update(continuing_subword_prefix=prefix, vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))})
        for token in tokenizer["added_tokens"]:
            token["id"] = tokenizer["model"]["vocab"][token["content"]]
        yield f"prefix {prefix!r}", tokenizer
    for limit in (0, 1, 3, 1000):
        tokenizer = base()
        tokenizer["model"]["max_input_chars_per_word"] = limit
        yield f"limit {limit}", tokenizer
    for flags in ({}, {"single_word": True}, {"lstrip": True}, {"rstrip": True}, {"single_word": True, "lstrip": True, "rstrip": True}):
        tokenizer = base()
        size = len(tokenizer["model"]["vocab"])
        contents = ["foo", "foob", "oba", "\u4e2d", "\u00e9a", "<x>"]
        for content in contents:
            known = tokenizer["model"]["vocab"].get(content)
            tokenizer["added_tokens"].append(added(size if known is None else known, content, **flags))
            size += known is None
        yield f"added {flags}", tokenizer
    for name, processor in (("none", None), ("bert", {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})):
        yield f"post_processor {name}", {**base(), "post_processor": processor}
    for keep in (slice(0, 2), slice(1, 3), slice(1, 2)):
        tokenizer = base()
        tokenizer["post_processor"]["single"] = tokenizer["post_processor"]["single"][keep]
        yield f"template {keep}", tokenizer


def variant_texts():
    parts = [*LETTERS, *MARKS, *MARKS, *REMOVED, *PUNCTUATION, *"ab  ", "\u0344", "\uac01", "\u2000", "\t", "\x00", "foo", "foobar",
             "abeabeabe", "abeabeabeabe", "[SEP]", "[MASK]", "<x>", "\u00e9a", "oba", "FOO", "\u0f77"]
    for _ in range(70):
        yield pick(parts, 1, 10)
    for _ in range(30):
        yield "a" + pick([*MARKS, *REMOVED], 2, 9) + rng.choice(["", "b"])


def write_variants(path):
    lines = []
    for name, tokenizer in variants():
        texts = list(variant_texts())
        oracle = Tokenizer.from_str(json.dumps(tokenizer))
        cases = [{"t": text, "i": shorten(encoding.ids)} for text, encoding in zip(texts, oracle.encode_batch(texts))]
        lines.append(dump({"name": name, "tokenizer": tokenizer, "cases": cases}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{path}: {len(lines)} tokenizers, {path.stat().st_size} bytes")


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    tokenizer = Tokenizer.from_file(sys.argv[1])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    default = Path(__file__).resolve().parent.parent / "tests/golden"
    directory = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    write_tokens(tokenizer, directory / "tokens.jsonl")
    write_variants(directory / "tokens_variants.jsonl")


if __name__ == "__main__":
    main()
