/* Reads JPEG markers without decoding, and copies tiles without their private segments.
 * Owns nothing. Sources: ITU-T T.81 Annex B, JFIF 1.02, Adobe TN 5116, T.81 Annex K (tables). */
#include "tiler/jpeg_info.h"

#include <string.h>

enum {
    M_SOF0 = 0xC0,
    M_SOF1 = 0xC1,
    M_SOF2 = 0xC2,
    M_DHT = 0xC4,
    M_JPG = 0xC8,
    M_SOF9 = 0xC9,
    M_SOF10 = 0xCA,
    M_DAC = 0xCC,
    M_RST0 = 0xD0,
    M_RST7 = 0xD7,
    M_SOI = 0xD8,
    M_EOI = 0xD9,
    M_SOS = 0xDA,
    M_DQT = 0xDB,
    M_DRI = 0xDD,
    M_EXP = 0xDF,
    M_APP0 = 0xE0,
    M_APP14 = 0xEE,
    M_TEM = 0x01,
};

/* Payload of a regular Adobe APP14 segment: "Adobe", version, two flag words, transform. */
#define ADOBE_BYTES 12
#define N_COEFFICIENTS 64

typedef struct segment {
    uint8_t marker;
    size_t at;           /* of the marker's 0xFF */
    const uint8_t *body; /* after the length field; NULL for markers that stand alone */
    size_t len;          /* bytes of body */
    size_t next;         /* first byte after the segment */
} segment;

typedef struct quant_table {
    bool present;
    bool wide;                  /* 16-bit entries */
    uint16_t q[N_COEFFICIENTS]; /* zigzag order, as stored */
} quant_table;

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static bool stands_alone(uint8_t marker)
{
    return marker == M_SOI || marker == M_EOI || marker == M_TEM ||
           (marker >= M_RST0 && marker <= M_RST7);
}

static bool is_sof(uint8_t marker)
{
    return marker >= M_SOF0 && marker <= 0xCF && marker != M_DHT && marker != M_JPG &&
           marker != M_DAC;
}

/* The next segment at or after pos. Stray bytes before a marker are passed over, as libjpeg does.
 */
static sm_status segment_next(const uint8_t *bytes, size_t len, size_t pos, segment *seg,
                              sm_error *err)
{
    for (;;) {
        const uint8_t *ff = pos < len ? memchr(bytes + pos, 0xFF, len - pos) : NULL;
        if (ff == NULL)
            return sm_fail_at(err, SM_ERR_CORRUPT, len, "JPEG stream ends without a marker");
        pos = (size_t)(ff - bytes);
        while (pos < len && bytes[pos] == 0xFF)
            pos++;
        if (pos == len)
            return sm_fail_at(err, SM_ERR_CORRUPT, len, "JPEG stream ends inside a marker");
        if (bytes[pos] != 0)
            break;
        pos++;
    }
    *seg = (segment){.marker = bytes[pos], .at = pos - 1, .next = pos + 1};
    if (stands_alone(seg->marker))
        return SM_OK;
    if (len - seg->next < 2)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg->at, "JPEG segment 0x%02X is cut off",
                          seg->marker);
    const size_t n = be16(bytes + seg->next);
    if (n < 2 || n > len - seg->next)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg->at,
                          "JPEG segment 0x%02X of %zu bytes ends beyond the stream's %zu",
                          seg->marker, n, len);
    seg->body = bytes + seg->next + 2;
    seg->len = n - 2;
    seg->next += n;
    return SM_OK;
}

static sm_status check_soi(const uint8_t *bytes, size_t len, sm_error *err)
{
    if (len < 2 || bytes[0] != 0xFF || bytes[1] != M_SOI)
        return sm_fail_at(err, SM_ERR_CORRUPT, 0, "not a JPEG stream: no SOI marker");
    return SM_OK;
}

