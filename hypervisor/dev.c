// SPDX-License-Identifier: Apache-2.0
/* Devices and their registers; see dev.h. Address, size and value come from the guest. */
#include "dev.h"

#include <errno.h>

#include "debug/trace.h"

int dev_init(struct dev *d, const struct dev_ops *ops, const struct dev_env *env, uint64_t base,
             uint64_t len, uint32_t spi, struct err *e)
{
    struct bus *b = env->bus;
    unsigned at = b->n;
    *d = (struct dev){.ops = ops, .env = *env, .base = base, .len = len, .spi = spi};
    trace_device(ops->name, base, len, spi);
    if (!ops->read)
        return 0;
    if (b->n == BUS_DEVS_MAX)
        return err_set(e, ENOSPC, "more than %u devices", BUS_DEVS_MAX);
    while (at > 0 && b->devs[at - 1]->base > base)
        at--;
    if ((at > 0 && b->devs[at - 1]->base + b->devs[at - 1]->len > base) ||
        (at < b->n && b->devs[at]->base < base + len))
        return err_set(e, EEXIST, "two devices at 0x%llx", (unsigned long long)base);
    memmove(&b->devs[at + 1], &b->devs[at], (b->n++ - at) * sizeof b->devs[0]);
    b->devs[at] = d;
    return 0;
}

static struct dev *find(const struct bus *b, uint64_t gpa, unsigned size)
{
    unsigned lo = 0, hi = b->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        struct dev *d = b->devs[mid];
        if (gpa < d->base)
            hi = mid;
        else if (gpa - d->base >= d->len)
            lo = mid + 1;
        else
            return range_ok(gpa - d->base, size, d->len) ? d : NULL;
    }
    return NULL;
}

uint64_t bus_read(struct bus *b, uint64_t gpa, unsigned size)
{
    struct dev *d = find(b, gpa, size);
    uint64_t val = d ? d->ops->read(d, gpa - d->base, size) : 0;
    b->misses += !d;
    trace_access(false, gpa, size, val);
    return val;
}

void bus_write(struct bus *b, uint64_t gpa, unsigned size, uint64_t val)
{
    struct dev *d = find(b, gpa, size);
    trace_access(true, gpa, size, val);
    b->misses += !d || !d->ops->write || !d->ops->write(d, gpa - d->base, size, val);
}
