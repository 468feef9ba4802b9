// SPDX-License-Identifier: Apache-2.0
/* What a guest's kernel says of its free memory, when it is right and when it is not. */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/num.h"
#include "../../snapshot/freemap.h"
#include "../../snapshot/snapfile.h"
#include "../tap.h"

#define BASE   0x40000000u
#define KERNEL 0x200000u
#define MEM    (6u << 20)
#define PAGES  (MEM / SNAP_PAGE)
#define FIELDS (KERNEL + 0x5008)
#define BITS   (KERNEL + 0x7000)

static _Alignas(8) uint8_t mem[MEM];
static uint64_t pages[PAGES / 64 + 1];

/* A map that begins with the memory; its bits are 0. */
static void fresh(void)
{
    memset(mem, 0, sizeof mem);
    memset(pages, 0xff, PAGES / 8);
    pages[PAGES / 64] = 0;
    memcpy(mem + KERNEL + 32, FREEMAP_MAGIC, 8);
    put_le64(mem + KERNEL + 40, FIELDS - KERNEL);
    put_le64(mem + FIELDS, BASE);
    put_le64(mem + FIELDS + 8, BASE + BITS);
    put_le64(mem + FIELDS + 16, MEM / FREEMAP_UNIT);
}

static void set_free(unsigned unit)
{
    mem[BITS + unit / 8] |= (uint8_t)(1u << unit % 8);
}

static uint64_t clear(void)
{
    return freemap_clear(mem, MEM, BASE, KERNEL, pages);
}

static unsigned count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < PAGES; i++)
        n += snap_bit(pages, i);
    return n;
}

TEST(leaves_out_what_is_free)
{
    fresh();
    CHECK(clear() == 0 && count() == PAGES);
    set_free(3);
    set_free(4);
    set_free(95);
    pages[1] &= ~1ull; /* page 64, of unit 4, was no candidate */
    CHECK(clear() == 47);
    CHECK(count() == PAGES - 48);
    CHECK(snap_bit(pages, 47) && !snap_bit(pages, 48) && !snap_bit(pages, 79) &&
          snap_bit(pages, 80) && snap_bit(pages, 95 * 16 - 1) && !snap_bit(pages, 95 * 16));
    CHECK(clear() == 0);
}

TEST(every_unit_by_itself)
{
    for (unsigned unit = 0; unit < MEM / FREEMAP_UNIT; unit++) {
        fresh();
        set_free(unit);
        CHECK(clear() == 16);
        for (unsigned i = 0; i < PAGES; i++)
            if (snap_bit(pages, i) != (i / 16 != unit) && !CHECK(false))
                return;
    }
}

TEST(a_map_of_a_part)
{
    fresh();
    put_le64(mem + FIELDS, BASE + 0x400000);
    put_le64(mem + FIELDS + 16, 6); /* of which the last two share their word with no bit */
    memset(mem + BITS, 0xff, 16);
    CHECK(clear() == 6 * 16);
    CHECK(snap_bit(pages, 1023) && !snap_bit(pages, 1024) && !snap_bit(pages, 1024 + 95) &&
          snap_bit(pages, 1024 + 96));
}

/* Nothing is left out, and nothing outside is read (the address sanitizer looks). */
TEST(what_is_no_map)
{
    fresh();
    memset(mem + BITS, 0xff, 64);
    mem[KERNEL + 32] ^= 1;
    CHECK(clear() == 0);
    mem[KERNEL + 32] ^= 1;
    CHECK(freemap_clear(mem, MEM, BASE, MEM - 63, pages) == 0);
    CHECK(freemap_clear(mem, KERNEL, BASE, KERNEL, pages) == 0);
    static const struct {
        uint32_t at;
        uint64_t value;
    } bad[] = {
        {KERNEL + 40, MEM},
        {KERNEL + 40, MEM - KERNEL - 23},
        {KERNEL + 40, UINT64_MAX},
        {FIELDS, 0},
        {FIELDS, BASE - 0x40000},
        {FIELDS, BASE + 0x10000}, /* not at a word of the list */
        {FIELDS, BASE + MEM + 0x40000},
        {FIELDS, UINT64_MAX},
        {FIELDS + 8, 0},
        {FIELDS + 8, BASE - 1},
        {FIELDS + 8, BASE + MEM - 11},
        {FIELDS + 8, UINT64_MAX},
        {FIELDS + 16, MEM / FREEMAP_UNIT + 1},
        {FIELDS + 16, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t good = get_le64(mem + bad[i].at);
        put_le64(mem + bad[i].at, bad[i].value);
        CHECK(clear() == 0 && count() == PAGES);
        put_le64(mem + bad[i].at, good);
    }
    CHECK(clear() == PAGES);
}

int main(void)
{
    RUN(leaves_out_what_is_free);
    RUN(every_unit_by_itself);
    RUN(a_map_of_a_part);
    RUN(what_is_no_map);
    return TAP_DONE();
}
