/*
 * speller.c - mends words that are misspelt beside those of a route table.
 *
 * A word piece tokenizer breaks a misspelt word into pieces that mean something else, and neither vectors nor heads
 * make up for it; the words that matter to a table are in the table. So a word that nobody knows is
 * compared with the table's own. They are walked in order: with the set of letters of each as a mask, all but
 * a few drop out by one XOR and a count of bits, so that some thousand words take microseconds, and only for
 * words that are unknown. An index by deletions was rejected: it is tenfold the memory to
 * speed up what is rare. Two edits were rejected: they change more words that are right.
 */
#include "decide/speller.h"

#include <string.h>

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* What a word may not touch. */
static bool clings(char c) {
    return (unsigned char)c >= 0x80 || (c >= '0' && c <= '9') || c == '\'' || c == '_';
}

static uint32_t mask_of(const char *word, size_t len) {
    uint32_t mask = 0;
    for (size_t i = 0; i < len; i++) mask |= 1u << (word[i] - 'a');
    return mask;
}

/* The next run of letters at or behind `*at`; it is not to be touched when `*whole` is false. */
static bool next_word(sr_str text, size_t *at, sr_str *word, bool *whole) {
    size_t begin = *at;
    while (begin < text.len && !letter(text.data[begin])) begin++;
    size_t end = begin;
    while (end < text.len && letter(text.data[end])) end++;
    *at = end;
    *word = (sr_str){text.data + begin, end - begin};
    *whole = (begin == 0 || !clings(text.data[begin - 1])) &&
             (end == text.len || !clings(text.data[end]));
    return end > begin;
}

/* ---- Learning ----------------------------------------------------------------------------------------------- */

typedef struct learning {
    sri_speller *speller;
    size_t letter_capacity, word_capacity;
    sri_map places; /* of words by their bytes in the texts */
} learning;

static bool add_word(sri_speller *speller, const char *word, size_t len, learning *l) {
    void *letters = speller->letters, *words = speller->words;
    bool enough = speller->letter_count + len <= UINT32_MAX &&
                  sri_grow(&letters, &l->letter_capacity, speller->letter_count + len, 1);
    speller->letters = letters;
    enough =
        enough && sri_grow(&words, &l->word_capacity, speller->count + 1, sizeof *speller->words);
    speller->words = words;
    if (!enough) return false;
    memcpy(speller->letters + speller->letter_count, word, len);
    speller->words[speller->count++] = (sri_speller_word){
        .start = (uint32_t)speller->letter_count, .count = 1, .len = (uint32_t)len};
    speller->letter_count += len;
    return true;
}

/* Words seen so far are found by their bytes in the texts, which outlive the learning; so a word that comes in
 * several cases is entered once for each, and counted together in the end. */
static bool learn_word(learning *l, sr_str word) {
    uint64_t place;
    if (sri_map_get(&l->places, word, &place)) {
        l->speller->words[place].count++;
        return true;
    }
    char low[SRI_SPELLER_MAX];
    for (size_t i = 0; i < word.len; i++) low[i] = lower(word.data[i]);
    return sri_map_put(&l->places, word, l->speller->count) &&
           add_word(l->speller, low, word.len, l);
}

static bool learn_text(learning *l, sr_str text) {
    size_t at = 0;
    sr_str word;
    bool whole;
    while (next_word(text, &at, &word, &whole)) {
        if (word.len < SRI_SPELLER_MIN || word.len > SRI_SPELLER_MAX) continue;
        if (!learn_word(l, word)) return false;
    }
    return true;
}

bool sri_speller_learn(const sr_str *texts, size_t n, sri_speller *speller) {
    *speller = (sri_speller){0};
    learning l = {.speller = speller};
    bool enough = true;
    for (size_t i = 0; i < n && enough; i++) enough = learn_text(&l, texts[i]);
    sri_map_free(&l.places);
    enough = enough && sri_speller_index(speller);
    if (!enough) sri_speller_free(speller);
    return enough;
}

/* Keeps the first of equal words, with the count of all. */
static bool enter(sri_speller *speller, sri_speller_word word, size_t *kept) {
    sr_str key = {speller->letters + word.start, word.len};
    uint64_t place;
    if (sri_map_get(&speller->places, key, &place)) {
        speller->words[place].count += word.count;
        return true;
    }
    speller->words[*kept] = word;
    return sri_map_put(&speller->places, key, (*kept)++);
}

