// SPDX-License-Identifier: Apache-2.0
/*
 * A stranger's signature: request line and headers as text. Nothing verifies
 * without the secret; the canonical form of a canonical query is itself.
 */
#include <stdlib.h>
#include <string.h>

#include "../../api/sigv4.h"
#include "../../api/urlenc.h"
#include "../unit/request_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_once(const struct http_req *r, const struct sigv4 *s, bool twice)
{
    static const uint8_t key[32] = "a key nobody signs with";
    struct sigv4_rules rules = {.service = twice ? "lambda" : "s3",
                                .encode_twice = twice,
                                .sign_all_amz = !twice,
                                .now = s->time};
    struct err e = ERR_INIT;
    if (sigv4_check(s, r, key, "UNSIGNED-PAYLOAD", &rules, &e) == SIGV4_OK || e.num == 0)
        abort();
}

static void check_recode(const char *text)
{
    struct buf a = BUF_INIT, b = BUF_INIT;
    url_recode(&a, text, strlen(text), true);
    const char *once = buf_cstr(&a);
    url_recode(&b, once, strlen(once), true);
    if (a.len != b.len || (a.len > 0 && memcmp(a.data, b.data, a.len) != 0))
        abort();
    buf_free(&a);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct http_req r;
    struct sigv4 s;
    struct err e = ERR_INIT;
    if (len > 16384)
        return 0;
    char *text = strndup((const char *)data, len);
    char *copy = request_from_text(text, &r);
    free(text);
    if (!copy)
        return 0;
    sigv4_scope_is(&r, "s3");
    check_recode(r.path);
    enum sigv4_fault f = sigv4_parse(&r, &s, &e);
    if (f == SIGV4_OK) {
        check_once(&r, &s, false);
        check_once(&r, &s, true);
    } else if (e.num == 0) {
        abort();
    }
    free(copy);
    return 0;
}
