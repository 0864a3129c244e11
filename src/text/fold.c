/*
 * fold.c - single characters brought to the form in which texts are compared: no marks, no capitals.
 *
 * The same steps as the tokenizer's, a character at a time; for features that need no vocabulary.
 */
#include "text/text_int.h"

static sri_folded_kind kind_of(uint8_t flags) {
    if ((flags & SRI_CHAR_WHITE) != 0) return SRI_FOLDED_SPACE;
    if ((flags & SRI_CHAR_IDEOGRAPH) != 0) return SRI_FOLDED_IDEOGRAPH;
    bool letter = (flags & SRI_CHAR_WORD) != 0 && (flags & SRI_CHAR_PUNCT) == 0;
    return letter ? SRI_FOLDED_LETTER : SRI_FOLDED_SYMBOL;
}

/* Appends a character of decomposed text to out[count ..]; returns the new count. */
static size_t fold_part(uint32_t c, sri_folded *out, size_t count) {
    uint8_t flags = sri_char_record(c).flags;
    if ((flags & SRI_CHAR_MARK) != 0) return count;
    uint32_t lower[2] = {c};
    size_t parts = (flags & SRI_CHAR_LOWERS) != 0 ? sri_char_lower(c, lower) : 1;
    for (size_t i = 0; i < parts; i++) {
        flags = sri_char_record(lower[i]).flags;
        if ((flags & SRI_CHAR_MARK) == 0) out[count++] = (sri_folded){lower[i], kind_of(flags)};
    }
    return count;
}

size_t sri_char_fold(uint32_t c, sri_folded out[SRI_FOLD_MAX]) {
    uint8_t flags = sri_char_record(c).flags;
    if ((flags & SRI_CHAR_WHITE) != 0) {
        out[0] = (sri_folded){c, SRI_FOLDED_SPACE};
        return 1;
    }
    if ((flags & SRI_CHAR_OTHER) != 0) return 0;
    if ((flags & SRI_CHAR_DECOMPOSES) == 0) return fold_part(c, out, 0);
    uint32_t parts[SRI_DECOMPOSITION_MAX];
    size_t count = sri_char_decompose(c, parts), folded = 0;
    for (size_t i = 0; i < count; i++) folded = fold_part(parts[i], out, folded);
    return folded;
}
