/* Directories in memory, and their bytes. Values of at most 8 bytes stand in the entry itself; the
 * others follow their directory, each on an 8-byte bound. */
#include "tiler/bigtiff.h"

#include <stdlib.h>
#include <string.h>

#include "common/geom.h"

enum { /* TIFF 6.0 section 2, BigTIFF */
       TYPE_ASCII = 2,
       TYPE_SHORT = 3,
       TYPE_LONG = 4,
       TYPE_RATIONAL = 5,
       TYPE_UNDEFINED = 7,
       TYPE_LONG8 = 16,
       TYPE_IFD8 = 18,
};

enum { HEADER_BYTES = 16, ENTRY_BYTES = 20, HEAD_ALIGN = 4096, MAX_ENTRIES = 40 };

typedef enum value_kind {
    VALUE_BYTES,
    VALUE_SHARED,
    VALUE_SUBDIRS,
    VALUE_OFFSETS,
    VALUE_LENS
} value_kind;

typedef struct entry {
    uint16_t tag, type;
    value_kind kind;
    uint64_t n;     /* values */
    uint64_t bytes; /* n * size of the type */
    uint8_t *value; /* VALUE_BYTES, little-endian */
    uint32_t first; /* VALUE_SUBDIRS: first directory; VALUE_SHARED: directory that has the value */
    uint64_t where; /* file offset when bytes > 8 */
} entry;

typedef struct dir {
    entry entries[MAX_ENTRIES];
    size_t n_entries;
    uint64_t *offsets; /* of the pieces */
    uint32_t *lens;
    uint64_t where;
} dir;

struct sm_bigtiff {
    dir *dirs;
    uint32_t n_dirs;
};

static void put_le(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

sm_status sm_bigtiff_new(sm_bigtiff **tiff, sm_error *err)
{
    *tiff = sm_calloc(1, sizeof **tiff);
    return *tiff != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "out of memory");
}

void sm_bigtiff_free(sm_bigtiff **tiff)
{
    sm_bigtiff *t = *tiff;
    if (t == NULL)
        return;
    for (uint32_t d = 0; d < t->n_dirs; d++) {
        for (size_t i = 0; i < t->dirs[d].n_entries; i++)
            free(t->dirs[d].entries[i].value);
        free(t->dirs[d].offsets);
        free(t->dirs[d].lens);
    }
    free(t->dirs);
    free(t);
    *tiff = NULL;
}

