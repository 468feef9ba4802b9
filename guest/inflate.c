// SPDX-License-Identifier: Apache-2.0
/* See inflate.h. */
#include "inflate.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW    32768u
#define BUFFER    (2u * WINDOW)
#define MAX_BITS  15u
#define FAST_BITS 9u
#define LITERALS  288u
#define DISTANCES 32u

/* Canonical Huffman code: short codes by one look-up, long ones bit by bit. */
struct huffman {
    uint16_t fast[1u << FAST_BITS]; /* symbol << 4 | length, 0: longer or no code */
    uint16_t count[MAX_BITS + 1];
    uint16_t symbol[LITERALS];
};

struct inflate {
    const uint8_t *in;
    size_t len, pos;
    uint64_t bits; /* not used yet, the next one lowest */
    unsigned nbits;
    inflate_out out;
    void *ctx;
    uint64_t left; /* output still allowed */
    size_t fill, flushed;
    struct huffman lit, dist;
    uint8_t buf[BUFFER];
};

static void refill(struct inflate *s)
{
    while (s->nbits <= 48 && s->pos < s->len) {
        s->bits |= (uint64_t)s->in[s->pos++] << s->nbits;
        s->nbits += 8;
    }
}

/* Up to 16 bits; -1 when the input ends. */
static int take(struct inflate *s, unsigned n)
{
    if (s->nbits < n)
        refill(s);
    if (s->nbits < n)
        return -1;
    int v = (int)(s->bits & ((1u << n) - 1));
    s->bits >>= n;
    s->nbits -= n;
    return v;
}

static int flush(struct inflate *s)
{
    if (s->fill == s->flushed)
        return 0;
    int r = s->out(s->ctx, s->buf + s->flushed, s->fill - s->flushed);
    s->flushed = s->fill;
    return r;
}

/* Room for one more byte: hands out what is there and keeps the last window. */
static int make_room(struct inflate *s)
{
    if (s->fill < BUFFER)
        return 0;
    int r = flush(s);
    memmove(s->buf, s->buf + BUFFER - WINDOW, WINDOW);
    s->fill = s->flushed = WINDOW;
    return r;
}

static unsigned reverse(unsigned v, unsigned n)
{
    unsigned r = 0;
    for (unsigned i = 0; i < n; i++)
        r |= ((v >> i) & 1u) << (n - 1 - i);
    return r;
}

/* False for a code with too many words, or too few unless it has one word only. */
static bool build(struct huffman *h, const uint8_t *lengths, unsigned n)
{
    uint16_t next[MAX_BITS + 2] = {0}, offset[MAX_BITS + 2] = {0};
    memset(h, 0, sizeof(*h));
    for (unsigned i = 0; i < n; i++)
        h->count[lengths[i]]++;
    h->count[0] = 0;
    int left = 1;
    unsigned used = 0, code = 0;
    for (unsigned len = 1; len <= MAX_BITS; len++) {
        left = left * 2 - h->count[len];
        if (left < 0)
            return false;
        used += h->count[len];
        code = (code + h->count[len - 1]) << 1;
        next[len] = (uint16_t)code;
        offset[len + 1] = (uint16_t)(offset[len] + h->count[len]);
    }
    if (left > 0 && !(used <= 1 && h->count[1] == used))
        return false;
    for (unsigned i = 0; i < n; i++) {
        unsigned len = lengths[i];
        if (len == 0)
            continue;
        h->symbol[offset[len]++] = (uint16_t)i;
        unsigned word = next[len]++;
        if (len > FAST_BITS)
            continue;
        for (unsigned at = reverse(word, len); at < 1u << FAST_BITS; at += 1u << len)
            h->fast[at] = (uint16_t)(i << 4 | len);
    }
    return true;
}

