// SPDX-License-Identifier: Apache-2.0
/* Several disk layers into one; see overmerge.h. */
#include "overmerge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "memscan.h"

#define LAYERS_MAX 8u
#define PIECE      256u /* blocks copied at once */

struct merge {
    const struct snap_io *io;
    struct overlay *from[LAYERS_MAX], *to;
    unsigned n;
    uint8_t *piece;
    const struct overlay_pace *pace;
    uint64_t unsynced;
};

static int keep_pace(struct merge *m, uint64_t count, struct err *e)
{
    if (!m->pace)
        return 0;
    if (m->pace->stop && m->pace->stop(m->pace->ctx))
        return err_set(e, ECANCELED, "the merge of disk layers is not wanted any more");
    m->unsynced += count * OVERLAY_BLOCK;
    if (m->unsynced < m->pace->sync_bytes)
        return 0;
    m->unsynced = 0;
    int r = m->io->sync(m->io->ctx, overlay_fd(m->to));
    return r < 0 ? err_sys(e, -r, "make a disk layer durable") : 0;
}

/* Zeros need no place: a marked block in a hole is zero. */
static int write_piece(struct merge *m, uint64_t block, uint64_t count, struct err *e)
{
    for (uint64_t i = 0; i < count;) {
        uint64_t k = i;
        while (k < count && !page_is_zero(m->piece + k * OVERLAY_BLOCK))
            k++;
        if (k > i) {
            int r =
                snap_io_write_full(m->io, overlay_fd(m->to), m->piece + i * OVERLAY_BLOCK,
                                   (k - i) * OVERLAY_BLOCK, overlay_offset(m->to, block + i));
            if (r < 0)
                return err_sys(e, -r, "write a disk layer");
        }
        i = k + (k < count);
    }
    overlay_set(m->to, block, count);
    return 0;
}

static int copy(struct merge *m, const struct overlay *from, uint64_t block, uint64_t count,
                struct err *e)
{
    int r = fd_pread_full(overlay_fd(from), m->piece, count * OVERLAY_BLOCK,
                          overlay_offset(from, block));
    return r < 0 ? err_sys(e, -r, "read a disk layer") : write_piece(m, block, count, e);
}

static int merge_all(struct merge *m, uint64_t *ret_blocks, struct err *e)
{
    uint64_t blocks = overlay_size(m->to) / OVERLAY_BLOCK, held = 0;
    for (uint64_t b = 0; b < blocks;) {
        uint64_t run = blocks - b;
        const struct overlay *from = NULL;
        for (unsigned i = m->n; i-- > 0 && !from;) {
            run = overlay_run(m->from[i], b, run);
            if (overlay_has(m->from[i], b))
                from = m->from[i];
        }
        if (from) {
            run = MIN(run, (uint64_t)PIECE);
            int r = copy(m, from, b, run, e);
            if (r == 0)
                r = keep_pace(m, run, e);
            if (r < 0)
                return r;
            held += run;
        }
        b += run;
    }
    if (ret_blocks)
        *ret_blocks = held;
    return 0;
}

/* The marks: overlay_flush() writes straight to the file, these go through `io`. */
static int write_marks(struct merge *m, int out, struct err *e)
{
    uint64_t bytes = overlay_offset(m->to, 0) - OVERLAY_BLOCK;
    uint64_t blocks = overlay_size(m->to) / OVERLAY_BLOCK;
    for (uint64_t at = 0; at < bytes; at += OVERLAY_BLOCK) {
        const uint64_t bits = OVERLAY_BLOCK * 8ull, left = blocks - MIN(blocks, at * 8);
        if (left == 0 || (!overlay_has(m->to, at * 8) &&
                          overlay_run(m->to, at * 8, bits) == MIN(bits, left)))
            continue; /* nearly all of a large disk */
        _Alignas(64) uint8_t chunk[OVERLAY_BLOCK] = {0};
        for (uint64_t b = at * 8; b < (at + OVERLAY_BLOCK) * 8; b++)
            chunk[b / 8 - at] |= (uint8_t)(overlay_has(m->to, b) << b % 8);
        if (page_is_zero(chunk))
            continue;
        int r = snap_io_write_full(m->io, out, chunk, sizeof chunk, OVERLAY_BLOCK + at);
        if (r < 0)
            return err_sys(e, -r, "write a disk layer's bitmap");
    }
    return 0;
}

int overlay_merge(const struct snap_io *io, const int *fds, unsigned n, int out,
                  const struct overlay_pace *pace, uint64_t *ret_blocks, struct err *e)
{
    struct merge m = {.io = io, .pace = pace};
    AUTO_FREE uint8_t *piece = aligned_alloc(OVERLAY_BLOCK, (size_t)PIECE * OVERLAY_BLOCK);
    int r = 0;
    if (!piece)
        return err_sys(e, ENOMEM, "merge disk layers");
    if (n < 1 || n > LAYERS_MAX)
        return err_set(e, EINVAL, "%u disk layers to merge: want 1 to %u", n, LAYERS_MAX);
    m.piece = piece;
    for (unsigned i = 0; i < n && r == 0; i++) {
        if ((r = overlay_open(&m.from[i], fds[i], false, e)) == 0)
            m.n++;
        if (r == 0 && overlay_size(m.from[i]) != overlay_size(m.from[0]))
            r = err_set(e, EBADMSG, "layers of disks of different size cannot be merged");
    }
    if (r == 0)
        r = overlay_create_io(io, out, overlay_size(m.from[0]), e);
    if (r == 0)
        r = overlay_open(&m.to, out, true, e);
    if (r == 0)
        r = merge_all(&m, ret_blocks, e);
    if (r == 0)
        r = write_marks(&m, out, e);
    for (unsigned i = 0; i < m.n; i++)
        overlay_free(m.from[i]);
    overlay_free(m.to);
    return r;
}
