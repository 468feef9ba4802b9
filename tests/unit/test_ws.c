// SPDX-License-Identifier: Apache-2.0
/* WebSocket frames: what one end writes the other reads, and what neither may send. */
#include <errno.h>
#include <string.h>

#include "../../api/ws.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

TEST(handshake)
{
    char answer[WS_ACCEPT];
    CHECK(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", answer)); /* the example of RFC 6455 */
    CHECK_STR(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(!ws_accept("", answer));
    CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZ", answer));
    CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQ--", answer));
    CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQ=A", answer));
    CHECK(!ws_accept("dGhlIHNhbXBsZSB!b25jZQ==", answer));
    CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==", answer));
}

/* Both directions, each length form, byte by byte. */
TEST(round_trips)
{
    static uint8_t data[WS_FRAME_MAX];
    static const size_t lens[] = {0, 1, 125, 126, 127, 65535, WS_FRAME_MAX};
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    for (unsigned client = 0; client < 2; client++) {
        for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
            AUTO(buf_free) struct buf b = BUF_INIT;
            AUTO(ws_free) struct ws w = {.client = !client};
            struct ws_frame f;
            ws_put(&b, client, WS_BINARY, data, lens[k]);
            ws_put(&b, client, WS_TEXT, "x", 1);
            CHECK(!b.bad);
            size_t step = b.len > 1000 ? 999 : 1, whole = 0;
            for (size_t at = 0; at < b.len; at += step) {
                buf_add(&w.in, b.data + at, MIN(step, b.len - at));
                int r;
                while ((r = ws_next(&w, &f)) == 1) {
                    whole++;
                    if (whole == 1)
                        CHECK(f.op == WS_BINARY && f.whole && f.len == lens[k] &&
                              memcmp(f.data, data, f.len) == 0);
                    else
                        CHECK(f.op == WS_TEXT && f.len == 1 && f.data[0] == 'x');
                }
                CHECK(r == 0);
            }
            CHECK(whole == 2);
        }
    }
}

/* What a server makes of one masked frame whose head and payload are these. */
static int reads(const char *bytes, size_t len, struct ws_frame *f)
{
    AUTO(ws_free) struct ws w = {.client = false};
    buf_add(&w.in, bytes, len);
    return ws_next(&w, f);
}
#define READS(text, f) reads(text, sizeof(text) - 1, f)

TEST(nonsense)
{
    struct ws_frame f;
    CHECK(READS("\x82\x81\0\0\0\0x", &f) == 1 && f.op == WS_BINARY);
    CHECK(READS("\x82\x81\0\0\0\0", &f) == 0);
    CHECK(READS("\x82", &f) == 0);
    CHECK(READS("\x82\x01x", &f) == -EBADMSG);               /* not masked */
    CHECK(READS("\xc2\x81\0\0\0\0x", &f) == -EBADMSG);       /* a reserved bit */
    CHECK(READS("\x83\x81\0\0\0\0x", &f) == -EBADMSG);       /* an unknown kind */
    CHECK(READS("\x80\x81\0\0\0\0x", &f) == -EBADMSG);       /* goes on with nothing */
    CHECK(READS("\x09\x80\0\0\0\0", &f) == -EBADMSG);        /* a ping in pieces */
    CHECK(READS("\x89\xfe\0\x7e\0\0\0\0", &f) == -EBADMSG);  /* a long ping */
    CHECK(READS("\x82\xfe\0\x01\0\0\0\0x", &f) == -EBADMSG); /* not the shortest length */
    CHECK(READS("\x82\xff\0\0\0\0\0\0\0\x01\0\0\0\0x", &f) == -EBADMSG);
    CHECK(READS("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", &f) == -EBADMSG);
    CHECK(READS("\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0", &f) == -E2BIG);
    CHECK(READS("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", &f) == -E2BIG);
}

TEST(pieces)
{
    static const char text[] = "\x01\x81\0\0\0\0a"  /* a text begins */
                               "\x89\x81\0\0\0\0p"  /* a ping between its pieces */
                               "\x80\x81\0\0\0\0b"  /* its end */
                               "\x81\x81\0\0\0\0c"; /* another, whole */
    AUTO(ws_free) struct ws w = {.client = false};
    struct ws_frame f;
    buf_add(&w.in, text, sizeof text - 1);
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_BINARY && !f.whole && f.data[0] == 'a');
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_PING && f.data[0] == 'p');
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_BINARY && !f.whole && f.data[0] == 'b');
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_TEXT && f.whole && f.data[0] == 'c');
    CHECK(ws_next(&w, &f) == 0);
    buf_add(&w.in, "\x01\x80\0\0\0\0\x01\x80\0\0\0\0", 12); /* begins twice */
    CHECK(ws_next(&w, &f) == 1 && ws_next(&w, &f) == -EBADMSG);
}

TEST(close)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    AUTO(ws_free) struct ws w = {.client = true};
    struct ws_frame f;
    char reason[300];
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    ws_put_close(&b, false, WS_NORMAL, "shell exited");
    ws_put_close(&b, false, WS_FAILED, reason);
    buf_add(&w.in, b.data, b.len);
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_CLOSE && f.len == 14);
    CHECK(f.data[0] == 3 && f.data[1] == 0xe8 && memcmp(f.data + 2, "shell exited", 12) == 0);
    CHECK(ws_next(&w, &f) == 1 && f.op == WS_CLOSE && f.len == 125);
}

int main(void)
{
    RUN(handshake);
    RUN(round_trips);
    RUN(nonsense);
    RUN(pieces);
    RUN(close);
    return TAP_DONE();
}
