// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's memory of 2 MiB, with a kernel's header at 64 KiB. What is given stands behind the
 * header's mark: where the map's fields are, the fields, and bits. Only candidates may go,
 * whole units of them.
 */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/freemap.h"
#include "../../snapshot/snapfile.h"

#define MEM    (2u << 20)
#define KERNEL 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *mem; /* of its own, so that what lies outside is seen */
    uint64_t pages[MEM / SNAP_PAGE / 64], before[MEM / SNAP_PAGE / 64], gone = 0;
    if (!mem)
        mem = malloc(MEM);
    if (!mem)
        abort();
    memset(mem, 0, KERNEL + 8192);
    memset(mem + KERNEL + 4096, 0xa5, 64);
    memcpy(mem + KERNEL + 32, FREEMAP_MAGIC, 8);
    memcpy(mem + KERNEL + 40, data, MIN(size, 4096));
    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        before[i] = pages[i] = 0x123456789abcdef1u * (i + 1);
    uint64_t said = freemap_clear(mem, MEM, 0x40000000, KERNEL, pages);
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (pages[i] & ~before[i])
            abort();
        for (unsigned u = 0; u < 64; u += 16) {
            uint64_t unit = 0xffffull << u;
            if ((pages[i] & unit) && (pages[i] & unit) != (before[i] & unit))
                abort();
        }
        gone += (unsigned)__builtin_popcountll(before[i] ^ pages[i]);
    }
    if (gone != said)
        abort();
    return 0;
}