static sm_status read_sof(const segment *seg, sm_jpeg_header *header, sm_error *err)
{
    if (header->sof != 0)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg->at, "JPEG stream has a second frame header");
    if (seg->len < 6)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg->at, "JPEG frame header is cut off");
    const uint8_t n = seg->body[5];
    if (n < 1 || n > 4 || seg->len < 6 + 3 * (size_t)n)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg->at,
                          "JPEG frame header of %zu bytes with %u components", seg->len,
                          (unsigned)n);
    header->sof = seg->marker;
    header->precision = seg->body[0];
    header->h_px = be16(seg->body + 1);
    header->w_px = be16(seg->body + 3);
    header->n_components = n;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *c = seg->body + 6 + 3 * (size_t)i;
        header->ids[i] = c[0];
        header->h[i] = c[1] >> 4;
        header->v[i] = c[1] & 15;
        header->tq[i] = c[2];
        if (header->h[i] < 1 || header->h[i] > 4 || header->v[i] < 1 || header->v[i] > 4 ||
            header->tq[i] > 3)
            return sm_fail_at(err, SM_ERR_CORRUPT, seg->at,
                              "JPEG component %u has sampling %ux%u, quantisation table %u", i,
                              (unsigned)header->h[i], (unsigned)header->v[i],
                              (unsigned)header->tq[i]);
    }
    return SM_OK;
}

static bool is_adobe(const segment *seg)
{
    return seg->marker == M_APP14 && seg->len >= ADOBE_BYTES && memcmp(seg->body, "Adobe", 5) == 0;
}

static sm_status read_segment(const segment *seg, sm_jpeg_header *header, sm_error *err)
{
    if (is_sof(seg->marker))
        return read_sof(seg, header, err);
    if (seg->marker == M_APP0 && seg->len >= 5 && memcmp(seg->body, "JFIF", 5) == 0)
        header->jfif = true;
    if (is_adobe(seg)) {
        header->adobe = true;
        header->adobe_transform = seg->body[11];
    }
    if (seg->marker == M_DRI && seg->len >= 2)
        header->restart_interval = be16(seg->body);
    header->has_dqt |= seg->marker == M_DQT;
    header->has_dht |= seg->marker == M_DHT;
    return SM_OK;
}

sm_status sm_jpeg_header_read(const uint8_t *bytes, size_t len, sm_jpeg_header *header,
                              sm_error *err)
{
    *header = (sm_jpeg_header){0};
    sm_status st = check_soi(bytes, len, err);
    if (st != SM_OK)
        return st;
    segment seg = {.next = 2};
    for (;;) {
        st = segment_next(bytes, len, seg.next, &seg, err);
        if (st != SM_OK)
            return st;
        if (seg.marker == M_EOI)
            return sm_fail_at(err, SM_ERR_CORRUPT, seg.at, "JPEG stream holds no scan");
        if (seg.marker == M_SOS)
            break;
        st = read_segment(&seg, header, err);
        if (st != SM_OK)
            return st;
    }
    if (header->sof == 0)
        return sm_fail_at(err, SM_ERR_CORRUPT, seg.at, "JPEG scan before its frame header");
    header->scan_offset = seg.next;
    return SM_OK;
}

static bool chroma_subsampled(const sm_jpeg_header *header)
{
    return header->h[1] != header->h[0] || header->v[1] != header->v[0] ||
           header->h[2] != header->h[0] || header->v[2] != header->v[0];
}

sm_colour sm_jpeg_colour(const sm_jpeg_header *header, uint16_t photometric)
{
    if (header->n_components == 1)
        return SM_COLOUR_GREY;
    if (header->n_components != 3)
        return SM_COLOUR_RGB;
    if (header->adobe)
        return header->adobe_transform == 0 ? SM_COLOUR_RGB : SM_COLOUR_YCBCR;
    if (header->jfif)
        return SM_COLOUR_YCBCR;
    if (header->ids[0] == 'R' && header->ids[1] == 'G' && header->ids[2] == 'B')
        return SM_COLOUR_RGB;
    if (chroma_subsampled(header))
        return SM_COLOUR_YCBCR;
    return photometric == 2 ? SM_COLOUR_RGB : SM_COLOUR_YCBCR;
}

/* ---- quality ---- */

/* T.81 tables K.1 and K.2 in zigzag order: what IJG's quality scales. */
static const uint8_t STANDARD[2][N_COEFFICIENTS] = {
    {16, 11, 12,  14,  12,  10, 16, 14,  13,  14,  18,  17,  16, 19,  24,  40,
     26, 24, 22,  22,  24,  49, 35, 37,  29,  40,  58,  51,  61, 60,  57,  51,
     56, 55, 64,  72,  92,  78, 64, 68,  87,  69,  55,  56,  80, 109, 81,  87,
     95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99},
    {17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99},
};

