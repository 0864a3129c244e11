/*
 * api_keys.h - the file of API keys: made and revoked by `synaptoroute key`, read by the server.
 *
 * A key is "sr_ID_SECRET": 48 bits that name it and 256 random bits. The file holds one JSON object a line
 * with the name, role, id, a salt of 128 bits and SHA-256(salt, key), so that who reads it learns no key. A slow hash,
 * as passwords need, was rejected: nobody can try 2^256 keys, and a server would compute it for each request.
 */
#ifndef SRI_API_KEYS_H
#define SRI_API_KEYS_H

#include "base/base.h"

#define SRI_KEY_TEXT 72 /* room for a key as text */

typedef struct sri_api_key {
    char name[65];
    char role[8]; /* "read", "write" or "admin" */
    char id[13], salt[33], hash[65];
    char created[24]; /* UTC, as 2026-01-31T12:00:00Z */
} sri_api_key;

typedef struct sri_api_keys {
    sri_api_key *keys;
    size_t count, capacity;
} sri_api_keys;

/* Reads a file of keys. A file that is not there is SR_ERR_NOT_FOUND; one that does not hold keys SR_ERR_FORMAT. On
 * failure `keys` is empty. */
SR_MUST_CHECK sr_status sri_keys_read(const char *path, sri_api_keys *keys, sr_error *error);
/* Replaces the file, which keeps its owner and mode, or makes it, readable by its owner alone; all or nothing. */
SR_MUST_CHECK sr_status sri_keys_write(const char *path, const sri_api_keys *keys, sr_error *error);
void sri_keys_free(sri_api_keys *keys);

/* Adds a key and writes it to `text`, which is the only time that it is known. SR_ERR_INVALID when the name is taken
 * or no name (1 to 64 letters, digits, '.', '-' or '_'), or the role is none. */
SR_MUST_CHECK sr_status sri_keys_create(sri_api_keys *keys, const char *name, const char *role,
                                        char text[SRI_KEY_TEXT], sr_error *error);
/* SR_ERR_NOT_FOUND when there is no key of that name. */
SR_MUST_CHECK sr_status sri_keys_revoke(sri_api_keys *keys, const char *name, sr_error *error);

/* The key that `text` is, or NULL. The time does not tell how much of a secret was right. */
const sri_api_key *sri_keys_check(const sri_api_keys *keys, const char *text);

#endif
