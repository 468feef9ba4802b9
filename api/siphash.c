// SPDX-License-Identifier: Apache-2.0
/* SipHash-2-4-128 (Aumasson, Bernstein 2012); see siphash.h. */
#include "siphash.h"

#include "../hypervisor/base/num.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotl(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}

static void sip_rounds(struct sip *s, int n)
{
    while (n-- > 0) {
        s->v0 += s->v1;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v2 = rotl(s->v2, 32);
    }
}

static void sip_block(struct sip *s, uint64_t m)
{
    s->v3 ^= m;
    sip_rounds(s, 2);
    s->v0 ^= m;
}

/* The additions wrap by design of the algorithm. */
void siphash128(const uint8_t key[SIPHASH_KEY], const void *data, size_t len,
                uint8_t ret[SIPHASH_LEN])
{
    const uint8_t *p = data;
    uint64_t k0 = get_le64(key), k1 = get_le64(key + 8);
    struct sip s = {
        .v0 = 0x736f6d6570736575u ^ k0,
        .v1 = 0x646f72616e646f6du ^ k1 ^ 0xee,
        .v2 = 0x6c7967656e657261u ^ k0,
        .v3 = 0x7465646279746573u ^ k1,
    };
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8)
        sip_block(&s, get_le64(p));
    uint64_t last = (uint64_t)(len & 0xff) << 56;
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)p[i] << (8 * i);
    sip_block(&s, last);
    s.v2 ^= 0xee;
    sip_rounds(&s, 4);
    put_le64(ret, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
    s.v1 ^= 0xdd;
    sip_rounds(&s, 4);
    put_le64(ret + 8, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}
