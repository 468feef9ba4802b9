// SPDX-License-Identifier: Apache-2.0
/*
 * The aws-chunked decoder: the specification's two examples, cut at every kind
 * of place, and bodies that must not pass. Also the checksums that S3 clients
 * send with them, and the XML reader.
 */
#include "../../api/s3_chunked.h"
#include "../../api/s3_xml.h"
#include "../../api/sigv4.h"
#include "../../hypervisor/base/buf.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#include <errno.h>
#include <stdlib.h>

#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static struct s3_chunked_config example(bool is_signed, bool trailer, const char *seed)
{
    struct s3_chunked_config c = {.is_signed = is_signed, .trailer = trailer};
    struct sigv4 s = {.day = "20130524", .region = "us-east-1", .service = "s3"};
    sigv4_signing_key(SECRET, &s, c.key);
    snprintf(c.date, sizeof c.date, "20130524T000000Z");
    snprintf(c.scope, sizeof c.scope, "20130524/us-east-1/s3/aws4_request");
    snprintf(c.seed_signature, sizeof c.seed_signature, "%s", seed);
    return c;
}

/* Feeds a body in steps of `step` bytes. The decoded data in ret; 0 when complete. */
static int decode(const struct s3_chunked_config *c, const struct buf *body, size_t step,
                  struct buf *ret, struct s3_chunked *d)
{
    struct err e = ERR_INIT;
    s3_chunked_begin(d, c);
    for (size_t at = 0; at < body->len; at += step) {
        size_t len = MIN(step, body->len - at), n = 0;
        uint8_t *out = buf_reserve(ret, len);
        int r = s3_chunked_feed(d, body->data + at, len, out, &n, &e);
        if (r < 0)
            return e.num ? r : 1;
        ret->len += n;
    }
    return s3_chunked_done(d) ? 0 : -ENODATA;
}

static int decode_text(const struct s3_chunked_config *c, const char *text)
{
    struct buf body = {.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)}, out = BUF_INIT;
    struct s3_chunked d;
    int r = decode(c, &body, body.len ? body.len : 1, &out, &d);
    buf_free(&out);
    return r;
}

static void add_run(struct buf *b, char c, size_t n)
{
    char *p = buf_reserve(b, n);
    memset(p, c, n);
    b->len += n;
}

#define SEED "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
#define CHUNK1               \
    "10000;chunk-signature=" \
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
#define CHUNK2 \
    "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
#define CHUNK3 \
    "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n"

static void signed_body(struct buf *b)
{
    buf_str(b, CHUNK1);
    add_run(b, 'a', 65536);
    buf_str(b, "\r\n" CHUNK2);
    add_run(b, 'a', 1024);
    buf_str(b, "\r\n" CHUNK3 "\r\n");
}

TEST(signed_chunks)
{
    struct s3_chunked_config c = example(true, false, SEED);
    static const size_t steps[] = {1, 3, 87, 4096, 65536, 100000};
    struct buf body = BUF_INIT;
    struct s3_chunked d;
    signed_body(&body);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct buf out = BUF_INIT;
        CHECK(decode(&c, &body, steps[i], &out, &d) == 0);
        CHECK(out.len == 66560 && d.total == 66560 && out.data[66559] == 'a');
        buf_free(&out);
    }
    /* A byte of data, of a signature, the end. */
    static const size_t places[] = {100, 66000, 30, 65660};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct buf out = BUF_INIT;
        uint8_t keep = body.data[places[i]];
        body.data[places[i]] = keep == 'b' ? 'c' : 'b';
        CHECK(decode(&c, &body, 4096, &out, &d) == -EACCES);
        body.data[places[i]] = keep;
        buf_free(&out);
    }
    for (size_t cut = 1; cut < 120; cut++) {
        struct buf out = BUF_INIT, part = {.data = body.data, .len = body.len - cut};
        CHECK(decode(&c, &part, 4096, &out, &d) == -ENODATA);
        buf_free(&out);
    }
    buf_str(&body, "x");
    struct buf out = BUF_INIT;
    CHECK(decode(&c, &body, 4096, &out, &d) == -EBADMSG);
    buf_free(&out);
    buf_free(&body);
    c = example(true, false, CHUNK3 + 18); /* another request's seed */
    CHECK(decode_text(&c, CHUNK3 "\r\n") == -EACCES);
}

#define T_SEED "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
#define T_SUM  "x-amz-checksum-crc32c:sOO8/Q==\r\n"
#define T_SIGN                 \
    "x-amz-trailer-signature:" \
    "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"

TEST(signed_trailer)
{
    struct s3_chunked_config c = example(true, true, T_SEED);
    struct buf body = BUF_INIT, out = BUF_INIT;
    struct s3_chunked d;
    char sum[32];
    buf_str(&body, "10000;chunk-signature="
                   "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n");
    add_run(&body, 'a', 65536);
    buf_str(&body, "\r\n400;chunk-signature="
                   "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n");
    add_run(&body, 'a', 1024);
    buf_str(&body, "\r\n0;chunk-signature="
                   "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n");
    size_t trailer = body.len;
    buf_str(&body, T_SUM T_SIGN "\r\n");
    CHECK(decode(&c, &body, 1000, &out, &d) == 0 && out.len == 66560);
    CHECK(s3_chunked_trailer(&d, "x-amz-checksum-crc32c", sum, sizeof sum));
    CHECK_STR(sum, "sOO8/Q==");
    CHECK(!s3_chunked_trailer(&d, "x-amz-checksum-crc32", sum, sizeof sum));
    CHECK(!s3_chunked_trailer(&d, "x-amz-checksum-crc32c", sum, 4));
    /* A changed line, and a line whose signature is left out. */
    static const char *const bad[] = {"x-amz-checksum-crc32c:sOO9/Q==\r\n" T_SIGN "\r\n",
                                      T_SUM "\r\n", T_SUM T_SUM T_SIGN "\r\n",
                                      T_SUM "x-amz-trailer-signature:00\r\n\r\n",
                                      T_SUM T_SIGN T_SUM "\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        body.len = trailer;
        buf_str(&body, bad[i]);
        buf_reset(&out);
        CHECK(decode(&c, &body, 1000, &out, &d) < 0);
    }
    buf_free(&body);
    buf_free(&out);
}

