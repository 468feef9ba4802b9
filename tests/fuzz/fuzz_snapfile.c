// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot file of a stranger. The first bytes are the header page and what
 * follows; checksums are made right, so that the checks behind them are
 * reached. What is accepted must be in bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/devstate.h"
#include "../../snapshot/snapfile.h"
#include "../../snapshot/snapfile_layout.h"
#include "../../snapshot/snapstate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_state(const uint8_t *state, size_t len)
{
    struct dstate_reader block;
    size_t pos = 0;
    if (dr_check(state, len, NULL) < 0)
        return;
    while (dr_next(state, len, &pos, &block, NULL) > 0) {
        const void *p;
        size_t n, at = 0;
        uint16_t id;
        uint64_t v;
        dr_u64(&block, 1, &v, NULL);
        while (dr_next_field(&block, &at, &id, &p, &n, NULL) > 0) {
            struct snap_reg reg;
            struct snap_gic_word word;
            size_t i = 0;
            while (snap_next_reg(p, n, &i, &reg, NULL) > 0)
                ;
            i = 0;
            while (snap_next_gic_word(p, n, &i, &word, NULL) > 0)
                ;
        }
    }
}

static void walk_index(const struct snap_info *info, const uint8_t *index, size_t len)
{
    if (snap_check_index(info, index, len, NULL) < 0)
        return;
    for (size_t i = 0; i < len / SNAP_RUN_BYTES; i++) {
        struct snap_run run = snap_run_at(index, i);
        uint64_t bytes = (uint64_t)run.count * SNAP_PAGE;
        if (!range_ok((uint64_t)run.page * SNAP_PAGE, bytes, info->mem_bytes) ||
            (!(run.flags & SNAP_RUN_ZERO) && !range_ok(run.off, bytes, info->file_len)))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snap_info info;
    if (size < SNAP_PAGE) {
        walk_state(data, size);
        return 0;
    }
    uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    memcpy(copy + AT_MAGIC, SNAP_MAGIC, 8);
    put_le32(copy + AT_VERSION, SNAP_VERSION);
    uint64_t file_len = get_le64(copy + AT_FILE_LEN);
    put_le32(copy + AT_HEADER_CRC, crc32c(0, copy, AT_HEADER_CRC));
    if (snap_parse_header(copy, size, file_len, &info, NULL) == 0) {
        for (unsigned i = 0; i < info.nsections; i++) {
            const struct snap_section *s = &info.sections[i];
            if (!range_ok(s->off, s->len, file_len))
                abort();
        }
        if (!range_ok(info.data_off, info.data_len, file_len))
            abort();
        size_t index = (size - SNAP_PAGE) / SNAP_RUN_BYTES * SNAP_RUN_BYTES;
        walk_index(&info, copy + SNAP_PAGE, index);
    }
    free(copy);
    return 0;
}
