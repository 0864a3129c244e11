#!/usr/bin/env python3
"""Writes src/text/unicode_tables.c: what the tokenizer must know of every code point.

The tables are not taken from any version of Unicode. The `tokenizers` package (the oracle) mixes several:
its categories, its decomposition and its case mapping each follow another one. So this script asks the
package itself, code point by code point, and checks what the C code relies on:

  other      removed by clean_text                 white   splits words
  punct      a word of its own                     ideograph   set apart by handle_chinese_chars
  mark       removed by strip_accents              word    forbids a single_word token beside it
  decomposes, lowers   has an entry in one of the maps
  rank       place of its canonical combining class among all classes in use, 0 for starters

usage: make_tokenizer_tables.py [OUTPUT]      needs: pip install tokenizers==0.23.3
"""
import sys
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

OTHER, WHITE, PUNCT, IDEOGRAPH, MARK, WORD, DECOMPOSES, LOWERS = (1 << i for i in range(8))
PAGE = 64
HANGUL = range(0xAC00, 0xD7A4)
CODE_POINTS = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]  # surrogates never occur in text


def bert(**chosen):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**options, **chosen}).normalize_str


def one_of(value, choices, cp, what):
    """The index of `value` in `choices`; anything else is behaviour that the C code does not know."""
    if value not in choices:
        raise SystemExit(f"U+{cp:04X}: {what} gives {value!r}, which this script does not understand")
    return choices.index(value)


def probe_flags():
    clean, ideographs = bert(clean_text=True), bert(handle_chinese_chars=True)
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    flags = {}
    for cp in CODE_POINTS:
        c = chr(cp)
        cleaned = one_of(clean(f"a{c}b"), [f"a{c}b", "ab", "a b"], cp, "clean_text") if c != " " else 2
        apart = one_of(ideographs(c), [c, f" {c} "], cp, "handle_chinese_chars")
        pieces = [piece for piece, _ in split(f"a{c}b")]
        kind = one_of(pieces, [[f"a{c}b"], ["a", "b"], ["a", c, "b"]], cp, "BertPreTokenizer")
        if cleaned == 2 and kind != 1 or cleaned == 0 and kind == 1:
            raise SystemExit(f"U+{cp:04X}: clean_text and BertPreTokenizer differ on white space")
        flags[cp] = (OTHER * (cleaned == 1) | WHITE * (kind == 1) | PUNCT * (kind == 2) | IDEOGRAPH * apart)
    return flags


def probe_words(flags):
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("zz", single_word=True, normalized=False)])
    before = tokenizer.encode_batch([f"{chr(cp)}zz" for cp in CODE_POINTS])
    after = tokenizer.encode_batch([f"zz{chr(cp)}" for cp in CODE_POINTS])
    for cp, left, right in zip(CODE_POINTS, before, after):
        if (1 in left.ids) != (1 in right.ids):
            raise SystemExit(f"U+{cp:04X}: single_word differs before and after a token")
        if 1 not in left.ids:
            flags[cp] |= WORD


def probe_ranks(nfd):
    """rank of each non-starter, found from how pairs of characters are reordered."""
    low, high = "\u0334", "\u0345"  # classes 1 and 240: each other non-starter moves past one of them
    movers = [c for c in map(chr, CODE_POINTS) if nfd(c) == c and (nfd(high + c) == c + high or nfd(c + low) == low + c)]
    if low not in movers or high not in movers:
        raise SystemExit("U+0334 or U+0345 is no longer reordered: choose other anchors")
    classes = []  # one character of each class, in ascending order
    for c in movers:
        below = sum(nfd(c + other) == other + c for other in classes)
        above = sum(nfd(other + c) == c + other for other in classes)
        if below + above == len(classes):
            classes.insert(below, c)
    ranks = {c: 1 + sum(nfd(c + other) != c + other for other in classes) for c in movers}
    for c in movers:
        for other in classes:
            if (nfd(c + other) != c + other) != (ranks[c] > ranks[other]):
                raise SystemExit(f"U+{ord(c):04X} and U+{ord(other):04X}: no rank explains their order")
    return {ord(c): rank for c, rank in ranks.items()}