sm_status sm_bigtiff_add_dir(sm_bigtiff *t, uint32_t *number, sm_error *err)
{
    dir *grown = sm_malloc_array((size_t)t->n_dirs + 1, sizeof *grown);
    if (grown == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a TIFF directory");
    if (t->n_dirs > 0)
        memcpy(grown, t->dirs, t->n_dirs * sizeof *grown);
    memset(&grown[t->n_dirs], 0, sizeof *grown);
    free(t->dirs);
    t->dirs = grown;
    *number = t->n_dirs++;
    return SM_OK;
}

/* A new entry at its place in tag order, with room for its value. */
static sm_status insert(sm_bigtiff *t, uint32_t d, uint16_t tag, uint16_t type, uint64_t n,
                        unsigned size, value_kind kind, entry **out, sm_error *err)
{
    dir *dr = &t->dirs[d];
    if (dr->n_entries == MAX_ENTRIES)
        return sm_fail(err, SM_ERR_INTERNAL, "TIFF directory %u has too many tags", d);
    size_t at = 0;
    while (at < dr->n_entries && dr->entries[at].tag < tag)
        at++;
    if (at < dr->n_entries && dr->entries[at].tag == tag)
        return sm_fail(err, SM_ERR_INTERNAL, "TIFF tag %u set twice", tag);
    uint8_t *value = NULL;
    if (kind == VALUE_BYTES) {
        value = sm_calloc(n > 0 ? (size_t)n : 1, size);
        if (value == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for TIFF tag %u", tag);
    }
    memmove(&dr->entries[at + 1], &dr->entries[at], (dr->n_entries - at) * sizeof(entry));
    dr->n_entries++;
    dr->entries[at] =
        (entry){.tag = tag, .type = type, .kind = kind, .n = n, .bytes = n * size, .value = value};
    *out = &dr->entries[at];
    return SM_OK;
}

sm_status sm_bigtiff_set_short(sm_bigtiff *t, uint32_t d, uint16_t tag, const uint16_t *values,
                               size_t n, sm_error *err)
{
    entry *e = NULL;
    const sm_status st = insert(t, d, tag, TYPE_SHORT, n, 2, VALUE_BYTES, &e, err);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        put_le(e->value + 2 * i, values[i], 2);
    return st;
}

sm_status sm_bigtiff_set_long(sm_bigtiff *t, uint32_t d, uint16_t tag, uint32_t value,
                              sm_error *err)
{
    entry *e = NULL;
    const sm_status st = insert(t, d, tag, TYPE_LONG, 1, 4, VALUE_BYTES, &e, err);
    if (st == SM_OK)
        put_le(e->value, value, 4);
    return st;
}

/* The simplest fraction of 32-bit numbers within 1e-12 of value, else the nearest of those that
 * continued fractions give: within 2^-32, since the next one would have a number beyond 2^32. */
static void as_fraction(double value, uint64_t *numerator, uint64_t *denominator)
{
    uint64_t n0 = 0, d0 = 1, n1 = 1, d1 = 0;
    for (double x = value; x < 4294967296.0;) {
        const uint64_t whole = (uint64_t)x, n = whole * n1 + n0, d = whole * d1 + d0;
        if (n > UINT32_MAX || d > UINT32_MAX)
            break;
        n0 = n1;
        d0 = d1;
        n1 = n;
        d1 = d;
        const double off = (double)n / (double)d - value;
        if ((off < 0 ? -off : off) <= 1e-12 * value)
            break;
        x = 1.0 / (x - (double)whole);
    }
    *numerator = n1;
    *denominator = d1;
}

sm_status sm_bigtiff_set_rational(sm_bigtiff *t, uint32_t d, uint16_t tag, double value,
                                  sm_error *err)
{
    if (!(value >= 1e-9 && value < 4e9))
        return sm_fail(err, SM_ERR_INTERNAL, "TIFF tag %u: %g has no RATIONAL", tag, value);
    uint64_t numerator = 0, denominator = 1;
    as_fraction(value, &numerator, &denominator);
    entry *e = NULL;
    const sm_status st = insert(t, d, tag, TYPE_RATIONAL, 1, 8, VALUE_BYTES, &e, err);
    if (st == SM_OK) {
        put_le(e->value, numerator, 4);
        put_le(e->value + 4, denominator, 4);
    }
    return st;
}

static sm_status set_bytes(sm_bigtiff *t, uint32_t d, uint16_t tag, uint16_t type,
                           const void *bytes, size_t len, sm_error *err)
{
    entry *e = NULL;
    const sm_status st = insert(t, d, tag, type, len, 1, VALUE_BYTES, &e, err);
    if (st == SM_OK && len > 0)
        memcpy(e->value, bytes, len);
    return st;
}

sm_status sm_bigtiff_set_ascii(sm_bigtiff *t, uint32_t d, uint16_t tag, const char *text,
                               sm_error *err)
{
    return set_bytes(t, d, tag, TYPE_ASCII, text, strlen(text) + 1, err);
}

sm_status sm_bigtiff_set_undefined(sm_bigtiff *t, uint32_t d, uint16_t tag, const void *bytes,
                                   size_t len, sm_error *err)
{
    return set_bytes(t, d, tag, TYPE_UNDEFINED, bytes, len, err);
}

static const entry *find(const dir *dr, uint16_t tag)
{
    for (size_t i = 0; i < dr->n_entries; i++)
        if (dr->entries[i].tag == tag)
            return &dr->entries[i];
    return NULL;
}

sm_status sm_bigtiff_share(sm_bigtiff *t, uint32_t d, uint16_t tag, uint32_t from, sm_error *err)
{
    const entry *with = from < d ? find(&t->dirs[from], tag) : NULL;
    if (with == NULL || with->kind != VALUE_BYTES)
        return sm_fail(err, SM_ERR_INTERNAL, "TIFF tag %u has no earlier value to share", tag);
    const bool stands_inline = with->bytes <= 8;
    const unsigned size = with->n > 0 ? (unsigned)(with->bytes / with->n) : 1;
    entry *e = NULL;
    const sm_status st = insert(t, d, tag, with->type, with->n, size,
                                stands_inline ? VALUE_BYTES : VALUE_SHARED, &e, err);
    if (st == SM_OK && stands_inline)
        memcpy(e->value, with->value, (size_t)with->bytes);
    if (st == SM_OK)
        e->first = from;
    return st;
}

sm_status sm_bigtiff_set_subdirs(sm_bigtiff *t, uint32_t d, uint32_t first, uint32_t n,
                                 sm_error *err)
{
    entry *e = NULL;
    const sm_status st = insert(t, d, 330, TYPE_IFD8, n, 8, VALUE_SUBDIRS, &e, err);
    if (st == SM_OK)
        e->first = first;
    return st;
}

sm_status sm_bigtiff_reserve(sm_bigtiff *t, uint32_t d, uint64_t n, bool strips, sm_error *err)
{
    dir *dr = &t->dirs[d];
    entry *e = NULL;
    sm_status st = insert(t, d, strips ? 273 : 324, TYPE_LONG8, n, 8, VALUE_OFFSETS, &e, err);
    if (st == SM_OK)
        st = insert(t, d, strips ? 279 : 325, TYPE_LONG, n, 4, VALUE_LENS, &e, err);
    if (st != SM_OK)
        return st;
    dr->offsets = sm_calloc((size_t)n, sizeof *dr->offsets);
    dr->lens = sm_calloc((size_t)n, sizeof *dr->lens);
    if (dr->offsets == NULL || dr->lens == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the places of %llu tiles",
                       (unsigned long long)n);
    return SM_OK;
}

void sm_bigtiff_place(sm_bigtiff *t, uint32_t d, uint64_t i, uint64_t offset, uint32_t len)
{
    t->dirs[d].offsets[i] = offset;
    t->dirs[d].lens[i] = len;
}

sm_status sm_bigtiff_replace_ascii(sm_bigtiff *t, uint32_t d, uint16_t tag, const char *text,
                                   sm_error *err)
{
    dir *dr = &t->dirs[d];
    for (size_t i = 0; i < dr->n_entries; i++) {
        entry *e = &dr->entries[i];
        if (e->tag != tag || e->type != TYPE_ASCII)
            continue;
        if (strlen(text) + 1 != e->bytes)
            break;
        memcpy(e->value, text, (size_t)e->bytes);
        return SM_OK;
    }
    return sm_fail(err, SM_ERR_INTERNAL, "TIFF tag %u: its text changed length", tag);
}

static uint64_t dir_bytes(const dir *dr)
{
    return 8 + ENTRY_BYTES * (uint64_t)dr->n_entries + 8;
}

/* Give every directory and every long value its place; returns the end. */
static uint64_t lay_out(sm_bigtiff *t)
{
    uint64_t at = HEADER_BYTES;
    for (uint32_t d = 0; d < t->n_dirs; d++) {
        dir *dr = &t->dirs[d];
        dr->where = at;
        at = sm_align_u64(at + dir_bytes(dr), 8);
        for (size_t i = 0; i < dr->n_entries; i++) {
            entry *e = &dr->entries[i];
            if (e->bytes <= 8)
                continue;
            if (e->kind == VALUE_SHARED) {
                e->where = find(&t->dirs[e->first], e->tag)->where;
                continue;
            }
            e->where = at;
            at = sm_align_u64(at + e->bytes, 8);
        }
    }
    return at;
}

uint64_t sm_bigtiff_head_bytes(sm_bigtiff *t)
{
    return sm_align_u64(lay_out(t), HEAD_ALIGN);
}

static void render_value(const sm_bigtiff *t, const dir *dr, const entry *e, uint8_t *at)
{
    switch (e->kind) {
    case VALUE_BYTES:
        memcpy(at, e->value, (size_t)e->bytes);
        break;
    case VALUE_SHARED:
        break;
    case VALUE_SUBDIRS:
        for (uint64_t i = 0; i < e->n; i++)
            put_le(at + 8 * i, t->dirs[e->first + i].where, 8);
        break;
    case VALUE_OFFSETS:
        for (uint64_t i = 0; i < e->n; i++)
            put_le(at + 8 * i, dr->offsets[i], 8);
        break;
    case VALUE_LENS:
        for (uint64_t i = 0; i < e->n; i++)
            put_le(at + 4 * i, dr->lens[i], 4);
        break;
    }
}

static void render_dir(const sm_bigtiff *t, uint32_t d, uint8_t *head)
{
    const dir *dr = &t->dirs[d];
    uint8_t *at = head + dr->where;
    put_le(at, dr->n_entries, 8);
    at += 8;
    for (size_t i = 0; i < dr->n_entries; i++, at += ENTRY_BYTES) {
        const entry *e = &dr->entries[i];
        put_le(at, e->tag, 2);
        put_le(at + 2, e->type, 2);
        put_le(at + 4, e->n, 8);
        if (e->bytes > 8)
            put_le(at + 12, e->where, 8);
        render_value(t, dr, e, e->bytes > 8 ? head + e->where : at + 12);
    }
    put_le(at, d + 1 < t->n_dirs ? t->dirs[d + 1].where : 0, 8);
}

sm_status sm_bigtiff_render(sm_bigtiff *t, sm_buf *out, sm_error *err)
{
    const size_t bytes = (size_t)sm_bigtiff_head_bytes(t);
    out->len = 0;
    const sm_status st = sm_buf_reserve(out, bytes, err);
    if (st != SM_OK)
        return st;
    memset(out->data, 0, bytes);
    out->len = bytes;
    memcpy(out->data, "II", 2);
    put_le(out->data + 2, 43, 2); /* BigTIFF */
    put_le(out->data + 4, 8, 2);  /* bytes of an offset */
    put_le(out->data + 8, t->n_dirs > 0 ? t->dirs[0].where : 0, 8);
    for (uint32_t d = 0; d < t->n_dirs; d++)
        render_dir(t, d, out->data);
    return SM_OK;
}
