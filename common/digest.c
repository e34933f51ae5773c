/* SHA-256 and MD5 through libcrypto's EVP, XXH3-128 through xxHash.
 * The only file that knows either library. */
#include "common/digest.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <xxhash.h>

#include "common/buf.h"

struct sm_hasher {
    sm_digest_kind kind;
    bool ended;         /* final was called: only reset or free may follow */
    EVP_MD_CTX *crypto; /* SHA-256, MD5 */
    XXH3_state_t *xxh;  /* XXH128 */
};

static const struct {
    const char *name;
    uint8_t len;
} KINDS[] = {
    [SM_DIGEST_SHA256] = {"sha256", 32},
    [SM_DIGEST_MD5] = {"md5", 16},
    [SM_DIGEST_XXH128] = {"xxh128", 16},
};

sm_status sm_hasher_reset(sm_hasher *hasher, sm_error *err)
{
    hasher->ended = false;
    bool ok = false;
    if (hasher->kind == SM_DIGEST_XXH128)
        ok = XXH3_128bits_reset(hasher->xxh) == XXH_OK;
    else
        ok = EVP_DigestInit_ex(hasher->crypto,
                               hasher->kind == SM_DIGEST_MD5 ? EVP_md5() : EVP_sha256(), NULL) == 1;
    if (!ok)
        return sm_fail(err, SM_ERR_INTERNAL, "%s cannot be computed: libcrypto refuses it",
                       KINDS[hasher->kind].name);
    return SM_OK;
}

sm_status sm_hasher_new(sm_digest_kind kind, sm_hasher **hasher, sm_error *err)
{
    *hasher = NULL;
    sm_hasher *h = sm_calloc(1, sizeof(*h));
    if (h == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a %s hasher", KINDS[kind].name);
    h->kind = kind;
    sm_status st = SM_OK;
    if (kind == SM_DIGEST_XXH128)
        h->xxh = XXH3_createState();
    else
        h->crypto = EVP_MD_CTX_new();
    if (h->xxh == NULL && h->crypto == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for a %s hasher", KINDS[kind].name);
    else
        st = sm_hasher_reset(h, err);
    if (st != SM_OK) {
        sm_hasher_free(&h);
        return st;
    }
    *hasher = h;
    return SM_OK;
}

sm_status sm_hasher_update(sm_hasher *hasher, const void *bytes, size_t len, sm_error *err)
{
    if (hasher->ended)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: update after final", KINDS[hasher->kind].name);
    if (len == 0)
        return SM_OK;
    bool ok = false;
    if (hasher->kind == SM_DIGEST_XXH128)
        ok = XXH3_128bits_update(hasher->xxh, bytes, len) == XXH_OK;
    else
        ok = EVP_DigestUpdate(hasher->crypto, bytes, len) == 1;
    if (!ok)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: update failed", KINDS[hasher->kind].name);
    return SM_OK;
}

static sm_digest digest_from_xxh(XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    sm_digest digest = {.kind = SM_DIGEST_XXH128, .len = KINDS[SM_DIGEST_XXH128].len};
    memcpy(digest.bytes, canonical.digest, sizeof(canonical.digest));
    return digest;
}

sm_status sm_hasher_final(sm_hasher *hasher, sm_digest *digest, sm_error *err)
{
    if (hasher->ended)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: final after final", KINDS[hasher->kind].name);
    hasher->ended = true;
    if (hasher->kind == SM_DIGEST_XXH128) {
        *digest = digest_from_xxh(XXH3_128bits_digest(hasher->xxh));
        return SM_OK;
    }
    *digest = (sm_digest){.kind = hasher->kind, .len = KINDS[hasher->kind].len};
    unsigned len = 0;
    if (EVP_DigestFinal_ex(hasher->crypto, digest->bytes, &len) != 1 || len != digest->len)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: final failed", KINDS[hasher->kind].name);
    return SM_OK;
}

void sm_hasher_free(sm_hasher **hasher)
{
    sm_hasher *h = *hasher;
    if (h == NULL)
        return;
    EVP_MD_CTX_free(h->crypto);
    XXH3_freeState(h->xxh);
    free(h);
    *hasher = NULL;
}

sm_digest sm_digest_xxh128(const void *bytes, size_t len)
{
    return digest_from_xxh(XXH3_128bits(bytes, len));
}

bool sm_digest_equal(const sm_digest *a, const sm_digest *b)
{
    return a->kind == b->kind && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

const char *sm_digest_hex(const sm_digest *digest, char hex[SM_DIGEST_HEX_CAP])
{
    static const char DIGITS[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < digest->len && i < SM_DIGEST_MAX_BYTES; i++) {
        hex[n++] = DIGITS[digest->bytes[i] >> 4];
        hex[n++] = DIGITS[digest->bytes[i] & 15];
    }
    hex[n] = '\0';
    return hex;
}

/* -1 if c is no hexadecimal digit. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

sm_status sm_digest_parse(sm_digest_kind kind, const char *hex, sm_digest *digest, sm_error *err)
{
    sm_digest parsed = {.kind = kind, .len = KINDS[kind].len};
    const size_t want = (size_t)2 * parsed.len;
    bool ok = strnlen(hex, want + 1) == want;
    for (size_t i = 0; ok && i < parsed.len; i++) {
        const int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
        ok = high >= 0 && low >= 0;
        if (ok)
            parsed.bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (!ok)
        return sm_fail(err, SM_ERR_ARG, "'%.80s' is not a %s digest (%zu hexadecimal digits)", hex,
                       KINDS[kind].name, want);
    *digest = parsed;
    return SM_OK;
}

const char *sm_digest_kind_name(sm_digest_kind kind)
{
    return KINDS[kind].name;
}
