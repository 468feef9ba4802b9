// SPDX-License-Identifier: Apache-2.0
/*
 * Several disk layers into one, so that a chain of frozen layers stays short.
 * Called by the daemon on layers that nobody writes to; they may be forged.
 */
#ifndef DORMOUSE_SNAPSHOT_OVERMERGE_H
#define DORMOUSE_SNAPSHOT_OVERMERGE_H

#include "overlay.h"

/* What a disk sees of `n` layers, bottom first, of one size, into an empty file: a layer that
 * can stand in their place. Does not sync. ret_blocks (may be NULL): how many it holds. */
int overlay_merge(const struct snap_io *io, const int *fds, unsigned n, int out,
                  uint64_t *ret_blocks, struct err *e);

#endif
