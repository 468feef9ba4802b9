// SPDX-License-Identifier: Apache-2.0
/* The text of the GDB remote protocol. */
#include "../../hypervisor/debug/gdb_packet.h"

#include "../tap.h"

static struct gdb_input in;

static enum gdb_event feed(const char *text)
{
    enum gdb_event last = GDB_NOTHING;
    for (; *text; text++)
        last = gdb_feed(&in, (uint8_t)*text);
    return last;
}

TEST(packets)
{
    memset(&in, 0, sizeof in);
    CHECK(feed("+$g#67") == GDB_PACKET);
    CHECK_STR(in.text, "g");
    CHECK(feed("$m0,4#FD") == GDB_PACKET);
    CHECK_STR(in.text, "m0,4");
    CHECK(feed("$#00") == GDB_PACKET && in.len == 0);
    CHECK(feed("-") == GDB_RESEND);
    CHECK(feed("\x03") == GDB_INTERRUPT);
    /* Inside a packet it is a byte like another. */
    CHECK(feed("$\x03#03") == GDB_PACKET && in.len == 1);
}

TEST(escapes)
{
    memset(&in, 0, sizeof in);
    CHECK(feed("$}\x03#80") == GDB_PACKET);
    CHECK_STR(in.text, "#");
    CHECK(feed("$}]#da") == GDB_PACKET);
    CHECK_STR(in.text, "}");
}

TEST(damage)
{
    memset(&in, 0, sizeof in);
    CHECK(feed("$g#68") == GDB_REJECTED);
    CHECK(feed("$g#zz") == GDB_REJECTED);
    CHECK(feed("$g#6z") == GDB_REJECTED);
    CHECK(feed("$g#67") == GDB_PACKET);
}

TEST(too_long)
{
    memset(&in, 0, sizeof in);
    feed("$");
    for (unsigned i = 0; i < GDB_PACKET_MAX + 1; i++)
        CHECK(gdb_feed(&in, 0) == GDB_NOTHING);
    CHECK(feed("#00") == GDB_REJECTED);
    feed("$");
    for (unsigned i = 0; i < GDB_PACKET_MAX; i++)
        gdb_feed(&in, 0);
    CHECK(feed("#00") == GDB_PACKET && in.len == GDB_PACKET_MAX);
}

TEST(frames)
{
    struct buf b = BUF_INIT;
    gdb_frame(&b, "OK", 2);
    CHECK_STR(buf_cstr(&b), "$OK#9a");
    buf_reset(&b);
    gdb_frame(&b, "a*#", 3);
    CHECK_STR(buf_cstr(&b), "$a}\n}\x03#68");
    /* What is framed is read as it was. */
    memset(&in, 0, sizeof in);
    CHECK(feed(buf_cstr(&b)) == GDB_PACKET);
    CHECK_STR(in.text, "a*#");
    buf_free(&b);
}

TEST(numbers)
{
    uint64_t a, b;
    const char *p = "ffff800080720000,4";
    CHECK(gdb_pair(&p, ',', &a, &b) && a == 0xffff800080720000ull && b == 4 && *p == '\0');
    p = "10";
    CHECK(!gdb_pair(&p, ',', &a, &b));
    p = ",4";
    CHECK(!gdb_pair(&p, ',', &a, &b));
    p = "12345678123456781";
    CHECK(!gdb_number(&p, &a));
    p = "x";
    CHECK(!gdb_number(&p, &a));
}

TEST(bytes)
{
    uint8_t v[3];
    const char *p = "01Fe7f";
    CHECK(gdb_bytes(&p, v, 3) && v[0] == 1 && v[1] == 0xfe && v[2] == 0x7f && *p == '\0');
    p = "012";
    CHECK(!gdb_bytes(&p, v, 2));
    p = "";
    CHECK(!gdb_bytes(&p, v, 1));
}

TEST(threads)
{
    int t;
    const char *p = "-1";
    CHECK(gdb_thread(&p, &t) && t == GDB_ALL_THREADS);
    p = "10";
    CHECK(gdb_thread(&p, &t) && t == 16);
    p = "0";
    CHECK(gdb_thread(&p, &t) && t == 0);
    p = "p1.1";
    CHECK(!gdb_thread(&p, &t));
    p = "fffffff";
    CHECK(!gdb_thread(&p, &t));
}

TEST(actions)
{
    enum gdb_action a[3];
    CHECK(gdb_vcont(";c", a, 3) && a[0] == GDB_CONTINUE && a[2] == GDB_CONTINUE);
    CHECK(gdb_vcont(";s:2;c", a, 3) && a[0] == GDB_CONTINUE && a[1] == GDB_STEP);
    CHECK(gdb_vcont(";s:3", a, 3) && a[0] == GDB_STAY && a[2] == GDB_STEP);
    CHECK(gdb_vcont(";C05:1;S05:-1", a, 2) && a[0] == GDB_CONTINUE && a[1] == GDB_STEP);
    CHECK(gdb_vcont("", a, 1) && a[0] == GDB_STAY);
    CHECK(gdb_vcont(";c:7", a, 2) && a[0] == GDB_STAY); /* no such thread */
    CHECK(!gdb_vcont(";", a, 1));
    CHECK(!gdb_vcont(";t", a, 1));
    CHECK(!gdb_vcont(";C", a, 1));
    CHECK(!gdb_vcont(";c:", a, 1));
    CHECK(!gdb_vcont(";cx", a, 1));
}

int main(void)
{
    RUN(packets);
    RUN(escapes);
    RUN(damage);
    RUN(too_long);
    RUN(frames);
    RUN(numbers);
    RUN(bytes);
    RUN(threads);
    RUN(actions);
    return TAP_DONE();
}
