// SPDX-License-Identifier: Apache-2.0
/* Joining neighbours in a chain of disk layers; see chain.h. */
#include "chain.h"

#include <string.h>

bool chain_choose(const struct store_disk *d, const uint64_t *bytes, uint32_t limit,
                  struct chain_part *ret, uint64_t *ret_bytes)
{
    if (limit == 0 || d->n <= limit || d->n > DISK_FROZEN_MAX)
        return false;
    uint32_t count = d->n - limit + 1, best = 0;
    uint64_t least = UINT64_MAX;
    for (uint32_t at = 0; at + count <= d->n; at++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < count; i++)
            sum += bytes[at + i];
        if (sum < least) {
            least = sum;
            best = at;
        }
    }
    *ret = (struct chain_part){.n = count};
    memcpy(ret->layers, d->layers[best], count * sizeof d->layers[0]);
    *ret_bytes = least;
    return true;
}

bool chain_join(struct store_disk *d, const struct chain_part *from, const char *to)
{
    if (from->n == 0 || from->n > d->n || d->n > DISK_FROZEN_MAX)
        return false;
    for (uint32_t at = 0; at + from->n <= d->n; at++) {
        uint32_t i = 0;
        while (i < from->n && strcmp(d->layers[at + i], from->layers[i]) == 0)
            i++;
        if (i < from->n)
            continue;
        uint32_t behind = d->n - at - from->n;
        memmove(d->layers[at + 1], d->layers[at + from->n], behind * sizeof d->layers[0]);
        memset(d->layers[at], 0, LAYER_CAP);
        memcpy(d->layers[at], to, strnlen(to, LAYER_CAP - 1));
        d->n = at + 1 + behind;
        return true;
    }
    return false;
}
