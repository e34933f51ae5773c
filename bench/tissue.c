/* A synthetic tissue out of value noise. Owns nothing. */
#include "bench/tissue.h"

#include "common/geom.h"

uint32_t sm_tissue_mix(uint32_t x, uint32_t y, uint32_t seed)
{
    uint32_t h = x * 0x9e3779b1u ^ y * 0x85ebca77u ^ seed * 0xc2b2ae3du;
    h = (h ^ h >> 15) * 0x2c1b3c6du;
    h = (h ^ h >> 12) * 0x297a2d39u;
    return h ^ h >> 15;
}

/* Value noise 0..255 with lattice points every cell px; integers only, so all machines agree. */
static uint32_t noise(uint32_t x, uint32_t y, uint32_t cell, uint32_t seed)
{
    const uint32_t cx = x / cell, cy = y / cell;
    uint32_t fx = x % cell * 256 / cell, fy = y % cell * 256 / cell;
    fx = fx * fx * (768 - 2 * fx) >> 16; /* smoothstep: no visible lattice */
    fy = fy * fy * (768 - 2 * fy) >> 16;
    const uint32_t a = sm_tissue_mix(cx, cy, seed) & 255, b = sm_tissue_mix(cx + 1, cy, seed) & 255;
    const uint32_t c = sm_tissue_mix(cx, cy + 1, seed) & 255,
                   e = sm_tissue_mix(cx + 1, cy + 1, seed) & 255;
    return ((a * (256 - fx) + b * fx) * (256 - fy) + (c * (256 - fx) + e * fx) * fy) >> 16;
}

/* How deep (0..256) a pixel lies in a nucleus: one of its own size per lattice cell. The lattice is
 * shifted by one cell, so that no position is negative. */
static uint32_t nucleus(uint32_t x, uint32_t y)
{
    const uint32_t cell = 20;
    uint32_t deepest = 0;
    for (uint32_t k = 0; k < 9; k++) {
        const uint32_t cx = x / cell + k % 3, cy = y / cell + k / 3;
        const uint32_t h = sm_tissue_mix(cx, cy, 77);
        const int64_t dx = (int64_t)x + cell - ((int64_t)cx * cell + h % cell);
        const int64_t dy = (int64_t)y + cell - ((int64_t)cy * cell + (h >> 8) % cell);
        const uint32_t r = 3 + (h >> 16) % 5;
        const uint32_t d2 = (uint32_t)(dx * dx + dy * dy), r2 = r * r;
        if ((h >> 24) < 150 && d2 < r2) {
            const uint32_t depth = sm_min_u32((r2 - d2) * 512 / r2, 256);
            deepest = sm_max_u32(deepest, depth);
        }
    }
    return deepest;
}

/* H&E-like: white glass, pink tissue in blobs with fibres, purple nuclei, grain. */
void sm_tissue_pixel(uint32_t x, uint32_t y, uint8_t *rgb)
{
    static const uint32_t glass[3] = {243, 242, 244}, eosin[3] = {222, 128, 178},
                          haematoxylin[3] = {92, 64, 142};
    const uint32_t mass = (2 * noise(x, y, 700, 3) + noise(x, y, 170, 4)) / 3;
    const uint32_t inside = mass < 96 ? 0 : sm_min_u32((mass - 96) * 16, 256);
    const uint32_t fibre = (noise(x, y * 3, 64, 5) + noise(x + y, y, 14, 6)) / 2;
    const uint32_t pink = inside * (96 + fibre * 160 / 256) / 256;
    const uint32_t blue = inside * nucleus(x, y) / 256;
    const uint32_t grain = sm_tissue_mix(x, y, 8) % 9 + noise(x, y, 3, 9) / 24;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t v = (glass[i] * (256 - pink) + eosin[i] * pink) / 256;
        v = (v * (256 - blue) + haematoxylin[i] * blue) / 256;
        v = v + (grain * inside / 256) - 8 * inside / 256;
        rgb[i] = (uint8_t)sm_min_u32(v, 255);
    }
}
