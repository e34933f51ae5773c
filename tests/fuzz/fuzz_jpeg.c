/* Fuzz target: the marker walk. Whatever is stripped once stays as it is when stripped again, and
 * reads as the same header. */
#include <stdlib.h>
#include <string.h>

#include "tiler/jpeg_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sm_error err = SM_ERROR_INIT;
    sm_jpeg_header before, after;
    sm_jpeg_traits traits;
    sm_buf once = {0}, twice = {0};
    const bool has_header = sm_jpeg_header_read(data, size, &before, &err) == SM_OK;
    if (has_header)
        (void)sm_jpeg_colour(&before, 6);
    if (sm_jpeg_traits_read(data, size, data, size, 2, &traits, &err) != SM_OK)
        err.status = SM_OK;
    if (sm_jpeg_strip(data, size, &once, &err) == SM_OK) {
        if (sm_jpeg_strip(once.data, once.len, &twice, &err) != SM_OK || once.len != twice.len ||
            memcmp(once.data, twice.data, once.len) != 0)
            abort();
        if (has_header && (sm_jpeg_header_read(once.data, once.len, &after, &err) != SM_OK ||
                           after.w_px != before.w_px || after.h_px != before.h_px ||
                           after.n_components != before.n_components))
            abort();
    }
    sm_buf_free(&once);
    sm_buf_free(&twice);
    return 0;
}
