// SPDX-License-Identifier: Apache-2.0
/* The message fields of guest/abi/tlv.h: round trips, and refusal of malformed bytes. */
#include <string.h>

#include "../../guest/abi/tlv.h"
#include "../tap.h"

TEST(round_trip)
{
    uint8_t buf[256];
    struct tlv_writer w = tlv_writer_init(buf, sizeof(buf));
    tlv_put_u32(&w, GP_T_PORT, 0xdeadbeefu);
    tlv_put_u64(&w, GP_T_SEQ, 0x0123456789abcdefull);
    tlv_put_str(&w, GP_T_NAME, "ready");
    tlv_put_bytes(&w, GP_T_DATA, "", 0);
    tlv_put_bytes(&w, GP_T_ENTROPY, "\0\1\2", 3);
    CHECK(!w.bad);
    CHECK(w.len == 5 * TLV_HEADER_SIZE + 4 + 8 + 5 + 0 + 3);
    CHECK(tlv_valid(buf, w.len));

    struct tlv_reader r = tlv_reader_init(buf, w.len);
    uint16_t tag;
    const uint8_t *data;
    size_t len;
    uint32_t v32 = 0;
    uint64_t v64 = 0;
    char text[8];
    CHECK(tlv_next(&r, &tag, &data, &len) && tag == GP_T_PORT);
    CHECK(tlv_get_u32(data, len, &v32) && v32 == 0xdeadbeefu);
    CHECK(!tlv_get_u64(data, len, &v64));
    CHECK(tlv_next(&r, &tag, &data, &len) && tag == GP_T_SEQ);
    CHECK(tlv_get_u64(data, len, &v64) && v64 == 0x0123456789abcdefull);
    CHECK(!tlv_get_u32(data, len, &v32));
    CHECK(tlv_next(&r, &tag, &data, &len) && tag == GP_T_NAME);
    CHECK(tlv_get_str(data, len, text, sizeof(text)) && strcmp(text, "ready") == 0);
    CHECK(!tlv_get_str(data, len, text, 5)); /* no room for the end */
    CHECK(tlv_next(&r, &tag, &data, &len) && tag == GP_T_DATA && len == 0);
    CHECK(tlv_next(&r, &tag, &data, &len) && tag == GP_T_ENTROPY && len == 3);
    CHECK(!tlv_get_str(data, len, text, sizeof(text))); /* a NUL inside */
    CHECK(!tlv_next(&r, &tag, &data, &len) && !r.bad);
}

TEST(writer_bounds)
{
    uint8_t buf[20];
    memset(buf, 0x55, sizeof(buf));
    struct tlv_writer w = tlv_writer_init(buf, 12);
    tlv_put_u32(&w, 1, 2);
    CHECK(!w.bad && w.len == 12);
    tlv_put_bytes(&w, 1, "", 0);
    CHECK(w.bad && w.len == 12);
    CHECK(buf[12] == 0x55);
    w = tlv_writer_init(buf, 11);
    tlv_put_u32(&w, 1, 2);
    CHECK(w.bad && w.len == 0);
    w = tlv_writer_init(buf, sizeof(buf));
    tlv_put_bytes(&w, 1, buf, GP_BODY_MAX + 1u);
    CHECK(w.bad);
    CHECK(!tlv_reserve(&w, 1, 0)); /* bad stays bad */
}

TEST(reader_bounds)
{
    uint8_t buf[64];
    struct tlv_writer w = tlv_writer_init(buf, sizeof(buf));
    tlv_put_str(&w, 7, "abcdef");
    for (size_t cut = 1; cut < w.len; cut++)
        CHECK(!tlv_valid(buf, cut));
    CHECK(tlv_valid(buf, 0));
    buf[2] = 1; /* reserved bytes must be zero */
    CHECK(!tlv_valid(buf, w.len));
    buf[2] = 0;
    memset(buf + 4, 0xff, 4);
    CHECK(!tlv_valid(buf, w.len));
}

TEST(header)
{
    uint8_t h[GP_HEADER_SIZE];
    struct gp_header got;
    gp_header_put(h, GP_LOG, 7, GP_BODY_MAX);
    CHECK(gp_header_get(h, &got));
    CHECK(got.type == GP_LOG && got.id == 7 && got.len == GP_BODY_MAX && got.flags == 0);
    gp_header_put(h, GP_LOG, 7, GP_BODY_MAX + 1);
    CHECK(!gp_header_get(h, &got));
    gp_header_put(h, GP_LOG, 7, 0);
    h[0] ^= 1;
    CHECK(!gp_header_get(h, &got));
    gp_header_put(h, GP_LOG, 7, 0);
    h[6] = 1; /* flags */
    CHECK(!gp_header_get(h, &got));
}

int main(void)
{
    RUN(round_trip);
    RUN(writer_bounds);
    RUN(reader_bounds);
    RUN(header);
    return TAP_DONE();
}
