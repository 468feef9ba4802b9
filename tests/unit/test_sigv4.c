// SPDX-License-Identifier: Apache-2.0
/*
 * Signatures: examples of the specification (bucket "examplebucket"), requests
 * as the JavaScript SDK signs them, and everything that must not pass.
 */
#include "../../api/sigv4.h"
#include "../../api/urlenc.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"
#include "request_text.h"

#define SPEC_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SPEC_TIME   1369353600 /* 20130524T000000Z */
#define SDK_SECRET  "secret/of+tests"
#define SDK_TIME    1795154400 /* 20261120T060000Z */
#define EMPTY       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct sigv4_rules s3_rules = {
    .service = "s3", .sign_all_amz = true, .now = SPEC_TIME};
static const struct sigv4_rules lambda_rules = {
    .service = "lambda", .encode_twice = true, .now = SDK_TIME};

/* Parses and checks; the payload hash is taken from the request. */
static enum sigv4_fault verify(const char *text, const char *secret,
                               const struct sigv4_rules *rules)
{
    struct http_req r;
    struct sigv4 s;
    uint8_t key[32];
    struct err e = ERR_INIT;
    char *copy = request_from_text(text, &r);
    enum sigv4_fault f = sigv4_parse(&r, &s, &e);
    if (f == SIGV4_OK) {
        const char *hash = http_req_header(&r, "x-amz-content-sha256");
        sigv4_signing_key(secret, &s, key);
        f = sigv4_check(&s, &r, key,
                        hash          ? hash
                        : s.presigned ? "UNSIGNED-PAYLOAD"
                                      : EMPTY,
                        rules, &e);
    }
    /* A refusal always says why. */
    if (f != SIGV4_OK && e.num == 0)
        f = SIGV4_INTERNAL;
    free(copy);
    return f;
}

#define SPEC_AUTH(headers, signature)                                                        \
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/" \
    "aws4_request,SignedHeaders=" headers ",Signature=" signature "\n"
#define SPEC_HEADERS                         \
    "Host: examplebucket.s3.amazonaws.com\n" \
    "x-amz-date: 20130524T000000Z\n"

