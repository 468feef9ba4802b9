// SPDX-License-Identifier: Apache-2.0
/* Guest addresses through tables as Linux makes them, and through broken ones. */
#include "../../hypervisor/debug/pagewalk.h"

#include <errno.h>

#include "../tap.h"

#define TABLES 8u
#define BASE   0x40000000ull
#define PAGE   4096u
#define VALID  1ull
#define TABLE  3ull                  /* and page */
#define TAIL   0x0040000000000700ull /* attributes around the address */

static uint64_t tables[TABLES][512];
static unsigned reads;

static bool read_entry(void *ctx, uint64_t pa, uint64_t *ret)
{
    (void)ctx;
    reads++;
    if (pa < BASE || pa >= BASE + sizeof tables || pa % 8)
        return false;
    *ret = tables[(pa - BASE) / PAGE][pa % PAGE / 8];
    return true;
}

static uint64_t table(unsigned i)
{
    return BASE + i * PAGE;
}

/* 48 bits above and below, 4 KiB granules, tags allowed below. */
#define TCR (16ull | 16ull << 16 | 2ull << 30 | 1ull << 37)
static struct walk_regs regs = {
    .sctlr = 1, .tcr = TCR, .ttbr0 = BASE + 4 * PAGE + 1, .ttbr1 = BASE | 7ull << 48};
static struct walk w;

static int walk(uint64_t va)
{
    reads = 0;
    memset(&w, 0, sizeof w);
    return walk_va(&regs, va, read_entry, NULL, &w);
}

static void fill(void)
{
    memset(tables, 0, sizeof tables);
    tables[0][256] = table(1) | TABLE; /* 0xffff800000000000 */
    tables[1][2] = table(2) | TABLE;   /* + 0x80000000 */
    tables[1][3] = 0x80000000 | TAIL | VALID;
    tables[2][0] = 0x40200000 | TAIL | VALID;
    tables[2][1] = table(3) | TABLE;
    tables[3][5] = 0x41234000 | TAIL | TABLE;
    tables[3][6] = 0x41234000 | TAIL | VALID; /* no page */
    tables[4][0] = table(1) | TABLE;
}

TEST(off)
{
    struct walk_regs none = {.sctlr = 0};
    CHECK(walk_va(&none, 0x40200010, read_entry, NULL, &w) == 0);
    CHECK(w.pa == 0x40200010 && w.left == PAGE - 0x10);
}

TEST(pages_and_blocks)
{
    fill();
    CHECK(walk(0xffff800080205678) == 0 && w.pa == 0x41234678 && w.left == PAGE - 0x678);
    CHECK(reads == 4);
    CHECK(walk(0xffff800080001234) == 0 && w.pa == 0x40201234 && w.left == (2 << 20) - 0x1234);
    CHECK(walk(0xffff8000c0000001) == 0 && w.pa == 0x80000001 && w.left == (1 << 30) - 1);
    /* The same below, through TTBR0. */
    CHECK(walk(0x80205000) == 0 && w.pa == 0x41234000);
}

TEST(not_mapped)
{
    fill();
    CHECK(walk(0xffff800080206000) == -EFAULT); /* a block where a page has to be */
    CHECK(walk(0xffff800080207000) == -EFAULT);
    CHECK(walk(0xffff000000000000) == -EFAULT);
    tables[0][256] = 0x40000000 | VALID; /* no blocks of 512 GiB */
    CHECK(walk(0xffff800080001234) == -EFAULT);
    tables[0][256] = 0x99999000 | TABLE; /* a table outside RAM */
    CHECK(walk(0xffff800080001234) == -EFAULT);
}

TEST(addresses)
{
    fill();
    CHECK(walk(0x8000000000000000 | 0x80205000) == 0); /* a tag */
    CHECK(walk(0x0001000080205000) == -EFAULT);
    CHECK(walk(0xfffe800080205000) == -EFAULT);
    CHECK(walk(0x7fff800080205000) == -EFAULT); /* no tags above */
}

TEST(sizes)
{
    struct walk_regs all = regs;
    fill();
    regs.tcr = TCR + (25 - 16); /* 39 bits: begins at level 1 */
    regs.ttbr0 = table(1);
    CHECK(walk(0x80205000) == 0 && w.pa == 0x41234000 && reads == 3);
    CHECK(walk(0x8080205000) == -EFAULT);
    regs.tcr = TCR + (39 - 16); /* 25 bits: level 2, 16 entries */
    regs.ttbr0 = table(2);
    CHECK(walk(0x00205000) == 0 && w.pa == 0x41234000 && reads == 2);
    regs.tcr = TCR + (40 - 16);
    CHECK(walk(0x1000) == -ENOTSUP);
    regs.tcr = TCR - 1;
    CHECK(walk(0x1000) == -ENOTSUP);
    regs.tcr = TCR | 1 << 14; /* 64 KiB */
    CHECK(walk(0x1000) == -ENOTSUP);
    regs.tcr = TCR | 1 << 7; /* EPD0 */
    CHECK(walk(0x1000) == -EFAULT);
    regs = all;
}

/* Any registers and tables end, and stay inside the page they name. */
TEST(anything)
{
    uint64_t s = 88172645463325252ull;
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t *words[] = {&regs.tcr, &regs.ttbr0, &regs.ttbr1,
                             &tables[round % TABLES][round % 512]};
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        *words[round % 4] = s;
        if (round % 3 == 0)
            regs.tcr = TCR + s % 24;
        if (walk(s * 2862933555777941757ull) == 0)
            CHECK(w.left > 0 && w.pa >> 48 == 0);
        CHECK(reads <= 4);
    }
}

int main(void)
{
    RUN(off);
    RUN(pages_and_blocks);
    RUN(not_mapped);
    RUN(addresses);
    RUN(sizes);
    RUN(anything);
    return TAP_DONE();
}
