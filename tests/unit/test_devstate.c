// SPDX-License-Identifier: Apache-2.0
/* Tagged device state: what is written is read again; what is forged is refused. */
#include <errno.h>
#include <stdlib.h>

#include "../../hypervisor/base/num.h"
#include "../../snapshot/devstate.h"
#include "../../snapshot/snapstate.h"
#include "../tap.h"

#define TAG_A SNAP_TAG('A', 'A', 'A', 'A')
#define TAG_B SNAP_TAG('B', 'B', 'B', 'B')

static void write_two(struct dstate_writer *w)
{
    memset(w, 0, sizeof *w);
    dw_begin(w, TAG_A, 1, 0);
    dw_u32(w, 1, 0x12345678);
    dw_u64(w, 2, 0x1122334455667788ull);
    dw_end(w);
    dw_begin(w, TAG_B, 3, 7);
    dw_bytes(w, 9, "hello", 5);
    dw_bytes(w, 10, NULL, 0);
    dw_end(w);
}

TEST(round_trip)
{
    struct dstate_writer w;
    struct dstate_reader r;
    uint32_t v32 = 0;
    uint64_t v64 = 0;
    const void *p = NULL;
    size_t len = 1;
    write_two(&w);
    CHECK(!w.b.bad);
    CHECK(dr_check(w.b.data, w.b.len, NULL) == 0);
    CHECK(dr_find(w.b.data, w.b.len, TAG_A, 0, &r, NULL) == 0);
    CHECK(r.version == 1);
    CHECK(dr_u32(&r, 1, &v32, NULL) == 0 && v32 == 0x12345678);
    CHECK(dr_u64(&r, 2, &v64, NULL) == 0 && v64 == 0x1122334455667788ull);
    CHECK(dr_find(w.b.data, w.b.len, TAG_B, 7, &r, NULL) == 0);
    CHECK(r.version == 3 && r.instance == 7);
    CHECK(dr_bytes(&r, 9, &p, &len, NULL) == 0 && len == 5 && memcmp(p, "hello", 5) == 0);
    CHECK(dr_bytes(&r, 10, &p, &len, NULL) == 0 && len == 0);
    buf_free(&w.b);
}

TEST(what_is_missing)
{
    struct dstate_writer w;
    struct dstate_reader r;
    struct err e = {.num = 0};
    uint32_t v32;
    uint64_t v64;
    write_two(&w);
    CHECK(dr_find(w.b.data, w.b.len, TAG_A, 1, &r, &e) == -ENOENT);
    CHECK_STR(e.msg, "the snapshot has no state of 'AAAA' 1");
    CHECK(dr_find(w.b.data, w.b.len, TAG_A, 0, &r, NULL) == 0);
    CHECK(dr_u32(&r, 5, &v32, NULL) == -ENOENT);
    CHECK(dr_u32(&r, 2, &v32, NULL) == -EBADMSG); /* eight bytes */
    CHECK(dr_u64(&r, 1, &v64, NULL) == -EBADMSG); /* four */
    buf_free(&w.b);
}

TEST(every_cut_and_every_flip_stays_in_bounds)
{
    struct dstate_writer w;
    write_two(&w);
    for (size_t n = 1; n < w.b.len; n++) {
        uint8_t *copy = malloc(n); /* its own allocation, so that an overread is seen */
        memcpy(copy, w.b.data, n);
        int r = dr_check(copy, n, NULL);
        /* Only a cut between the blocks leaves something valid. */
        CHECK(r == -EBADMSG || n == 12 + 12 + 16);
        free(copy);
    }
    for (size_t i = 0; i < w.b.len * 8; i++) {
        struct dstate_reader r;
        uint64_t v;
        w.b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        if (dr_check(w.b.data, w.b.len, NULL) == 0 &&
            dr_find(w.b.data, w.b.len, TAG_A, 0, &r, NULL) == 0)
            dr_u64(&r, 2, &v, NULL);
        w.b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    CHECK(dr_check(w.b.data, w.b.len, NULL) == 0);
    buf_free(&w.b);
}

TEST(lists)
{
    struct snap_reg reg;
    struct snap_gic_word word;
    uint8_t b[64];
    size_t pos = 0;
    memset(b, 0, sizeof b);
    put_le64(b, 0x6030000000100000ull); /* 8 bytes */
    put_le64(b + 8, 42);
    put_le64(b + 16, 0x6020000000110000ull); /* 4 bytes */
    CHECK(snap_next_reg(b, 28, &pos, &reg, NULL) == 1 && reg.size == 8);
    CHECK(get_le64(reg.value) == 42);
    CHECK(snap_next_reg(b, 28, &pos, &reg, NULL) == 1 && reg.size == 4);
    CHECK(snap_next_reg(b, 28, &pos, &reg, NULL) == 0);
    pos = 16;
    CHECK(snap_next_reg(b, 27, &pos, &reg, NULL) == -EBADMSG);
    pos = 16;
    CHECK(snap_next_reg(b, 20, &pos, &reg, NULL) == -EBADMSG);
    put_le64(b, 0x60f0000000100000ull); /* 2^15 bytes */
    pos = 0;
    CHECK(snap_next_reg(b, sizeof b, &pos, &reg, NULL) == -EBADMSG);
    memset(b, 0, sizeof b);
    put_le32(b, 1);
    put_le32(b + 4, 2);
    put_le32(b + 8, 3);
    put_le64(b + 12, 4);
    pos = 0;
    CHECK(snap_next_gic_word(b, 20, &pos, &word, NULL) == 1);
    CHECK(word.group == 1 && word.vcpu == 2 && word.offset == 3 && word.value == 4);
    CHECK(snap_next_gic_word(b, 20, &pos, &word, NULL) == 0);
    pos = 0;
    CHECK(snap_next_gic_word(b, 19, &pos, &word, NULL) == -EBADMSG);
}

int main(void)
{
    RUN(round_trip);
    RUN(what_is_missing);
    RUN(every_cut_and_every_flip_stays_in_bounds);
    RUN(lists);
    return TAP_DONE();
}
