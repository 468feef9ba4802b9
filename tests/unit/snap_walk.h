// SPDX-License-Identifier: Apache-2.0
/*
 * What must be true of every snapshot file that the reader accepts, whoever
 * wrote it: shared by the forgery test and the fuzz targets. Returns what is
 * wrong, or NULL; memory errors are the sanitizer's to find.
 */
#ifndef DORMOUSE_TESTS_SNAP_WALK_H
#define DORMOUSE_TESTS_SNAP_WALK_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/num.h"
#include "../../snapshot/devstate.h"
#include "../../snapshot/snapfile.h"
#include "../../snapshot/snapstate.h"

/* Everything that a tool or a machine may ask of the device state. */
static inline void walk_state(const uint8_t *state, size_t len)
{
    struct dstate_reader block;
    size_t pos = 0;
    volatile uint8_t sum = 0;
    while (dr_next(state, len, &pos, &block, NULL) > 0) {
        const void *p;
        size_t n, at = 0;
        uint16_t id;
        uint32_t v32;
        uint64_t v64;
        dr_u64(&block, 1, &v64, NULL);
        dr_u32(&block, 2, &v32, NULL);
        while (dr_next_field(&block, &at, &id, &p, &n, NULL) > 0) {
            struct snap_reg reg;
            struct snap_gic_word word;
            for (size_t i = 0; i < n; i++)
                sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
            for (size_t i = 0; snap_next_reg(p, n, &i, &reg, NULL) > 0;)
                sum = (uint8_t)(sum + ((const uint8_t *)reg.value)[reg.size - 1]);
            for (size_t i = 0; snap_next_gic_word(p, n, &i, &word, NULL) > 0;)
                sum = (uint8_t)(sum + (uint8_t)word.value);
        }
    }
}

static inline const char *walk_runs(const struct snap_info *info, const uint8_t *index,
                                    size_t nruns)
{
    uint64_t next = 0, stored = 0, zero = 0;
    for (size_t i = 0; i < nruns; i++) {
        struct snap_run run = snap_run_at(index, i);
        uint64_t bytes = (uint64_t)run.count * SNAP_PAGE;
        bool none = run.flags & SNAP_RUN_ZERO;
        if (run.count == 0 || run.page < next)
            return "runs overlap or are out of order";
        if (!range_ok((uint64_t)run.page * SNAP_PAGE, bytes, info->mem_bytes))
            return "a run lies outside memory";
        if (!none && (run.off < info->data_off ||
                      !range_ok(run.off - info->data_off, bytes, info->data_len)))
            return "a run has its data outside the page data";
        next = (uint64_t)run.page + run.count;
        *(none ? &zero : &stored) += run.count;
    }
    return stored == info->pages_stored && zero == info->pages_zero ? NULL
                                                                    : "pages do not add up";
}

static inline const char *walk_file(const struct snap_file *f, uint64_t file_len)
{
    const struct snap_info *s = &f->info;
    if (s->version != SNAP_VERSION || s->file_len != file_len)
        return "wrong version or length";
    if (s->mem_bytes == 0 || s->mem_bytes > SNAP_MEM_MAX)
        return "memory out of range";
    if (s->data_off < SNAP_PAGE || !range_ok(s->data_off, s->data_len, file_len))
        return "page data outside the file";
    if ((s->flags & SNAP_FULL) && s->data_len != s->mem_bytes)
        return "an image without the whole memory";
    for (unsigned i = 0; i < s->nsections; i++) {
        if (!range_ok(s->sections[i].off, s->sections[i].len, file_len))
            return "section outside the file";
    }
    if (dr_check(f->state, f->state_len, NULL) < 0)
        return "device state out of shape";
    walk_state(f->state, f->state_len);
    struct snap_delta d = {.next = 0};
    static uint8_t page[SNAP_PAGE];
    size_t pos = 0;
    if (f->deltas_len && !(s->flags & SNAP_DELTAS))
        return "deltas without their flag";
    while (snap_next_delta(f->deltas, f->deltas_len, &pos, s->mem_bytes / SNAP_PAGE, &d, NULL) >
           0)
        snap_delta_apply(&d, page);
    if (pos != f->deltas_len)
        return "deltas that end too early";
    return walk_runs(s, f->index, f->nruns);
}

#endif
