// SPDX-License-Identifier: Apache-2.0
/* MMIO dispatch; see bus.h. Address, length and value come from the guest. */
#include "bus.h"

#include <errno.h>

#include "base/num.h"
#include "debug/trace.h"

int bus_map(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *ctx,
            struct err *e)
{
    uint64_t end;
    if (b->n == BUS_RANGES_MAX)
        return err_set(e, ENOSPC, "more than %u devices", BUS_RANGES_MAX);
    if (len == 0 || !num_add(base, len, &end))
        return err_set(e, EINVAL, "bad device range");
    unsigned at = b->n;
    while (at > 0 && b->ranges[at - 1].base > base)
        at--;
    if ((at > 0 && b->ranges[at - 1].base + b->ranges[at - 1].len > base) ||
        (at < b->n && b->ranges[at].base < end))
        return err_set(e, EEXIST, "two devices at 0x%llx", (unsigned long long)base);
    memmove(&b->ranges[at + 1], &b->ranges[at], (b->n - at) * sizeof b->ranges[0]);
    b->ranges[at] = (struct bus_range){.base = base, .len = len, .ops = ops, .ctx = ctx};
    b->n++;
    return 0;
}

static const struct bus_range *find(const struct bus *b, uint64_t gpa, unsigned len)
{
    unsigned lo = 0, hi = b->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct bus_range *r = &b->ranges[mid];
        if (gpa < r->base)
            hi = mid;
        else if (gpa - r->base >= r->len)
            lo = mid + 1;
        else
            return range_ok(gpa - r->base, len, r->len) ? r : NULL;
    }
    return NULL;
}

uint64_t bus_read(struct bus *b, uint64_t gpa, unsigned len)
{
    const struct bus_range *r = find(b, gpa, len);
    uint64_t val = r ? r->ops->read(r->ctx, gpa - r->base, len) : 0;
    b->misses += !r;
    trace_access(false, gpa, len, val);
    return val;
}

void bus_write(struct bus *b, uint64_t gpa, unsigned len, uint64_t val)
{
    const struct bus_range *r = find(b, gpa, len);
    trace_access(true, gpa, len, val);
    if (r && r->ops->write)
        r->ops->write(r->ctx, gpa - r->base, len, val);
    else
        b->misses++;
}
