// SPDX-License-Identifier: Apache-2.0
/*
 * Which frozen layers of a disk are joined when there are too many of them. Pure
 * functions; used before a checkpoint that has no room for one more layer, and
 * by the background job that sees to it that this does not happen (fleet_flatten.c).
 */
#ifndef DORMOUSE_API_CHAIN_H
#define DORMOUSE_API_CHAIN_H

#include "store_checkpoint.h"

/* Neighbours of a chain, bottom first. */
struct chain_part {
    uint32_t n;
    char layers[DISK_FROZEN_MAX][LAYER_CAP];
};

/* False: it has no more than `limit` (at least 1) layers. Else the neighbours to join so that
 * it has that many: those that hold the least, as what is large should not be copied again and
 * again. bytes: what each layer holds. */
bool chain_choose(const struct store_disk *d, const uint64_t *bytes, uint32_t limit,
                  struct chain_part *ret, uint64_t *ret_bytes);
/* Puts `to` in the place of these neighbours; false: they do not lie there one on the other. */
bool chain_join(struct store_disk *d, const struct chain_part *from, const char *to);

#endif