TEST(unsigned_trailer)
{
    struct s3_chunked_config c = {.trailer = true}, plain = {.trailer = false};
    CHECK(decode_text(&c, "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n") == 0);
    CHECK(decode_text(&c, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n") == 0);
    CHECK(decode_text(&c, "0\r\nA: b\r\n\r\n") == 0);
    CHECK(decode_text(&plain, "0\r\n\r\n") == 0);
    static const char *const bad[] = {
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;chunk-signature=aa\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffff\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n:x\r\n\r\n",
        "5\r\nhel\r\rlo",
        "5\r\r\n",
        "0\r\n\r\nx",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(decode_text(&c, bad[i]) == -EBADMSG || i == 11);
    CHECK(decode_text(&plain, "0\r\nA: b\r\n\r\n") == -EBADMSG);
    CHECK(decode_text(&c, "5\r\nhel") == -ENODATA && decode_text(&c, "") == -ENODATA);
    struct buf long_line = BUF_INIT, out = BUF_INIT;
    struct s3_chunked d;
    add_run(&long_line, '0', 400);
    CHECK(decode(&c, &long_line, 400, &out, &d) == -EBADMSG);
    long_line.len = 0;
    buf_str(&long_line, "0\r\n");
    for (int i = 0; i < 20; i++) {
        add_run(&long_line, 'n', 100);
        buf_str(&long_line, ":v\r\n");
    }
    buf_str(&long_line, "\r\n");
    CHECK(decode(&c, &long_line, 64, &out, &d) == -EBADMSG);
    buf_free(&long_line);
    buf_free(&out);
}

static void check_sum(const char *name, const char *text, const char *want)
{
    enum digest_kind kind;
    struct digest d;
    uint8_t bytes[DIGEST_MAX];
    char got[64];
    CHECK(digest_by_name(name, &kind));
    digest_begin(&d, kind);
    for (const char *p = text; *p; p++)
        digest_add(&d, p, 1);
    base64_encode(bytes, digest_end(&d, bytes), got);
    CHECK_STR(got, want);
    /* At once, and from an odd address. */
    char copy[64];
    memcpy(copy + 1, text, strlen(text) + 1);
    digest_begin(&d, kind);
    digest_add(&d, copy + 1, strlen(text));
    base64_encode(bytes, digest_end(&d, bytes), got);
    CHECK_STR(got, want);
}

TEST(checksums)
{
    check_sum("crc32", "123456789", "y/Q5Jg==");
    check_sum("crc32c", "123456789", "4waSgw==");
    check_sum("crc64nvme", "123456789", "rosUhgp5mIg=");
    check_sum("sha1", "abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
    check_sum("sha256", "abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    check_sum("crc32", "The quick brown fox jumps over the lazy dog", "QU+jOQ==");
    check_sum("crc32c", "The quick brown fox jumps over the lazy dog", "ImIEBA==");
    check_sum("crc32", "", "AAAAAA==");
    enum digest_kind kind;
    CHECK(!digest_by_name("md5", &kind) && !digest_by_name("", &kind));
    /* RFC 4231, case 6: a key longer than a block. */
    uint8_t key[131], mac[32];
    char hex[65];
    memset(key, 0xaa, sizeof key);
    hmac_sha256(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
                mac);
    hex_encode(mac, sizeof mac, hex);
    CHECK_STR(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static bool note(void *ctx, const char *path, const char *value)
{
    buf_printf(ctx, "%s=%s;", path, value);
    return true;
}

static void check_xml(const char *text, const char *want)
{
    struct buf b = BUF_INIT;
    bool ok = xml_read(text, strlen(text), note, &b);
    CHECK(ok == (want != NULL));
    if (want)
        CHECK_STR(buf_cstr(&b), want);
    buf_free(&b);
}

TEST(xml)
{
    check_xml("<?xml version=\"1.0\"?>\n<!-- x --><A xmlns='u>v'><B>1</B><B/>\n</A>\n",
              "A/B=1;A/B=;A=\n;");
    check_xml("<A>&lt;&amp;&#65;&#x20ac;&quot;&apos;&gt;</A>", "A=<&A\xe2\x82\xac\"'>;");
    static const char *const bad[] = {
        "",
        "x",
        "<",
        "<A",
        "<A>",
        "</A>",
        "<A></B>",
        "<A/><B/>",
        "<A>&x;</A>",
        "<A>&#0;</A>",
        "<A>&#xd800;</A>",
        "<A>&#99999999999;</A>",
        "<A>&lt</A>",
        "<!DOCTYPE a><A/>",
        "<A><!ENTITY x></A>",
        "<A b='></A>",
        "<A<B></A>",
        "<A></A >x<",

        "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check_xml(bad[i], NULL);
    struct buf b = BUF_INIT;
    xml_element(&b, "K", "a<b>&\"c\x01\n");
    CHECK_STR(buf_cstr(&b), "<K>a&lt;b&gt;&amp;&quot;c&#1;&#10;</K>");
    buf_free(&b);
}

int main(void)
{
    RUN(signed_chunks);
    RUN(signed_trailer);
    RUN(unsigned_trailer);
    RUN(checksums);
    RUN(xml);
    return TAP_DONE();
}