TEST(specification)
{
    CHECK(verify("GET /test.txt\n" SPEC_HEADERS "Range: bytes=0-9\nx-amz-content-sha256: " EMPTY
                 "\n" SPEC_AUTH("host;range;x-amz-content-sha256;x-amz-date",
                                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb"
                                "41"),
                 SPEC_SECRET, &s3_rules) == SIGV4_OK);
    CHECK(verify("PUT /test%24file.text\n" SPEC_HEADERS "Date: Fri, 24 May 2013 00:00:00 GMT\n"
                 "x-amz-storage-class: REDUCED_REDUNDANCY\nx-amz-content-sha256: "
                 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n" SPEC_AUTH(
                     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
                 SPEC_SECRET, &s3_rules) == SIGV4_OK);
    CHECK(verify("GET /?lifecycle\n" SPEC_HEADERS "x-amz-content-sha256: " EMPTY "\n" SPEC_AUTH(
                     "host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
                 SPEC_SECRET, &s3_rules) == SIGV4_OK);
    /* The query is sorted before it is signed: its order on the wire is free. */
    CHECK(verify("GET /?prefix=J&max-keys=2\n" SPEC_HEADERS "x-amz-content-sha256: " EMPTY
                 "\n" SPEC_AUTH(
                     "host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
                 SPEC_SECRET, &s3_rules) == SIGV4_OK);
}

#define PRESIGNED(signature)                                                                \
    "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%" \
    "2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&"               \
    "X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=" signature               \
    "\nHost: examplebucket.s3.amazonaws.com\n"
#define PRESIGNATURE "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"

TEST(presigned)
{
    struct sigv4_rules rules = s3_rules;
    CHECK(verify(PRESIGNED(PRESIGNATURE), SPEC_SECRET, &rules) == SIGV4_OK);
    rules.now = SPEC_TIME + 86400;
    CHECK(verify(PRESIGNED(PRESIGNATURE), SPEC_SECRET, &rules) == SIGV4_OK);
    rules.now++;
    CHECK(verify(PRESIGNED(PRESIGNATURE), SPEC_SECRET, &rules) == SIGV4_SKEWED);
    CHECK(verify(PRESIGNED("0" PRESIGNATURE), SPEC_SECRET, &s3_rules) == SIGV4_INCOMPLETE);
    CHECK(verify(PRESIGNED(PRESIGNATURE "&x=1"), SPEC_SECRET, &s3_rules) == SIGV4_MISMATCH);
    CHECK(verify(PRESIGNED(PRESIGNATURE "&X-Amz-Expires=9"), SPEC_SECRET, &s3_rules) ==
          SIGV4_INCOMPLETE);
}

/* As the SDK sent them, names and values unchanged. */
#define SDK_HEADERS(id)                                                  \
    "x-amz-user-agent: aws-sdk-js/3.1130.0\nhost: localhost:8443\n"      \
    "amz-sdk-invocation-id: " id "\namz-sdk-request: attempt=1; max=1\n" \
    "x-amz-date: 20261120T060000Z\n"
#define SDK_AUTH(service, headers, signature)                                            \
    "authorization: AWS4-HMAC-SHA256 Credential=AKDMEXAMPLE/20261120/us-east-1/" service \
    "/aws4_request, SignedHeaders=" headers ", Signature=" signature "\n"
#define SDK_SIGNED                                                                \
    "amz-sdk-invocation-id;amz-sdk-request;host;x-amz-content-sha256;x-amz-date;" \
    "x-amz-user-agent"
#define ARN "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Amicrovm-image%3Abox"

#define GET_IMAGE                                                                           \
    "GET /2025-09-09/microvm-images/" ARN                                                   \
    "\n" SDK_HEADERS("964ac9dc-e97d-457a-b2ee-d9211b93ce7c") "x-amz-content-sha256: " EMPTY \
                                                             "\n"
#define GET_IMAGE_SIGNATURE "c3a13c44af22706227bbfd302dfd34895d562228d1a8d16acc7d42ffebf2c553"

TEST(sdk)
{
    struct sigv4_rules s3 = {.service = "s3", .sign_all_amz = true, .now = SDK_TIME};
    CHECK(verify(GET_IMAGE SDK_AUTH("lambda", SDK_SIGNED, GET_IMAGE_SIGNATURE), SDK_SECRET,
                 &lambda_rules) == SIGV4_OK);
    CHECK(
        verify(
            "DELETE /2017-03-31/tags/" ARN
            "?tagKeys=b&tagKeys=a%20b&tagKeys=%C3%A4%2B\n" SDK_HEADERS(
                "a55c3bf7-449d-43c4-bb75-0ffad8d4ce24") "x-amz-content-sha256: " EMPTY
                                                        "\n" SDK_AUTH(
                                                            "lambda", SDK_SIGNED,
                                                            "219cca699476454287e4a3394b8c1635a6"
                                                            "9d265381656676c6cdac5224039c75"),
            SDK_SECRET, &lambda_rules) == SIGV4_OK);
    CHECK(
        verify(
            "POST /2025-09-09/microvms/microvm-1/auth-token\n"
            "content-type: application/json\ncontent-length: 56\n" SDK_HEADERS(
                "ed7f2820-384f-4683-9d11-b623e44f4162") "x-amz-content-sha256: "
                                                        "d2c92c0e2ca2b3a0b059480250a895db618f73"
                                                        "84e02b33bdd79e6bfd66a58a31\n" SDK_AUTH(
                                                            "lambda",
                                                            "amz-sdk-invocation-id;amz-sdk-"
                                                            "request;content-length;content-"
                                                            "type;"
                                                            "host;x-amz-content-sha256;x-amz-"
                                                            "date;x-amz-user-agent",
                                                            "0a9f16ac63687a023912956d8061cc6b97"
                                                            "9f1db376963fec1edafe1356780275"),
            SDK_SECRET, &lambda_rules) == SIGV4_OK);
    /* The endpoint's path prefix is part of what S3 clients sign. */
    CHECK(verify("GET /s3/artifacts/?list-type=2&prefix=a%2Fb%20c&continuation-token=x%3D%3D\n"
                 "x-amz-user-agent: aws-sdk-js/3.1168.0\nhost: localhost:8443\n"
                 "amz-sdk-invocation-id: aa6159b1-b2d7-4837-83a2-4910e026eae5\n"
                 "amz-sdk-request: attempt=1; max=1\nx-amz-date: 20261120T060000Z\n"
                 "x-amz-content-sha256: " EMPTY "\n" SDK_AUTH(
                     "s3", SDK_SIGNED,
                     "39896aebb80d8cbf5df0b004804e4fc205d22a7bc1c894ab0542193053cbbf88"),
                 SDK_SECRET, &s3) == SIGV4_OK);
    CHECK(verify("PUT /s3/artifacts/dir/a%20b%2B%C3%BC%27.zip?x-id=PutObject\n"
                 "content-type: application/octet-stream\ncontent-length: 5\n"
                 "x-amz-sdk-checksum-algorithm: CRC32\nx-amz-checksum-crc32: NhCmhg==\n"
                 "x-amz-user-agent: aws-sdk-js/3.1168.0\nhost: localhost:8443\n"
                 "amz-sdk-invocation-id: ad8a39eb-d2e9-4155-bc85-e077974490b8\n"
                 "amz-sdk-request: attempt=1; max=1\nx-amz-date: 20261120T060000Z\n"
                 "x-amz-content-sha256: "
                 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n" SDK_AUTH(
                     "s3",
                     "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;"
                     "host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date;"
                     "x-amz-sdk-checksum-algorithm;x-amz-user-agent",
                     "e65eecc8dece6e57a8cbb269814f97f7b3f7bd5f55b73d38a959a6402871ecbd"),
                 SDK_SECRET, &s3) == SIGV4_OK);
}

TEST(refusals)
{
    static const char good[] = GET_IMAGE SDK_AUTH("lambda", SDK_SIGNED, GET_IMAGE_SIGNATURE);
    struct sigv4_rules rules = lambda_rules;
    CHECK(verify(good, "another secret", &rules) == SIGV4_MISMATCH);
    rules.encode_twice = false;
    CHECK(verify(good, SDK_SECRET, &rules) == SIGV4_MISMATCH);
    rules = lambda_rules;
    rules.service = "s3";
    CHECK(verify(good, SDK_SECRET, &rules) == SIGV4_SERVICE);
    rules = lambda_rules;
    rules.now = SDK_TIME + SIGV4_SKEW_SECONDS;
    CHECK(verify(good, SDK_SECRET, &rules) == SIGV4_OK);
    rules.now++;
    CHECK(verify(good, SDK_SECRET, &rules) == SIGV4_SKEWED);
    rules.now = SDK_TIME - SIGV4_SKEW_SECONDS - 1;
    CHECK(verify(good, SDK_SECRET, &rules) == SIGV4_SKEWED);
    /* Every byte counts; the key's id does by choosing the secret. */
    size_t id = (size_t)(strstr(good, "AKDMEXAMPLE") - good);
    for (size_t i = 0; i < strlen(good); i++) {
        char changed[sizeof good];
        memcpy(changed, good, sizeof good);
        if (strchr("\n: /?", changed[i]) || (i >= id && i < id + strlen("AKDMEXAMPLE")))
            continue;
        changed[i] = changed[i] == 'x' ? 'y' : 'x';
        CHECK(verify(changed, SDK_SECRET, &lambda_rules) != SIGV4_OK);
    }
    CHECK(verify("GET /2025-09-09/microvms\nhost: x\n", SDK_SECRET, &lambda_rules) ==
          SIGV4_MISSING);
    CHECK(verify("GET /\nhost: x\nauthorization: Bearer abc\n", SDK_SECRET, &lambda_rules) ==
          SIGV4_INCOMPLETE);
}

#define HEAD "GET /\nhost: x\nx-amz-date: 20261120T060000Z\n"
#define CRED "Credential=A/20261120/r/lambda/aws4_request"
#define SIGN "Signature=" EMPTY

TEST(malformed)
{
    static const char *const bad[] = {
        HEAD "authorization: AWS4-HMAC-SHA256\n",
        HEAD "authorization: AWS4-HMAC-SHA256 \n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 SignedHeaders=host, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", " CRED ", SignedHeaders=host, " SIGN
             "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host, " SIGN "0\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host, Signature=x\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=Host, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host;a, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=a;a, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=a;;b, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=;, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 Credential=A/20261121/r/lambda/aws4_request, "
             "SignedHeaders=host, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 Credential=A/20261120/r/lambda/aws4, "
             "SignedHeaders=host, " SIGN "\n",
        HEAD "authorization: AWS4-HMAC-SHA256 Credential=A/B/20261120/r/lambda/aws4_request, "
             "SignedHeaders=host, " SIGN "\n",
        "GET /\nhost: x\nauthorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host, " SIGN
        "\n",
        "GET /\nhost: x\nx-amz-date: 20261120T060000\nauthorization: AWS4-HMAC-SHA256 " CRED
        ", SignedHeaders=host, " SIGN "\n",
        "GET /?X-Amz-Signature=1\nhost: x\n",
        "GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256\nhost: x\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(verify(bad[i], SDK_SECRET, &lambda_rules) == SIGV4_INCOMPLETE);
    CHECK(verify(HEAD "authorization: AWS4-HMAC-SHA256 " CRED ", SignedHeaders=host, " SIGN
                      "\n",
                 SDK_SECRET, &lambda_rules) == SIGV4_UNSIGNED); /* x-amz-date is not signed */
    CHECK(verify(HEAD "authorization: AWS4-HMAC-SHA256 " CRED
                      ", SignedHeaders=x-amz-date, " SIGN "\n",
                 SDK_SECRET, &lambda_rules) == SIGV4_UNSIGNED);
    struct sigv4_rules all = lambda_rules;
    all.sign_all_amz = true;
    CHECK(verify(HEAD "x-amz-copy-source: /a/b\nauthorization: AWS4-HMAC-SHA256 " CRED
                      ", SignedHeaders=host;x-amz-date, " SIGN "\n",
                 SDK_SECRET, &all) == SIGV4_UNSIGNED);
}

static void check_canonical(const char *text, const char *headers, bool twice, const char *want)
{
    struct http_req r;
    struct sigv4 s = {.presigned = false};
    struct buf b = BUF_INIT;
    char *copy = request_from_text(text, &r);
    snprintf(s.signed_headers, sizeof s.signed_headers, "%s", headers);
    sigv4_canonical(&s, &r, twice, false, "HASH", &b);
    CHECK_STR(buf_cstr(&b), want);
    buf_free(&b);
    free(copy);
}

TEST(canonical)
{
    check_canonical("GET /a%3Ab/c?z=1&a=2&a=1&b&=x\nhost:  a \t b  \nX-A: 1\nx-a:2\n",
                    "host;x-a", true,
                    "GET\n/a%253Ab/c\n=x&a=1&a=2&b=&z=1\nhost:a b\nx-a:1,2\n"
                    "\nhost;x-a\nHASH");
    check_canonical("GET /a//./b/../c/\nhost: x\n", "host", true,
                    "GET\n/a/c/\n\nhost:x\n\nhost\nHASH");
    check_canonical("GET /../..\nhost: x\n", "host", true, "GET\n/\n\nhost:x\n\nhost\nHASH");
    /* S3 keys keep their dots and slashes; each byte has one form. */
    check_canonical("GET /a//./b/../c%2fd/%7e~ü'?q=%2b+%zz\nhost: x\n", "host", false,
                    "GET\n/a//./b/../c%2Fd/~~%C3%BC%27\nq=%2B%2B%25zz\nhost:x\n\nhost\nHASH");
    check_canonical("GET /\nhost: x\n", "gone;host", false,
                    "GET\n/\n\ngone:\nhost:x\n\ngone;host\nHASH");
}

TEST(times)
{
    int64_t t;
    CHECK(sigv4_time("20261120T060000Z", &t) && t == SDK_TIME);
    CHECK(sigv4_time("19700101T000000Z", &t) && t == 0);
    CHECK(!sigv4_time("20261320T060000Z", &t) && !sigv4_time("20261120T060000", &t));
    CHECK(!sigv4_time("20261120 060000Z", &t) && !sigv4_time("2026112 T060000Z", &t));
    CHECK(!sigv4_time("", &t) && !sigv4_time("20261120T2+0000Z", &t));
}

TEST(queries)
{
    bool bad = false;
    char *v = query_value("a=1&b=%41%20c&c", "b", &bad);
    CHECK(v && !bad);
    CHECK_STR(v ? v : "", "A c");
    free(v);
    v = query_value("a=1&c", "c", &bad);
    CHECK(v && !*v && !bad);
    free(v);
    CHECK(!query_value("a=%4", "a", &bad) && bad);
    bad = false;
    CHECK(!query_value("a=%00", "a", &bad) && bad);
    CHECK(query_has("x&list-type=2", "x") && !query_has("xx=1", "x") && !query_has("", ""));
}

int main(void)
{
    RUN(specification);
    RUN(presigned);
    RUN(sdk);
    RUN(refusals);
    RUN(malformed);
    RUN(canonical);
    RUN(times);
    RUN(queries);
    return TAP_DONE();
}