static sm_status read_dqt(const segment *seg, quant_table tables[4], sm_error *err)
{
    size_t pos = 0;
    while (pos < seg->len) {
        const uint8_t precision = seg->body[pos] >> 4, id = seg->body[pos] & 15;
        const size_t entry = precision == 0 ? 1 : 2;
        pos++;
        if (precision > 1 || id > 3 || seg->len - pos < entry * N_COEFFICIENTS)
            return sm_fail_at(err, SM_ERR_CORRUPT, seg->at, "JPEG quantisation table %u is broken",
                              (unsigned)id);
        tables[id].present = true;
        tables[id].wide = precision == 1;
        for (size_t i = 0; i < N_COEFFICIENTS; i++, pos += entry)
            tables[id].q[i] = entry == 1 ? seg->body[pos] : be16(seg->body + pos);
    }
    return SM_OK;
}

/* Quantisation tables of a stream up to its first scan or its end. */
static sm_status read_quant_tables(const uint8_t *bytes, size_t len, quant_table tables[4],
                                   sm_error *err)
{
    sm_status st = check_soi(bytes, len, err);
    segment seg = {.next = 2};
    while (st == SM_OK) {
        st = segment_next(bytes, len, seg.next, &seg, err);
        if (st != SM_OK || seg.marker == M_SOS || seg.marker == M_EOI)
            break;
        if (seg.marker == M_DQT)
            st = read_dqt(&seg, tables, err);
    }
    return st;
}

/* As jpeg_quality_scaling and jpeg_add_quant_table of libjpeg do it. */
static bool is_scaled(const quant_table *table, const uint8_t *standard, int quality)
{
    const int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    const int max = table->wide ? 32767 : 255;
    for (size_t i = 0; i < N_COEFFICIENTS; i++) {
        int q = (standard[i] * scale + 50) / 100;
        q = q < 1 ? 1 : q > max ? max : q;
        if (table->q[i] != q)
            return false;
    }
    return true;
}

/* 0 unless the first component uses the standard luma table and the others that or the chroma one,
 * all scaled alike. */
static int find_quality(const sm_jpeg_header *header, const quant_table tables[4])
{
    const quant_table *luma = &tables[header->tq[0]];
    const quant_table *chroma = header->n_components == 3 ? &tables[header->tq[1]] : luma;
    if (!luma->present || !chroma->present ||
        (header->n_components == 3 && header->tq[2] != header->tq[1]))
        return 0;
    for (int quality = 100; quality >= 1; quality--) {
        if (is_scaled(luma, STANDARD[0], quality) &&
            (chroma == luma || is_scaled(chroma, STANDARD[1], quality)))
            return quality;
    }
    return 0;
}

/* ---- traits ---- */

static sm_status check_readable(const sm_jpeg_header *header, sm_error *err)
{
    if (header->n_components != 1 && header->n_components != 3)
        return sm_fail(err, SM_ERR_FORMAT, "JPEG with %u components",
                       (unsigned)header->n_components);
    if (header->precision != 8)
        return sm_fail(err, SM_ERR_FORMAT, "JPEG with %u bits a sample",
                       (unsigned)header->precision);
    const uint8_t sof = header->sof;
    if (sof != M_SOF0 && sof != M_SOF1 && sof != M_SOF2 && sof != M_SOF9 && sof != M_SOF10)
        return sm_fail(err, SM_ERR_FORMAT, "JPEG process SOF%u (lossless or hierarchical)",
                       (unsigned)(sof - M_SOF0));
    return SM_OK;
}

