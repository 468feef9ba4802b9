// SPDX-License-Identifier: Apache-2.0
/* CRC-32C against published vectors (RFC 3720, B.4) and against itself in pieces. */
#include "../../hypervisor/base/crc32c.h"
#include "../tap.h"

TEST(vectors)
{
    uint8_t b[32];
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283u);
    memset(b, 0, sizeof b);
    CHECK(crc32c(0, b, sizeof b) == 0x8a9136aau);
    memset(b, 0xff, sizeof b);
    CHECK(crc32c(0, b, sizeof b) == 0x62a8ab43u);
    for (unsigned i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)i;
    CHECK(crc32c(0, b, sizeof b) == 0x46dd794eu);
    CHECK(crc32c(0, b, 0) == 0);
}

TEST(pieces_and_plain_agree)
{
    uint8_t b[300];
    for (unsigned i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)(i * 31 + i / 7);
    for (size_t at = 0; at <= sizeof b; at++) {
        uint32_t part = crc32c(0, b, at);
        if (!CHECK(crc32c(part, b + at, sizeof b - at) == crc32c_plain(0, b, sizeof b)))
            return;
    }
}

int main(void)
{
    RUN(vectors);
    RUN(pieces_and_plain_agree);
    return TAP_DONE();
}
