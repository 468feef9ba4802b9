// SPDX-License-Identifier: Apache-2.0
/*
 * A stranger's memory layer and working set: header page and what follows. With
 * bit 0 of the first byte, magic and checksum are made right. What is accepted
 * must lie in bounds, and what is built from it must read back the same.
 */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/snapfile_layout.h"
#include "../../snapshot/snaplayer.h"
#include "../../snapshot/workset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A working set for a machine of 64 MiB. */
static void try_workset(const uint8_t *data, size_t size)
{
    uint8_t p[WORKSET_HEAD + 512] = {0};
    struct snap_info image = {.mem_bytes = 64u << 20};
    struct workset w;
    size_t len = MIN(size, sizeof p);
    memcpy(p, data, len);
    if (len >= WORKSET_HEAD && p[0] & 1) {
        memcpy(p, "DORMWSET", 8);
        uint32_t crc = crc32c(0, p, 60);
        put_le32(p + 60, crc32c(crc, p + WORKSET_HEAD, len - WORKSET_HEAD));
    }
    memcpy(image.id, p + 16, SNAP_ID);
    if (workset_parse(p, len, &image, &w, NULL) < 0)
        return;
    for (uint32_t i = 0; i < w.nruns; i++) {
        struct workset_run r = workset_run_at(&w, i);
        if (!range_ok(r.page, r.count, image.mem_bytes / SNAP_PAGE) ||
            (r.flags & WORKSET_RETURN) > SNAP_PAGE / 4)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] & 2) {
        try_workset(data, size);
        return 0;
    }
    uint8_t h[SNAP_PAGE] = {0}, again[SNAP_PAGE];
    struct layer_info l, l2;
    memcpy(h, data, MIN(size, sizeof h));
    uint64_t file_len = get_le64(h + 88);
    if (h[0] & 1) {
        memcpy(h, "DORMLAYR", 8);
        put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
    }
    if (layer_parse(h, sizeof h, file_len, &l, NULL) < 0)
        return 0;
    if (l.is.len > SNAP_LAYER_MAX || !range_ok(l.is.off, l.is.len, SNAP_MEM_MAX) ||
        file_len != LAYER_DATA + l.is.len)
        abort();
    layer_build(&l, again);
    if (layer_parse(again, sizeof again, file_len, &l2, NULL) < 0 ||
        memcmp(&l, &l2, sizeof l) != 0)
        abort();
    return 0;
}
