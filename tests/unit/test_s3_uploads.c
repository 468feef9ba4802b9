// SPDX-License-Identifier: Apache-2.0
/* Pages of uploads: prefix, delimiter, markers; every page followed to its end tells all once.
 */
#include <stdio.h>
#include <string.h>

#include "../../api/s3_uploads.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

static char keys[][32] = {"b/2/x", "a", "b/1", "c/", "b/2/y", "a", "b", "cc", "b/2/x", "d&e/f"};

static size_t uploads(struct s3_upload all[ARRAY_LEN(keys)])
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        all[i] = (struct s3_upload){.key = keys[i], .begun = (double)i};
        snprintf(all[i].id, sizeof all[i].id, "id-%zu", i);
    }
    return ARRAY_LEN(keys);
}

/* The values of all elements of that name, with blanks between them. */
static const char *values(const char *xml, const char *element, char *ret, size_t cap)
{
    char open[40];
    size_t n = 0;
    ret[0] = '\0';
    snprintf(open, sizeof open, "<%s>", element);
    for (const char *at = xml; (at = strstr(at, open));) {
        at += strlen(open);
        n += (size_t)snprintf(ret + n, cap - n, "%s%.*s", n ? " " : "", (int)strcspn(at, "<"),
                              at);
    }
    return ret;
}

static char text[4000];

static const char *page(struct buf *b, struct s3_uploads_ask ask)
{
    struct s3_upload all[ARRAY_LEN(keys)];
    ask.bucket = "box";
    ask.prefix = ask.prefix ? ask.prefix : "";
    ask.delimiter = ask.delimiter ? ask.delimiter : "";
    ask.key_marker = ask.key_marker ? ask.key_marker : "";
    ask.id_marker = ask.id_marker ? ask.id_marker : "";
    ask.max = ask.max ? ask.max : 1000;
    buf_reset(b);
    s3_uploads_xml(b, &ask, all, uploads(all));
    return buf_cstr(b);
}
#define PAGE(...)                     page(&b, (struct s3_uploads_ask){__VA_ARGS__})
#define CHECK_ALL(xml, element, want) CHECK_STR(values(xml, element, text, sizeof text), want)

TEST(groups)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    const char *xml = PAGE(.max = 0);
    CHECK_ALL(xml, "Key", "a a b b/1 b/2/x b/2/x b/2/y c/ cc d&amp;e/f");
    CHECK_ALL(xml, "UploadId", "id-1 id-5 id-6 id-2 id-0 id-8 id-4 id-3 id-7 id-9");
    CHECK_ALL(xml, "IsTruncated", "false");
    CHECK(!strstr(xml, "CommonPrefixes") && !strstr(xml, "Delimiter"));

    xml = PAGE(.delimiter = "/");
    CHECK_ALL(xml, "Key", "a a b cc");
    CHECK(strstr(xml, "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
                      "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"
                      "<CommonPrefixes><Prefix>d&amp;e/</Prefix></CommonPrefixes>"));
    CHECK_ALL(xml, "Delimiter", "/");

    xml = PAGE(.delimiter = "/", .prefix = "b/");
    CHECK_ALL(xml, "Key", "b/1");
    CHECK_ALL(xml, "Prefix", "b/ b/2/");
    xml = PAGE(.delimiter = "/", .prefix = "b/2");
    CHECK_ALL(xml, "Key", "");
    CHECK_ALL(xml, "Prefix", "b/2 b/2/");
    xml = PAGE(.delimiter = "2/", .prefix = "b");
    CHECK_ALL(xml, "Key", "b b/1");
    CHECK_ALL(xml, "Prefix", "b b/2/");

    xml = PAGE(.delimiter = "/", .url = true);
    CHECK_ALL(xml, "EncodingType", "url");
    CHECK(strstr(xml, "<Prefix>d%26e/</Prefix>"));
}

TEST(markers)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    CHECK_ALL(PAGE(.key_marker = "a"), "UploadId", "id-6 id-2 id-0 id-8 id-4 id-3 id-7 id-9");
    CHECK_ALL(PAGE(.key_marker = "a", .id_marker = "id-1", .max = 2), "UploadId", "id-5 id-6");
    const char *xml = PAGE(.key_marker = "b/", .delimiter = "/");
    CHECK_ALL(xml, "Key", "cc");
    CHECK_ALL(xml, "Prefix", "c/ d&amp;e/"); /* behind the request's own, which is empty */
    xml = PAGE(.key_marker = "b/", .delimiter = ""); /* a key like others */
    CHECK_ALL(xml, "Key", "b/1 b/2/x b/2/x b/2/y c/ cc d&amp;e/f");
    CHECK_ALL(PAGE(.key_marker = "zz"), "Key", "");
}

/* However long the pages are. */
TEST(every_page)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    for (uint64_t max = 1; max < 9; max++) {
        char key[64] = "", id[64] = "", told[400] = "", all[1000];
        size_t n = 0;
        for (unsigned i = 0; i < 20; i++) {
            const char *xml =
                PAGE(.delimiter = "/", .max = max, .key_marker = key, .id_marker = id);
            values(xml, "UploadId", all, sizeof all);
            n += (size_t)snprintf(told + n, sizeof told - n, "%s;", all);
            values(xml, "Prefix", all, sizeof all);
            n += (size_t)snprintf(told + n, sizeof told - n, "%s;", all);
            values(xml, "NextUploadIdMarker", id, sizeof id);
            bool more = strcmp(values(xml, "IsTruncated", all, sizeof all), "true") == 0;
            values(xml, "NextKeyMarker", key, sizeof key);
            CHECK(more == (key[0] != '\0'));
            if (!more)
                break;
        }
        for (size_t i = 0; i < n; i++)
            told[i] = told[i] == ' ' ? ';' : told[i];
        unsigned seen = 0;
        static const char *const want[] = {"id-1;", "id-5;", "id-6;",    "id-7;",
                                           "b/;",   "c/;",   "d&amp;e/;"};
        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
            const char *first = strstr(told, want[i]);
            seen += first && !strstr(first + 1, want[i]);
        }
        CHECK(seen == ARRAY_LEN(want));
    }
}

int main(void)
{
    RUN(groups);
    RUN(markers);
    RUN(every_page);
    return TAP_DONE();
}
