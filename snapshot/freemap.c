// SPDX-License-Identifier: Apache-2.0
/* See freemap.h. */
#include "freemap.h"

#include <stddef.h>
#include <string.h>

#include "../hypervisor/base/num.h"
#include "snapfile.h"

#define AT_MAGIC   32u /* in the header */
#define AT_WHERE   40u
#define HEADER     64u
#define MAP_FIELDS 24u
#define WORD_UNITS (64u * SNAP_PAGE / FREEMAP_UNIT) /* bits for a word of the list of pages */

/* The pages of four bits. */
static uint64_t spread(unsigned units)
{
    uint64_t v = (units & 1) | (units & 2) << 15 | (uint64_t)(units & 4) << 30 |
                 (uint64_t)(units & 8) << 45;
    return v * 0xffff;
}
_Static_assert(WORD_UNITS == 4 && FREEMAP_UNIT / SNAP_PAGE == 16, "as spread() has them");

uint64_t freemap_clear(const uint8_t *mem, uint64_t len, uint64_t base, uint64_t kernel,
                       uint64_t *pages)
{
    uint64_t cleared = 0;
    if (!range_ok(kernel, HEADER, len) ||
        memcmp(mem + kernel + AT_MAGIC, FREEMAP_MAGIC, 8) != 0)
        return 0;
    uint64_t where = get_le64(mem + kernel + AT_WHERE), at;
    if (!num_add(kernel, where, &at) || !range_ok(at, MAP_FIELDS, len))
        return 0;
    uint64_t first = get_le64(mem + at) - base, bits = get_le64(mem + at + 8) - base;
    uint64_t count = get_le64(mem + at + 16);
    if (first > len || first % (64 * SNAP_PAGE) || count > (len - first) / FREEMAP_UNIT ||
        !range_ok(bits, (count + 7) / 8, len))
        return 0;
    for (uint64_t i = 0; i < count; i += WORD_UNITS) {
        uint64_t *word = &pages[(first / FREEMAP_UNIT + i) / WORD_UNITS];
        if (*word == 0)
            continue;
        unsigned units = (unsigned)mem[bits + i / 8] >> i % 8 & 15u;
        if (count - i < WORD_UNITS)
            units &= (1u << (count - i)) - 1;
        uint64_t gone = *word & spread(units);
        *word &= ~gone;
        cleared += (unsigned)__builtin_popcountll(gone);
    }
    return cleared;
}
