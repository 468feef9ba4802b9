// SPDX-License-Identifier: Apache-2.0
/* The guest's translation tables; see pagewalk.h. */
#include "pagewalk.h"

#include <errno.h>

#define SCTLR_M    1u
#define TG0_4K     0u
#define TG1_4K     2u
#define PAGE_SHIFT 12u
#define LEVEL_BITS 9u
#define ADDR_MASK  0x0000fffffffff000ull

enum { DESC_VALID = 1, DESC_TABLE = 2 };

struct half { /* of the address space: what TTBR0 or TTBR1 translates */
    uint64_t table;
    unsigned bits; /* of a virtual address */
    bool high, ignore_top, enabled, granule_4k;
};

static struct half half_of(const struct walk_regs *r, uint64_t va)
{
    struct half h = {.high = va >> 55 & 1};
    uint64_t t = r->tcr;
    h.bits = 64 - (unsigned)(t >> (h.high ? 16 : 0) & 0x3f);
    h.enabled = !(t >> (h.high ? 23 : 7) & 1);
    h.ignore_top = t >> (h.high ? 38 : 37) & 1;
    h.granule_4k = h.high ? (t >> 30 & 3) == TG1_4K : (t >> 14 & 3) == TG0_4K;
    /* The ASID is on top, CnP below; a table of few entries may lie inside a page. */
    h.table = (h.high ? r->ttbr1 : r->ttbr0) & 0x0000fffffffffffeull;
    return h;
}

/* Above `bits` an address is all zeros or all ones, but for a top byte that may be a tag. */
static bool canonical(const struct half *h, uint64_t va)
{
    uint64_t top = h->ignore_top ? 0x00ffffffffffffffull : UINT64_MAX;
    uint64_t upper = top & ~((1ull << h->bits) - 1);
    return (va & upper) == (h->high ? upper : 0);
}

int walk_va(const struct walk_regs *r, uint64_t va, walk_read read, void *ctx, struct walk *ret)
{
    if (!(r->sctlr & SCTLR_M)) {
        ret->pa = va;
        ret->left = (1ull << PAGE_SHIFT) - (va & ((1ull << PAGE_SHIFT) - 1));
        return 0;
    }
    struct half h = half_of(r, va);
    if (!h.enabled)
        return -EFAULT;
    if (!h.granule_4k || h.bits < 25 || h.bits > 48)
        return -ENOTSUP;
    if (!canonical(&h, va))
        return -EFAULT;
    unsigned level = 3 - (h.bits - PAGE_SHIFT - 1) / LEVEL_BITS;
    uint64_t in = va & ((1ull << h.bits) - 1), table = h.table, desc;
    for (;; level++) {
        unsigned shift = PAGE_SHIFT + LEVEL_BITS * (3 - level);
        /* The first table may have fewer than 512 entries: `in` has no more bits. */
        if (!read(ctx, table + (in >> shift) * 8, &desc) || !(desc & DESC_VALID))
            return -EFAULT;
        in &= (1ull << shift) - 1;
        bool table_or_page = desc & DESC_TABLE;
        if (level == 3 || !table_or_page) {
            if (level == 0 || (level == 3 && !table_or_page))
                return -EFAULT;
            ret->pa = (desc & ADDR_MASK & ~((1ull << shift) - 1)) + in;
            ret->left = (1ull << shift) - in;
            return 0;
        }
        table = desc & ADDR_MASK;
    }
}
