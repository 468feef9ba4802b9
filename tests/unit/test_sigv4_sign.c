// SPDX-License-Identifier: Apache-2.0
/* What our signer signs, our verifier accepts, and an example of the specification. */
#include <errno.h>
#include <stdlib.h>

#include "../../api/sigv4_sign.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#define NOW   1795154400 /* 20261120T060000Z */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct http_req request(const char *method, const char *path, const char *query)
{
    struct http_req r = {.path = (char *)(uintptr_t)path, .query = (char *)(uintptr_t)query};
    snprintf(r.method, sizeof r.method, "%s", method);
    return r;
}

static void add(struct http_req *r, const char *name, const char *value)
{
    r->headers[r->nheaders].name = (char *)(uintptr_t)name;
    r->headers[r->nheaders++].value = (char *)(uintptr_t)value;
}

/* Signs, then verifies with that secret. */
static enum sigv4_fault round_trip(struct http_req *r, const struct sigv4_signer *k,
                                   const char *secret, const char *hash)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    struct sigv4 s;
    uint8_t key[32];
    char date[17];
    const struct sigv4_rules rules = {.service = k->service,
                                      .encode_twice = k->encode_twice,
                                      .sign_all_amz = true,
                                      .now = NOW};
    sigv4_date(NOW, date);
    add(r, "X-Amz-Date", date);
    add(r, "x-amz-content-sha256", hash);
    if (sigv4_sign(k, r, hash, &b, &e) < 0) {
        printf("# %s\n", e.msg);
        return SIGV4_INTERNAL;
    }
    add(r, "Authorization", buf_cstr(&b));
    enum sigv4_fault f = sigv4_parse(r, &s, &e);
    if (f == SIGV4_OK) {
        sigv4_signing_key(secret, &s, key);
        f = sigv4_check(&s, r, key, hash, &rules, &e);
    }
    return f;
}

TEST(accepted)
{
    static const struct sigv4_signer lambda = {.key_id = "AKID",
                                               .secret = "s3/cret+",
                                               .region = "us-east-1",
                                               .service = "lambda",
                                               .encode_twice = true};
    static const struct sigv4_signer s3 = {
        .key_id = "AKID", .secret = "s3/cret+", .region = "us-east-1", .service = "s3"};
    static const char *const targets[][2] = {
        {"/", ""},
        {"/2025-09-09/microvms", "maxResults=5&nextToken=a%2Bb%3D%3D"},
        {"/2025-09-09/microvm-images/arn%3Aaws%3Alambda%3Ax%3A1%3Amicrovm-image%3Aa",
         "b=2&a=1"},
        {"/s3/artifacts/folder/%C3%A4%20b%2Bc.zip", "x-id=PutObject"},
    };
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct http_req r = request("GET", targets[i][0], targets[i][1]);
        add(&r, "Host", "localhost:8443");
        add(&r, "Content-Type", "application/json");
        CHECK(round_trip(&r, &lambda, "s3/cret+", EMPTY) == SIGV4_OK);
        r = request("PUT", targets[i][0], targets[i][1]);
        add(&r, "Host", "localhost:8443");
        CHECK(round_trip(&r, &s3, "s3/cret+", EMPTY) == SIGV4_OK);
        r = request("PUT", targets[i][0], targets[i][1]);
        add(&r, "Host", "localhost:8443");
        CHECK(round_trip(&r, &s3, "another", EMPTY) == SIGV4_MISMATCH);
    }
}

/* "GET Object" of the S3 documentation. */
TEST(specification)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    static const struct sigv4_signer k = {.key_id = "AKIAIOSFODNN7EXAMPLE",
                                          .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                          .region = "us-east-1",
                                          .service = "s3"};
    struct http_req r = request("GET", "/test.txt", "");
    add(&r, "x-amz-date", "20130524T000000Z");
    add(&r, "x-amz-content-sha256", EMPTY);
    add(&r, "Range", "bytes=0-9");
    add(&r, "Host", "examplebucket.s3.amazonaws.com");
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == 0);
    CHECK_STR(buf_cstr(&b),
              "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
              "aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
              "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(refused)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    struct sigv4_signer k = {
        .key_id = "a", .secret = "b", .region = "us-east-1", .service = "lambda"};
    struct http_req r = request("GET", "/", "");
    add(&r, "host", "x");
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == -EINVAL); /* no date */
    add(&r, "x-amz-date", "yesterday");
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == -EINVAL);
    r.headers[1].value = (char *)(uintptr_t) "20261120T060000Z";
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == 0);
    k.key_id = "a/b";
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == -EINVAL);
    k.key_id = "a\r\nb: c";
    CHECK(sigv4_sign(&k, &r, EMPTY, &b, &e) == -EINVAL);
}

int main(void)
{
    RUN(accepted);
    RUN(specification);
    RUN(refused);
    return TAP_DONE();
}