bool sri_speller_index(sri_speller *speller) {
    if (speller->places.count > 0) sri_map_free(&speller->places); /* room without any is kept */
    if (!sri_map_reserve(&speller->places, speller->count)) return false;
    size_t start = 0, kept = 0;
    for (size_t i = 0; i < speller->count; i++) {
        sri_speller_word word = speller->words[i];
        if (word.len < SRI_SPELLER_MIN || word.len > SRI_SPELLER_MAX ||
            word.len > speller->letter_count - start)
            return false;
        for (size_t c = start; c < start + word.len; c++)
            if (speller->letters[c] < 'a' || speller->letters[c] > 'z') return false;
        word.start = (uint32_t)start;
        word.letters = mask_of(speller->letters + start, word.len);
        start += word.len;
        if (!enter(speller, word, &kept)) return false;
    }
    speller->count = kept;
    return start == speller->letter_count;
}

void sri_speller_free(sri_speller *speller) {
    sri_free(speller->letters);
    sri_free(speller->words);
    sri_map_free(&speller->places);
    *speller = (sri_speller){0};
}

/* ---- Mending ------------------------------------------------------------------------------------------------ */

/* Whether one edit makes b of a: the first difference is skipped over, and what follows must be equal. */
static bool one_edit(const char *a, size_t a_len, const char *b, size_t b_len) {
    size_t same = 0, shorter = SRI_MIN(a_len, b_len);
    while (same < shorter && a[same] == b[same]) same++;
    const char *x = a + same, *y = b + same;
    size_t x_len = a_len - same, y_len = b_len - same;
    if (a_len == b_len + 1) return memcmp(x + 1, y, y_len) == 0;
    if (b_len == a_len + 1) return memcmp(x, y + 1, x_len) == 0;
    if (a_len != b_len || x_len == 0) return false;
    if (memcmp(x + 1, y + 1, x_len - 1) == 0) return true;
    return x_len >= 2 && x[0] == y[1] && x[1] == y[0] && memcmp(x + 2, y + 2, x_len - 2) == 0;
}

/* The most frequent word of the table at one edit; NULL when there is none. */
static const sri_speller_word *nearest(const sri_speller *speller, const char *word, size_t len) {
    const sri_speller_word *best = NULL;
    uint32_t mask = mask_of(word, len);
    for (size_t i = 0; i < speller->count; i++) {
        const sri_speller_word *other = &speller->words[i];
        if (other->len + 1 < len || other->len > len + 1 ||
            __builtin_popcount(other->letters ^ mask) > 2)
            continue;
        if (best != NULL && other->count <= best->count) continue;
        if (one_edit(word, len, speller->letters + other->start, other->len)) best = other;
    }
    return best;
}

/* What a word is to become; NULL: itself. */
static const sri_speller_word *mended_word(const sri_speller *speller, sr_str word,
                                           sri_speller_known_fn *known, void *user) {
    if (word.len < SRI_SPELLER_MIN || word.len > SRI_SPELLER_MAX) return NULL;
    char low[SRI_SPELLER_MAX];
    for (size_t i = 0; i < word.len; i++) low[i] = lower(word.data[i]);
    sr_str key = {low, word.len};
    if (sri_map_get(&speller->places, key, NULL)) return NULL;
    const sri_speller_word *found = nearest(speller, low, word.len);
    return found == NULL || known(user, key) ? NULL : found;
}

bool sri_speller_mend(const sri_speller *speller, sr_str text, sri_speller_known_fn *known,
                      void *user, sri_buffer *out, bool *mended) {
    size_t at = 0, done = 0, begin = out->len;
    sr_str word;
    bool whole;
    *mended = false;
    while (at < SRI_SPELLER_BYTES && next_word(text, &at, &word, &whole)) {
        const sri_speller_word *better = whole ? mended_word(speller, word, known, user) : NULL;
        if (better == NULL) continue;
        size_t start = (size_t)(word.data - text.data);
        *mended = true;
        if (!sri_buffer_append(out, text.data + done, start - done) ||
            !sri_buffer_append(out, speller->letters + better->start, better->len)) {
            out->len = begin;
            return false;
        }
        done = at;
    }
    if (*mended && !sri_buffer_append(out, text.data + done, text.len - done)) {
        out->len = begin;
        return false;
    }
    return true;
}
