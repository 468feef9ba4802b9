// SPDX-License-Identifier: Apache-2.0
/* Declarations of upstreams, and answers of name servers (guest/upstream_text.c). */
#include <errno.h>
#include <string.h>

#include "../../guest/upstream.h"
#include "../tap.h"

static struct upstream_spec s;
static struct fail f;

static int parse(const char *text)
{
    return upstream_parse(text, &s, &f);
}

TEST(declarations)
{
    CHECK(parse("DB=tcp:db.example:5432") == 0 && s.port == 5432 && s.listen == 0);
    CHECK_STR(s.name, "db");
    CHECK_STR(s.host, "db.example");
    CHECK(s.wait_s == 30 && !s.oneway);
    CHECK(parse("MY_LOG2=tcp:10.0.0.1:514,oneway,wait=5,listen=1514") == 0);
    CHECK_STR(s.name, "my_log2");
    CHECK(s.port == 514 && s.listen == 1514 && s.wait_s == 5 && s.oneway);
}

TEST(refused)
{
    static const char *const bad[] = {
        "",
        "=tcp:a:1",
        "DB",
        "DB=",
        "DB=udp:a:1",
        "DB=tcp:a",
        "DB=tcp::1",
        "DB=tcp:a:0",
        "DB=tcp:a:65536",
        "DB=tcp:a:1,",
        "DB=tcp:a:1,listen=",
        "DB=tcp:a:1,listen=70000",
        "DB=tcp:a:1,wait=0",
        "DB=tcp:a:1,wait=99999",
        "DB=tcp:a:1,other",
        "DB=tcp:a:1x",
        "DB=tcp:a..b:1",
        "../DB=tcp:a:1",
        "D-B=tcp:a:1",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456=tcp:a:1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (!CHECK(parse(bad[i]) == -EINVAL))
            printf("# %s\n", bad[i]);
    }
    parse("DB=http:x");
    CHECK_STR(f.text, "DORMOUSE_UPSTREAM_DB must be "
                      "tcp:HOST:PORT[,listen=PORT][,wait=SECONDS][,oneway]");
}

TEST(addresses)
{
    uint8_t ip[4];
    CHECK(ipv4_parse("10.0.255.1", ip) && memcmp(ip, "\x0a\x00\xff\x01", 4) == 0);
    CHECK(!ipv4_parse("10.0.256.1", ip) && !ipv4_parse("10.0.1", ip));
    CHECK(!ipv4_parse("10.0.0.1.", ip) && !ipv4_parse("10.0.0.x", ip) && !ipv4_parse("", ip));
    CHECK(!ipv4_parse("10..0.1", ip) && !ipv4_parse("10.0.0.0001", ip));
}

static size_t answer(uint8_t *msg, const char *host, const uint8_t *tail, size_t len,
                     uint8_t count)
{
    size_t n = dns_ask(msg, host, 0x1234);
    msg[2] |= 0x80;
    msg[7] = count;
    if (len > 0)
        memcpy(msg + n, tail, len);
    return n + len;
}

TEST(names)
{
    static const uint8_t alias_and_address[] = {
        0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1,  'x', 0xc0, 12, /* CNAME */
        0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1,   2,    3,  /* A */
    };
    uint8_t msg[DNS_MSG_MAX + 64], ip[4];
    const char *name = "db.example";
    CHECK(dns_ask(msg, name, 0x1234) == 12 + 12 + 4);
    CHECK(memcmp(msg,
                 "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02"
                 "db\x07"
                 "example\x00\x00\x01\x00\x01",
                 28) == 0);
    CHECK(dns_ask(msg, "", 1) == 0 && dns_ask(msg, ".", 1) == 0);
    CHECK(dns_ask(msg, "with.dot.", 1) == 12 + 10 + 4);
    size_t n = answer(msg, name, alias_and_address, sizeof(alias_and_address), 2);
    CHECK(dns_answer(msg, n, 0x1234, ip) == 0 && memcmp(ip, "\x0a\x01\x02\x03", 4) == 0);
    CHECK(dns_answer(msg, n, 0x1235, ip) == -EBADMSG);
    for (size_t cut = 0; cut < n; cut++) /* never an address out of a part */
        CHECK(dns_answer(msg, cut, 0x1234, ip) == -EBADMSG);
    n = answer(msg, name, NULL, 0, 0);
    CHECK(dns_answer(msg, n, 0x1234, ip) == -ENOENT);
    n = answer(msg, name, alias_and_address, 16, 1); /* an alias that leads nowhere */
    CHECK(dns_answer(msg, n, 0x1234, ip) == -ENOENT);
    msg[2] = 1; /* a question is no answer */
    CHECK(dns_answer(msg, n, 0x1234, ip) == -EBADMSG);
}

int main(void)
{
    RUN(declarations);
    RUN(refused);
    RUN(addresses);
    RUN(names);
    return TAP_DONE();
}
