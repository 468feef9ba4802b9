// SPDX-License-Identifier: Apache-2.0
/* Runs of pages: a snapshot's index, and the list of an image's own pages; see snapfile.h. The
 * bytes may be forged. */
#include <errno.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "snapfile.h"

struct snap_run snap_run_at(const void *index, size_t i)
{
    const uint8_t *p = (const uint8_t *)index + i * SNAP_RUN_BYTES;
    return (struct snap_run){.page = get_le32(p),
                             .count = get_le32(p + 4),
                             .off = get_le64(p + 8),
                             .crc = get_le32(p + 16),
                             .flags = get_le32(p + 20)};
}

size_t snap_find_run(const void *index, size_t nruns, uint64_t page)
{
    size_t from = 0, to = nruns;
    while (from < to) {
        size_t i = from + (to - from) / 2;
        struct snap_run r = snap_run_at(index, i);
        if ((uint64_t)r.page + r.count <= page)
            from = i + 1;
        else
            to = i;
    }
    return from;
}

struct snap_run snap_run_joined(const struct snap_file *f, size_t *i)
{
    struct snap_run run = snap_run_at(f->index, (*i)++);
    while (*i < f->nruns) {
        struct snap_run next = snap_run_at(f->index, *i);
        bool zero = run.flags & SNAP_RUN_ZERO;
        if (next.page != run.page + run.count || next.flags != run.flags ||
            (!zero && next.off != run.off + (uint64_t)run.count * SNAP_PAGE))
            break;
        run.count += next.count;
        ++*i;
    }
    return run;
}

/* What runs add up to. */
struct sums {
    uint64_t stored, zero;
};

/* Runs are sorted and disjoint. In a full snapshot a page's place follows from its number; in
 * a difference the data is packed in the order of the runs. */
static int check_runs(const struct snap_info *info, const void *bytes, size_t len,
                      struct sums *sums, struct err *e)
{
    bool full = info->flags & SNAP_FULL;
    uint64_t pages = info->mem_bytes / SNAP_PAGE, next = 0, stored = 0, zero = 0, own = 0;
    uint64_t first = info->layer.off / SNAP_PAGE, end = first + info->layer.len / SNAP_PAGE;
    for (size_t i = 0; i < len / SNAP_RUN_BYTES; i++) {
        struct snap_run r = snap_run_at(bytes, i);
        bool is_zero = r.flags & SNAP_RUN_ZERO;
        if ((r.flags & ~SNAP_RUN_ZERO) || (is_zero && full))
            return err_set(e, EBADMSG, "run %zu has flags %x", i, r.flags);
        if (r.count == 0 || r.count > SNAP_RUN_MAX || r.page < next ||
            !range_ok(r.page, r.count, pages))
            return err_set(e, EBADMSG, "run %zu (page %u, %u pages) is out of order or range",
                           i, r.page, r.count);
        uint64_t want = is_zero ? 0
                        : full  ? info->data_off + (uint64_t)r.page * SNAP_PAGE
                                : info->data_off + stored * SNAP_PAGE;
        if (r.off != want)
            return err_set(e, EBADMSG, "run %zu has its data at the wrong place", i);
        next = (uint64_t)r.page + r.count;
        *(is_zero ? &zero : &stored) += r.count;
        if (r.page < end && next > first)
            own += MIN(next, end) - MAX((uint64_t)r.page, first);
    }
    if (own != info->layer_own)
        return err_set(e, EBADMSG, "the pages in the layer's place do not add up");
    *sums = (struct sums){stored, zero};
    return 0;
}

int snap_check_index(const struct snap_info *info, const void *bytes, size_t len, struct err *e)
{
    struct sums sums;
    int r = check_runs(info, bytes, len, &sums, e);
    if (r == 0 && (sums.stored != info->pages_stored || sums.zero != info->pages_zero ||
                   (!(info->flags & SNAP_FULL) && sums.stored * SNAP_PAGE != info->data_len)))
        r = err_set(e, EBADMSG, "the page index does not add up");
    return r;
}

int snap_check_own(const struct snap_info *info, const void *bytes, size_t len, struct err *e)
{
    struct sums sums;
    return check_runs(info, bytes, len, &sums, e);
}
