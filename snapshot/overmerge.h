// SPDX-License-Identifier: Apache-2.0
/*
 * Several disk layers into one, so that a chain of frozen layers stays short.
 * Called by the daemon on layers that nobody writes to; they may be forged.
 */
#ifndef DORMOUSE_SNAPSHOT_OVERMERGE_H
#define DORMOUSE_SNAPSHOT_OVERMERGE_H

#include "overlay.h"

/* How a merge that nobody waits for keeps out of the way of others. */
struct overlay_pace {
    uint64_t sync_bytes;     /* synced whenever that much was written: no sync has much to do */
    bool (*stop)(void *ctx); /* asked before each piece: true, it is not wanted any more */
    void *ctx;
};

/* What a disk sees of `n` layers, bottom first, of one size, into an empty file: a layer that
 * can stand in their place. The end is not synced. pace NULL: at once. ret_blocks (may be
 * NULL): how many it holds. -ECANCELED: stopped. */
int overlay_merge(const struct snap_io *io, const int *fds, unsigned n, int out,
                  const struct overlay_pace *pace, uint64_t *ret_blocks, struct err *e);

#endif
