/*
 * unicode.c - decomposition and lower case of single characters, by binary search in the generated
 * tables.
 *
 * Only characters whose flags promise an entry come here, so that the search is no cost to the
 * others.
 */
#include "text/text_int.h"

enum { HANGUL = 0xAC00, HANGUL_END = 0xD7A4, LEADS = 0x1100, VOWELS = 0x1161, TAILS = 0x11A7 };

/* Syllables are arithmetic (The Unicode Standard, 3.12); the generator has checked that the oracle
 * agrees. */
static size_t decompose_hangul(uint32_t c, uint32_t *out) {
    uint32_t syllable = c - HANGUL;
    out[0] = LEADS + syllable / 588;
    out[1] = VOWELS + syllable % 588 / 28;
    out[2] = TAILS + syllable % 28;
    return out[2] == TAILS ? 2 : 3;
}

size_t sri_char_decompose(uint32_t c, uint32_t out[SRI_DECOMPOSITION_MAX]) {
    if (c >= HANGUL && c < HANGUL_END) return decompose_hangul(c, out);
    size_t low = 0, high = sri_unicode_decomposition_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (sri_unicode_decomposed[middle] <= c)
            low = middle;
        else
            high = middle;
    }
    const uint32_t *entry = sri_unicode_pool + sri_unicode_decomposition_at[low];
    for (size_t i = 0; i < entry[0]; i++) out[i] = entry[1 + i];
    return entry[0];
}

size_t sri_char_lower(uint32_t c, uint32_t out[2]) {
    if (c == 0x130) { /* the one with two characters */
        out[0] = 'i', out[1] = 0x307;
        return 2;
    }
    size_t low = 0, high = sri_unicode_lower_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (sri_unicode_lower_ranges[middle].first <= c)
            low = middle;
        else
            high = middle;
    }
    out[0] = c + (uint32_t)sri_unicode_lower_ranges[low].delta;
    return 1;
}
