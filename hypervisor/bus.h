// SPDX-License-Identifier: Apache-2.0
/*
 * MMIO dispatch: a sorted table of ranges. Filled before the first guest
 * instruction, constant afterwards, so vCPU threads read it without a lock.
 * Accesses outside every range read as zero and are counted.
 */
#ifndef DORMOUSE_BUS_H
#define DORMOUSE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct bus_ops {
    /* off < range length; len is 1, 2, 4 or 8; off+len may cross the end (then the
     * bus has refused it already). Called on a vCPU thread. */
    uint64_t (*read)(void *ctx, uint64_t off, unsigned len);
    void (*write)(void *ctx, uint64_t off, unsigned len, uint64_t val); /* NULL: read-only */
};

#define BUS_RANGES_MAX 32

struct bus {
    struct bus_range {
        uint64_t base, len;
        const struct bus_ops *ops;
        void *ctx;
    } ranges[BUS_RANGES_MAX];
    unsigned n;
    _Atomic uint64_t misses;
};

int bus_map(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *ctx,
            struct err *e);
uint64_t bus_read(struct bus *b, uint64_t gpa, unsigned len);
void bus_write(struct bus *b, uint64_t gpa, unsigned len, uint64_t val);

#endif