def probe_decompositions(nfd, flags, ranks):
    """NFD without the removed marks that are not starters: those change nothing that is left."""
    strip = bert(strip_accents=True)
    result = {}
    for cp in CODE_POINTS:
        c = chr(cp)
        whole = nfd(c)
        if whole == c:
            if strip(c) == "":
                flags[cp] |= MARK
            elif strip(c) != c:
                raise SystemExit(f"U+{cp:04X}: strip_accents changes what NFD does not")
            continue
        result[cp] = whole
    for cp, whole in list(result.items()):
        kept = "".join(c for c in whole if not flags[ord(c)] & MARK)
        if strip(chr(cp)) != kept:
            raise SystemExit(f"U+{cp:04X}: strip_accents is not NFD without marks")
        result[cp] = "".join(c for c in whole if not flags[ord(c)] & MARK or ord(c) not in ranks)
        if len(result[cp]) > 4:
            raise SystemExit(f"U+{cp:04X}: longer than SRI_DECOMPOSITION_MAX")
        if cp in HANGUL:
            s = cp - 0xAC00
            jamo = [0x1100 + s // 588, 0x1161 + s % 588 // 28] + [0x11A7 + s % 28] * (s % 28 > 0)
            if result.pop(cp) != "".join(map(chr, jamo)):
                raise SystemExit(f"U+{cp:04X}: not the algorithmic decomposition of Hangul")
        flags[cp] |= DECOMPOSES
    return result


def probe_lowercase(flags):
    lower = bert(lowercase=True)
    result = {}
    for cp in CODE_POINTS:
        small = lower(chr(cp))
        if small == chr(cp):
            continue
        flags[cp] |= LOWERS
        if len(small) == 1:
            result[cp] = ord(small) - cp
        elif (cp, small) != (0x130, "i\u0307"):
            raise SystemExit(f"U+{cp:04X}: lower case of {len(small)} characters is unknown to the C code")
    ranges = []  # first, last, step, delta
    for cp, delta in result.items():
        last = ranges[-1] if ranges else None
        if last and last[3] == delta and cp - last[1] == last[2]:
            last[1] = cp
        elif last and last[3] == delta and last[0] == last[1] and cp - last[1] == 2:
            last[1:3] = cp, 2
        else:
            ranges.append([cp, cp, 1, delta])
    return ranges


def check_assumptions(flags, ranks):
    for cp in ranks:
        if flags[cp] & (WHITE | PUNCT | LOWERS | IDEOGRAPH):
            raise SystemExit(f"U+{cp:04X}: a reordered mark that splits words or has a lower case")
    if len(set(ranks.values())) > 255:
        raise SystemExit("more than 255 combining classes")


def lines(numbers):
    """Comma-separated numbers, at most 100 columns a line."""
    out, line = [], ""
    for number in map(str, numbers):
        if len(line) + len(number) + 1 > 100:
            out.append(line)
            line = ""
        line += number + ","
    return "\n".join(out + [line])


def array(kind, name, numbers):
    return f"const {kind} {name}[{len(numbers)}] = {{\n{lines(numbers)}\n}};\n"


def main():
    nfd = normalizers.NFD().normalize_str
    flags = probe_flags()
    probe_words(flags)
    ranks = probe_ranks(nfd)
    decompositions = probe_decompositions(nfd, flags, ranks)
    lower = probe_lowercase(flags)
    check_assumptions(flags, ranks)

    # Removed non-starters need no order among each other, so all of them share one record.
    def record(cp):
        rank = ranks.get(cp, 0)
        return flags[cp], 1 if rank and flags[cp] & MARK else rank

    every = [record(cp) if cp in flags else (0, 0) for cp in range(0x110000)]
    records = sorted(set(every))
    assert len(records) <= 256
    number = {value: i for i, value in enumerate(records)}
    pages, index = {}, []
    for start in range(0, 0x110000, PAGE):
        page = tuple(number[value] for value in every[start : start + PAGE])
        index.append(pages.setdefault(page, len(pages)))
    assert len(pages) <= 256 * 256
    # The index itself repeats: a second stage of blocks of 64 pages.
    blocks, top = {}, []
    for start in range(0, len(index), 64):
        block = tuple(index[start : start + 64])
        top.append(blocks.setdefault(block, len(blocks)))

    pool, offsets, pooled = [], [], {}
    for text in decompositions.values():
        if text not in pooled:
            pooled[text] = len(pool)
            pool += [len(text), *map(ord, text)]
        offsets.append(pooled[text])

    text = f"""/* clang-format off */
/*
 * unicode_tables.c - what the tokenizer knows of every code point.
 * Written by tools/make_tokenizer_tables.py from the behaviour of tokenizers {tokenizers.__version__}; do not edit.
 *
 * Properties stand in a table of three stages: 4,096 code points share a block of 64 pages, 64
 * share a page, whose entries number a record of flags and rank.
 */
#include "text/text_int.h"

const sri_unicode_record sri_unicode_records[{len(records)}] = {{
{lines("{%d,%d}" % value for value in records)}
}};
"""
    text += array("uint8_t", "sri_unicode_top", top)
    text += array("uint16_t", "sri_unicode_blocks", [entry for block in blocks for entry in block])
    text += array("uint8_t", "sri_unicode_pages", [entry for page in pages for entry in page])
    text += "\n/* Decompositions: sorted code points; for each the place in the pool of its length and text. */\n"
    text += f"const size_t sri_unicode_decomposition_count = {len(decompositions)};\n"
    text += array("uint32_t", "sri_unicode_decomposed", list(decompositions))
    text += array("uint16_t", "sri_unicode_decomposition_at", offsets)
    text += array("uint32_t", "sri_unicode_pool", pool)
    text += "\n/* Lower case: first, last, step, delta. */\n"
    text += f"const size_t sri_unicode_lower_count = {len(lower)};\n"
    text += f"const sri_unicode_lower_range sri_unicode_lower_ranges[{len(lower)}] = {{\n"
    text += lines("{%d,%d,%d,%d}" % tuple(each) for each in lower) + "\n};\n"

    default = Path(__file__).resolve().parent.parent / "src/text/unicode_tables.c"
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    output.write_text(text, encoding="ascii")
    print(f"{output}: {len(text)} bytes, {len(records)} records, {len(pages)} pages, {len(blocks)} blocks, "
          f"{len(decompositions)} decompositions, {len(pool)} in their pool, {len(lower)} ranges of lower case")


if __name__ == "__main__":
    main()
