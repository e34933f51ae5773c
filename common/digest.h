/* Digests of bytes as they pass: SHA-256 and MD5 (libcrypto), XXH3-128 (xxHash).
 * A digest object is used by one thread at a time. */
#ifndef SM_COMMON_DIGEST_H
#define SM_COMMON_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef enum sm_digest_kind { SM_DIGEST_SHA256, SM_DIGEST_MD5, SM_DIGEST_XXH128 } sm_digest_kind;

#define SM_DIGEST_MAX_BYTES 32
#define SM_DIGEST_HEX_CAP (2 * SM_DIGEST_MAX_BYTES + 1)

typedef struct sm_digest {
    sm_digest_kind kind;
    uint8_t len; /* 32, 16 or 16 bytes in use */
    uint8_t bytes[SM_DIGEST_MAX_BYTES];
} sm_digest;

typedef struct sm_hasher sm_hasher;

SM_NODISCARD sm_status sm_hasher_new(sm_digest_kind kind, sm_hasher **hasher, sm_error *err);
SM_NODISCARD sm_status sm_hasher_update(sm_hasher *hasher, const void *bytes, size_t len,
                                        sm_error *err);
/** Digest of everything so far; the hasher can then only be reset or freed. */
SM_NODISCARD sm_status sm_hasher_final(sm_hasher *hasher, sm_digest *digest, sm_error *err);
SM_NODISCARD sm_status sm_hasher_reset(sm_hasher *hasher, sm_error *err);
void sm_hasher_free(sm_hasher **hasher);

/** One-shot XXH3-128 (cannot fail). Bytes are in canonical (big-endian) order, as `xxh128sum`. */
sm_digest sm_digest_xxh128(const void *bytes, size_t len);

bool sm_digest_equal(const sm_digest *a, const sm_digest *b);
/** Lower-case hexadecimal with NUL; returns hex. */
const char *sm_digest_hex(const sm_digest *digest, char hex[SM_DIGEST_HEX_CAP]);
/** Parse hexadecimal of exactly the kind's length, any case. SM_ERR_ARG if it is not. */
SM_NODISCARD sm_status sm_digest_parse(sm_digest_kind kind, const char *hex, sm_digest *digest,
                                       sm_error *err);
/** "sha256", "md5", "xxh128" */
const char *sm_digest_kind_name(sm_digest_kind kind);

#endif
