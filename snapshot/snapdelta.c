// SPDX-License-Identifier: Apache-2.0
/* Pages as what differs from the image's; see snapfile.h. The bytes may be forged, and may even
 * change while they are read: each is looked at once. */
#include <errno.h>
#include <string.h>

#include "../hypervisor/base/num.h"
#include "snapfile.h"

int snap_next_delta(const void *data, size_t len, size_t *pos, uint64_t pages,
                    struct snap_delta *d, struct err *e)
{
    const uint8_t *p = data;
    size_t units = 0;
    if (*pos == len)
        return 0;
    if (!range_ok(*pos, SNAP_DELTA_HEAD, len))
        return err_set(e, EBADMSG, "the page deltas end inside one");
    d->page = get_le32(p + *pos);
    memcpy(d->map, p + *pos + 4, sizeof d->map);
    if (d->page < d->next || d->page >= pages)
        return err_set(e, EBADMSG, "the delta of page %u is out of order or range", d->page);
    for (unsigned i = 0; i < SNAP_DELTA_MAP; i += 8)
        units += (size_t)__builtin_popcountll(get_le64(d->map + i));
    if (!range_ok(*pos + SNAP_DELTA_HEAD, units * SNAP_UNIT, len))
        return err_set(e, EBADMSG, "the delta of page %u reaches beyond the end", d->page);
    d->units = p + *pos + SNAP_DELTA_HEAD;
    d->next = d->page + 1ull;
    *pos += SNAP_DELTA_HEAD + units * SNAP_UNIT;
    return 1;
}

void snap_delta_apply(const struct snap_delta *d, uint8_t *page)
{
    const uint8_t *from = d->units;
    for (unsigned i = 0; i < SNAP_DELTA_MAP; i += 8) {
        for (uint64_t bits = get_le64(d->map + i); bits; bits &= bits - 1) {
            unsigned unit = i * 8 + (unsigned)__builtin_ctzll(bits);
            memcpy(page + unit * SNAP_UNIT, from, SNAP_UNIT);
            from += SNAP_UNIT;
        }
    }
}

int snap_deltas_apply(const struct snap_file *f, uint8_t *mem, uint64_t mem_bytes,
                      struct err *e)
{
    struct snap_delta d = {.next = 0};
    size_t pos = 0;
    int r;
    while ((r = snap_next_delta(f->deltas, f->deltas_len, &pos, mem_bytes / SNAP_PAGE, &d, e)) >
           0)
        snap_delta_apply(&d, mem + (uint64_t)d.page * SNAP_PAGE);
    return r;
}
