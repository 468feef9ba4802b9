// SPDX-License-Identifier: Apache-2.0
/* CRC-32C; see crc32c.h. Reflected polynomial 0x82f63b78, as in iSCSI and ext4. */
#include "crc32c.h"

#include <string.h>

#ifdef __ARM_FEATURE_CRC32
#include <arm_acle.h>
#endif

uint32_t crc32c_plain(uint32_t crc, const void *data, size_t len)
{
    /* Remainders of the 16 values of half a byte. */
    static const uint32_t half[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                      0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                      0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    const uint8_t *p = data;
    crc = ~crc;
    while (len--) {
        crc ^= *p++;
        crc = crc >> 4 ^ half[crc & 15];
        crc = crc >> 4 ^ half[crc & 15];
    }
    return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __ARM_FEATURE_CRC32
    const uint8_t *p = data;
    crc = ~crc;
    /* Four at a time: a restore spends a tenth of its own instructions here. */
    for (; len >= 32; len -= 32, p += 32) {
        uint64_t a, b, c, d;
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        memcpy(&c, p + 16, 8);
        memcpy(&d, p + 24, 8);
        crc = __crc32cd(__crc32cd(__crc32cd(__crc32cd(crc, a), b), c), d);
    }
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        crc = __crc32cd(crc, v);
    }
    while (len--)
        crc = __crc32cb(crc, *p++);
    return ~crc;
#else
    return crc32c_plain(crc, data, len);
#endif
}