/* The next symbol, or -1. */
static int decode(struct inflate *s, const struct huffman *h)
{
    if (s->nbits < MAX_BITS)
        refill(s);
    unsigned e = h->fast[s->bits & ((1u << FAST_BITS) - 1)];
    if (e) {
        unsigned len = e & 15u;
        if (len > s->nbits)
            return -1;
        s->bits >>= len;
        s->nbits -= len;
        return (int)(e >> 4);
    }
    unsigned code = 0, first = 0, index = 0;
    for (unsigned len = 1; len <= MAX_BITS; len++) {
        if (len > s->nbits)
            return -1;
        code |= (unsigned)(s->bits >> (len - 1)) & 1u;
        unsigned count = h->count[len];
        if (code < first + count) {
            s->bits >>= len;
            s->nbits -= len;
            return h->symbol[index + (code - first)];
        }
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return -1;
}

static int stored(struct inflate *s)
{
    unsigned skip = s->nbits & 7u;
    s->bits >>= skip;
    s->nbits -= skip;
    int len = take(s, 16), inverse = take(s, 16);
    if (len < 0 || inverse < 0 || len != (~inverse & 0xffff))
        return -EBADMSG;
    if ((uint64_t)len > s->left)
        return -EFBIG;
    s->left -= (uint64_t)len;
    for (; len > 0; len--) {
        int r = make_room(s), byte = take(s, 8);
        if (r != 0)
            return r;
        if (byte < 0)
            return -EBADMSG;
        s->buf[s->fill++] = (uint8_t)byte;
    }
    return 0;
}

static int copy_match(struct inflate *s, unsigned len, unsigned dist)
{
    /* before the first 32 KiB were written the window is shorter */
    if (dist > s->fill)
        return -EBADMSG;
    if (len > s->left)
        return -EFBIG;
    s->left -= len;
    for (; len > 0; len--) {
        int r = make_room(s);
        if (r != 0)
            return r;
        s->buf[s->fill] = s->buf[s->fill - dist];
        s->fill++;
    }
    return 0;
}

static int block(struct inflate *s)
{
    static const uint16_t len_base[29] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                          15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                          67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t len_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                          2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t dist_base[30] = {
        1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static const uint8_t dist_extra[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                           6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    for (;;) {
        int sym = decode(s, &s->lit);
        if (sym < 0)
            return -EBADMSG;
        if (sym == 256)
            return 0;
        if (sym < 256) {
            int r = make_room(s);
            if (r != 0)
                return r;
            if (s->left-- == 0)
                return -EFBIG;
            s->buf[s->fill++] = (uint8_t)sym;
            continue;
        }
        sym -= 257;
        if (sym >= 29)
            return -EBADMSG;
        int more = take(s, len_extra[sym]);
        if (more < 0)
            return -EBADMSG;
        unsigned len = len_base[sym] + (unsigned)more;
        int d = decode(s, &s->dist);
        if (d < 0 || d >= 30)
            return -EBADMSG;
        more = take(s, dist_extra[d]);
        if (more < 0)
            return -EBADMSG;
        int r = copy_match(s, len, dist_base[d] + (unsigned)more);
        if (r != 0)
            return r;
    }
}

static int fixed_codes(struct inflate *s)
{
    uint8_t lengths[LITERALS];
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    build(&s->lit, lengths, LITERALS);
    memset(lengths, 5, DISTANCES);
    build(&s->dist, lengths, DISTANCES);
    return 0;
}

static int dynamic_codes(struct inflate *s)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + DISTANCES] = {0};
    int nlit = take(s, 5), ndist = take(s, 5), ncode = take(s, 4);
    if (nlit < 0 || ndist < 0 || ncode < 0)
        return -EBADMSG;
    nlit += 257;
    ndist += 1;
    if (nlit > 286 || ndist > 30)
        return -EBADMSG;
    for (int i = 0; i < ncode + 4; i++) {
        int v = take(s, 3);
        if (v < 0)
            return -EBADMSG;
        lengths[order[i]] = (uint8_t)v;
    }
    if (!build(&s->lit, lengths, 19))
        return -EBADMSG;
    memset(lengths, 0, sizeof(lengths));
    for (int i = 0; i < nlit + ndist;) {
        int sym = decode(s, &s->lit), times, value = 0;
        if (sym < 0)
            return -EBADMSG;
        if (sym < 16) {
            lengths[i++] = (uint8_t)sym;
            continue;
        }
        if (sym == 16) {
            if (i == 0)
                return -EBADMSG;
            value = lengths[i - 1];
        }
        times = sym == 16 ? take(s, 2) : sym == 17 ? take(s, 3) : take(s, 7);
        if (times < 0)
            return -EBADMSG;
        times += sym == 18 ? 11 : 3;
        if (times > nlit + ndist - i)
            return -EBADMSG;
        memset(lengths + i, value, (size_t)times);
        i += times;
    }
    if (lengths[256] == 0 || !build(&s->lit, lengths, (unsigned)nlit) ||
        !build(&s->dist, lengths + nlit, (unsigned)ndist))
        return -EBADMSG;
    return 0;
}

static int run(struct inflate *s)
{
    int last;
    do {
        last = take(s, 1);
        int type = take(s, 2), r;
        if (last < 0 || type < 0 || type == 3)
            return -EBADMSG;
        if (type == 0) {
            r = stored(s);
        } else {
            r = type == 1 ? fixed_codes(s) : dynamic_codes(s);
            if (r == 0)
                r = block(s);
        }
        if (r != 0)
            return r;
    } while (!last);
    return flush(s);
}

int inflate_all(const uint8_t *in, size_t len, uint64_t limit, inflate_out out, void *ctx,
                size_t *used)
{
    struct inflate *s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->in = in;
    s->len = len;
    s->pos = 0;
    s->bits = 0;
    s->nbits = 0;
    s->out = out;
    s->ctx = ctx;
    s->left = limit;
    s->fill = s->flushed = 0;
    int r = run(s);
    if (used)
        *used = s->pos - s->nbits / 8;
    free(s);
    return r;
}
