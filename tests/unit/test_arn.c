// SPDX-License-Identifier: Apache-2.0
/* ARNs and versions as strangers write them; strict UTF-8; the JSON writer's escapes. */
#include "../../api/arn.h"
#include "../../api/jsonw.h"
#include "../../api/utf8.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

TEST(arns)
{
    struct arn a;
    CHECK(arn_parse("arn:aws:lambda:r:1:microvm-image:box", &a) == ARN_OK);
    CHECK(slice_is(a.service, "lambda") && slice_is(a.region, "r") && slice_is(a.account, "1"));
    CHECK(slice_is(a.kind, "microvm-image") && slice_is(a.name, "box") && a.sep == ':');
    CHECK(arn_parse("arn:aws:iam::1:role/a/b", &a) == ARN_OK);
    CHECK(slice_is(a.kind, "role") && slice_is(a.name, "a/b") && a.sep == '/');
    CHECK(arn_parse("arn:aws:s3:::bucket", &a) == ARN_OK && a.sep == 0 && a.name.n == 0);
    CHECK(arn_parse("arn:aws:lambda:r:1:x:y:z", &a) == ARN_OK && slice_is(a.name, "y:z"));
    CHECK(arn_parse("box", &a) == ARN_NO_PREFIX && arn_parse("", &a) == ARN_NO_PREFIX);
    CHECK(arn_parse("ARN:aws:lambda:r:1:x", &a) == ARN_NO_PREFIX);
    static const char *const bad[] = {"arn:",
                                      "arn:aws",
                                      "arn:aws:lambda",
                                      "arn:aws:lambda:r",
                                      "arn:aws:lambda:r:1",
                                      "arn:aws:lambda:r:1:",
                                      "arn::lambda:r:1:x",
                                      "arn:aws::r:1:x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(arn_parse(bad[i], &a) == ARN_MALFORMED);
}

TEST(slices)
{
    char s[4];
    CHECK(slice_copy((struct slice){"abc", 3}, s, sizeof s) && strcmp(s, "abc") == 0);
    CHECK(!slice_copy((struct slice){"abcd", 4}, s, sizeof s));
    CHECK(!slice_copy((struct slice){"", 0}, s, sizeof s));
    CHECK(!slice_is((struct slice){"abc", 2}, "abc") &&
          slice_is((struct slice){"abc", 2}, "ab"));
}

TEST(versions)
{
    uint32_t v = 0;
    CHECK(version_parse("1.0", &v) && v == 1);
    CHECK(version_parse("12", &v) && v == 12);
    CHECK(version_parse("999999.0", &v) && v == 999999);
    static const char *const bad[] = {"",   "0",     "0.0", "01", "1.1",       "1.00",   ".0",
                                      "-1", "1.0.0", " 1",  "1.", "1000000.0", "$LATEST"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!version_parse(bad[i], &v));
}

TEST(utf8)
{
    CHECK(utf8_ok("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10) && utf8_ok("", 0));
    static const char *const bad[] = {"\x80",         "\xc3",         "\xc0\x80",
                                      "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xff",         "\xf0\x9f\x98"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!utf8_ok(bad[i], strlen(bad[i])));
}

TEST(json_writer)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct jsonw w;
    jsonw_init(&w, &b);
    jsonw_open(&w, '{');
    jsonw_kstr(&w, "a", "q\" b\\ n\n t\t d\x7f z\x01 \xc3\xa9 \xff.");
    jsonw_kstr_opt(&w, "absent", "");
    jsonw_kstr_opt(&w, "absent", NULL);
    jsonw_kopen(&w, "list", '[');
    jsonw_u64(&w, UINT64_MAX);
    jsonw_bool(&w, true);
    jsonw_open(&w, '{');
    jsonw_close(&w, '}');
    jsonw_close(&w, ']');
    jsonw_ktime(&w, "t", 1795130000.123);
    jsonw_raw_members(&w, "{}");
    jsonw_raw_members(&w, "{\"x\":1,\"y\":2}");
    jsonw_kopen(&w, "e", '[');
    jsonw_close(&w, ']');
    jsonw_close(&w, '}');
    CHECK_STR(buf_cstr(&b),
              "{\"a\":\"q\\\" b\\\\ n\\n t\\u0009 d\\u007f z\\u0001 \xc3\xa9 \\ufffd.\","
              "\"list\":[18446744073709551615,true,{}],\"t\":1795130000.123,"
              "\"x\":1,\"y\":2,\"e\":[]}");
}

int main(void)
{
    RUN(arns);
    RUN(slices);
    RUN(versions);
    RUN(utf8);
    RUN(json_writer);
    return TAP_DONE();
}
