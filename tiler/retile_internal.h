/* What retile.c (geometry, waiting tiles) and retile_jpeg.c (libjpeg) share. */
#ifndef SM_TILER_RETILE_INTERNAL_H
#define SM_TILER_RETILE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tiler/jpeg_guard.h"
#include "tiler/retile.h"

/* A rectangle of MCUs that has arrived in an output tile and waits for the others, packed. */
typedef struct coef_part {
    struct coef_part *next;
    sm_rect at; /* in MCUs of the output tile */
    uint8_t packed[];
} coef_part;

/* One output tile that still lacks MCUs. */
typedef struct coef_tile {
    atomic_uint_fast32_t lacking;
    atomic_uint_fast64_t seq;
    _Atomic(coef_part *) parts;
} coef_tile;

/* Geometry of one component: blocks across and down, in a source and in an output tile. */
typedef struct retile_component {
    uint32_t h, v;         /* blocks of an MCU */
    uint32_t dst_w, dst_h; /* blocks of an output tile */
    size_t part;           /* its first block among those of an output tile */
    int table;             /* quantisation table number */
    JCOEF fill_dc;         /* of the background colour */
} retile_component;

struct sm_retile {
    const sm_level *level;
    const sm_out_level *out;
    uint32_t out_level;
    sm_retile_tile on_tile;
    void *user;
    retile_component comps[3];
    size_t blocks; /* of one output tile */
    bool has_table[NUM_QUANT_TBLS];
    UINT16 quant[NUM_QUANT_TBLS][DCTSIZE2];
    uint32_t mcu_w, mcu_h;     /* px */
    uint32_t src_w, src_h;     /* MCUs of a source tile */
    uint32_t dst_w, dst_h;     /* MCUs of an output tile */
    uint32_t total_w, total_h; /* MCUs that arrive in all */
    pthread_mutex_t lock;      /* tiles */
    coef_tile **tiles;
};

struct sm_retile_worker {
    sm_retile *r;
    unsigned worker;
    struct jpeg_decompress_struct dec;
    struct jpeg_compress_struct enc;
    sm_jpeg_guard *dec_guard, *enc_guard;
    bool dec_open, enc_open;
    jvirt_barray_ptr *coefs; /* of the decoded tile; libjpeg's */
    unsigned char *coded;    /* of the tile being encoded; malloc'ed by libjpeg */
    unsigned long n_coded;
    JBLOCK *blocks; /* of the output tile that is being put together */
    sm_buf packing;
};

/** Learn the quantisation tables from the level's first tile; r's geometry is set. */
SM_NODISCARD sm_status retile_learn_tables(sm_retile *r, const uint8_t *bytes, size_t len,
                                           sm_error *err);

/** Huffman-code the output tile in w->blocks, appending to out. */
SM_NODISCARD sm_status retile_encode(sm_retile_worker *w, sm_buf *out, sm_error *err);

/** Pack a rectangle of the decoded tile (MCUs, src_x and src_y within it) into w->packing. */
SM_NODISCARD sm_status retile_pack(sm_retile_worker *w, uint32_t src_x, uint32_t src_y,
                                   uint32_t width, uint32_t height, sm_error *err);

#endif
