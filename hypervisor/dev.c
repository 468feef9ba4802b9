// SPDX-License-Identifier: Apache-2.0
/* Devices and their registers; see dev.h. Address, size and value come from the guest. */
#include "dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "debug/trace.h"
#include "devices.h"

static int add(struct bus *b, struct dev *d, struct err *e)
{
    unsigned at = b->n;
    if (b->n == BUS_DEVS_MAX)
        return err_set(e, ENOSPC, "more than %u devices", BUS_DEVS_MAX);
    while (at > 0 && b->devs[at - 1]->base > d->base)
        at--;
    if ((at > 0 && b->devs[at - 1]->base + b->devs[at - 1]->ops->len > d->base) ||
        (at < b->n && b->devs[at]->base < d->base + d->ops->len))
        return err_set(e, EEXIST, "two devices at 0x%llx", (unsigned long long)d->base);
    memmove(&b->devs[at + 1], &b->devs[at], (b->n++ - at) * sizeof b->devs[0]);
    b->devs[at] = d;
    return 0;
}

int dev_make(struct dev **ret, const struct dev_ops *ops, struct dev_order *o, struct err *e)
{
    struct dev *d = arena_new(o->env.arena, ops->size);
    if (!d)
        return err_sys(e, ENOMEM, "make %s", ops->name);
    d->ops = ops;
    d->env = o->env;
    d->base = ops->base;
    d->spi = ops->spi;
    int r = ops->make ? ops->make(d, o, e) : 0;
    if (r < 0) {
        arena_free(o->env.arena, d);
        return r;
    }
    trace_device(ops->name, d->base, ops->len, d->spi);
    *ret = d;
    return ops->read ? add(o->env.bus, d, e) : 0;
}

static struct dev *find(const struct bus *b, uint64_t gpa, unsigned size)
{
    unsigned lo = 0, hi = b->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        struct dev *d = b->devs[mid];
        if (gpa < d->base)
            hi = mid;
        else if (gpa - d->base >= d->ops->len)
            lo = mid + 1;
        else
            return range_ok(gpa - d->base, size, d->ops->len) ? d : NULL;
    }
    return NULL;
}

uint64_t bus_read(struct bus *b, uint64_t gpa, unsigned size)
{
    struct dev *d = find(b, gpa, size);
    uint64_t val = d ? d->ops->read(d, gpa - d->base, size) : 0;
    if (!d)
        b->misses++;
    trace_access(false, gpa, size, val);
    return val;
}

void bus_write(struct bus *b, uint64_t gpa, unsigned size, uint64_t val)
{
    struct dev *d = find(b, gpa, size);
    trace_access(true, gpa, size, val);
    if (!d || !d->ops->write || !d->ops->write(d, gpa - d->base, size, val))
        b->misses++;
}