sm_status sm_jpeg_traits_read(const uint8_t *bytes, size_t len, const uint8_t *tables,
                              size_t tables_len, uint16_t photometric, sm_jpeg_traits *traits,
                              sm_error *err)
{
    *traits = (sm_jpeg_traits){0};
    sm_jpeg_header header;
    sm_status st = sm_jpeg_header_read(bytes, len, &header, err);
    if (st != SM_OK)
        return st;
    st = check_readable(&header, err);
    if (st != SM_OK)
        return st;
    quant_table quant[4] = {{0}};
    if (tables != NULL) {
        st = read_quant_tables(tables, tables_len, quant, err);
        if (st != SM_OK) {
            sm_error_prefix(err, "JPEGTables (tag 347)");
            return st;
        }
    }
    st = read_quant_tables(bytes, len, quant, err);
    if (st != SM_OK)
        return st;

    traits->colour = sm_jpeg_colour(&header, photometric);
    traits->n_components = header.n_components;
    traits->quality = find_quality(&header, quant);
    traits->plain = header.sof == M_SOF0;
    traits->h_samp = traits->v_samp = 1;
    if (header.n_components == 3) {
        if (header.h[0] > header.h[1])
            traits->h_samp = (uint8_t)(header.h[0] / header.h[1]);
        if (header.v[0] > header.v[1])
            traits->v_samp = (uint8_t)(header.v[0] / header.v[1]);
        for (unsigned i = 1; i < 3; i++)
            traits->plain &= header.h[i] == 1 && header.v[i] == 1;
    }
    return SM_OK;
}

/* ---- strip ---- */

/* An allow-list: whatever is not needed to decode can carry private data. */
static bool is_coding(uint8_t marker)
{
    return (marker >= M_SOF0 && marker <= M_EXP && marker != M_JPG) || marker == M_TEM;
}

static sm_status append_marker(sm_buf *out, uint8_t marker, sm_error *err)
{
    return sm_buf_append(out, (const uint8_t[]){0xFF, marker}, 2, err);
}

static sm_status append_segment(const uint8_t *bytes, const segment *seg, sm_buf *out,
                                sm_error *err)
{
    if (is_adobe(seg)) { /* a longer one is cut to what the format defines */
        static const uint8_t head[] = {0xFF, M_APP14, 0, ADOBE_BYTES + 2};
        const sm_status st = sm_buf_append(out, head, sizeof head, err);
        return st != SM_OK ? st : sm_buf_append(out, seg->body, ADOBE_BYTES, err);
    }
    if (!is_coding(seg->marker))
        return SM_OK;
    return sm_buf_append(out, bytes + seg->at, seg->next - seg->at, err);
}

/* First byte after the entropy-coded bytes at pos: that of the marker that ends them. */
static sm_status find_scan_end(const uint8_t *bytes, size_t len, size_t pos, size_t *end,
                               sm_error *err)
{
    for (;;) {
        const uint8_t *ff = pos < len ? memchr(bytes + pos, 0xFF, len - pos) : NULL;
        if (ff == NULL || (size_t)(ff - bytes) + 1 == len)
            return sm_fail_at(err, SM_ERR_CORRUPT, len, "JPEG stream ends without EOI");
        pos = (size_t)(ff - bytes);
        const uint8_t next = bytes[pos + 1];
        if (next == 0xFF)
            pos++;
        else if (next == 0 || (next >= M_RST0 && next <= M_RST7))
            pos += 2;
        else
            break;
    }
    *end = pos;
    return SM_OK;
}

sm_status sm_jpeg_strip(const uint8_t *bytes, size_t len, sm_buf *out, sm_error *err)
{
    sm_status st = check_soi(bytes, len, err);
    if (st != SM_OK)
        return st;
    st = sm_buf_reserve(out, out->len + len, err);
    if (st != SM_OK)
        return st;
    st = append_marker(out, M_SOI, err);
    segment seg = {.next = 2};
    while (st == SM_OK) {
        st = segment_next(bytes, len, seg.next, &seg, err);
        if (st != SM_OK)
            return st;
        if (seg.marker == M_EOI)
            return append_marker(out, M_EOI, err);
        if (seg.marker == M_SOI)
            return sm_fail_at(err, SM_ERR_CORRUPT, seg.at, "JPEG stream starts twice");
        st = append_segment(bytes, &seg, out, err);
        if (st != SM_OK || seg.marker != M_SOS)
            continue;
        const size_t scan = seg.next;
        st = find_scan_end(bytes, len, scan, &seg.next, err);
        if (st == SM_OK)
            st = sm_buf_append(out, bytes + scan, seg.next - scan, err);
    }
    return st;
}
