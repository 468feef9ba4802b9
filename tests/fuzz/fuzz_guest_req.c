// SPDX-License-Identifier: Apache-2.0
/* What the host sends to the guest, and what the application answers to a hook: the readers of
 * guest/req.c and guest/http_status.h on arbitrary bytes. */
#include <stdlib.h>
#include <string.h>

#include "../../guest/http_status.h"
#include "../../guest/req.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_http(const char *text, size_t len)
{
    uint32_t whole = 0, part = 0;
    enum http_progress end = http_status(text, len, &whole);
    if (end == HTTP_DONE && (whole < 100 || whole > 999))
        abort();
    /* a shorter piece may say less, never something else */
    enum http_progress half = http_status(text, len / 2, &part);
    if (half != HTTP_MORE && (half != end || (half == HTTP_DONE && part != whole)))
        abort();
}

static void check_list(const struct req *r, uint16_t tag)
{
    struct fail f = {.num = 0};
    size_t n = 0, seen = 0;
    char **list = req_list(r, tag, 16, &n, &f);
    if (!list) {
        if (f.num == 0)
            abort();
        return;
    }
    while (list[seen])
        seen += strlen(list[seen]) < r->len + 1;
    if (seen != n || n > 16)
        abort();
    free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64];
    uint32_t v32;
    uint64_t v64;
    check_http((const char *)data, size);
    if (!tlv_valid(data, size))
        return 0;
    struct req r = {.type = GP_START, .id = 1, .body = data, .len = size};
    for (uint16_t tag = 0; tag < 70; tag++) {
        const uint8_t *d = NULL;
        size_t n = 0;
        if (req_has(&r, tag) != req_find(&r, tag, &d, &n))
            abort();
        if (d && (d < data || n > size || d + n > data + size))
            abort();
        if (!d &&
            (!req_u32(&r, tag, 7, &v32) || v32 != 7 || !req_u64(&r, tag, 8, &v64) || v64 != 8))
            abort();
        if (req_str(&r, tag, text, sizeof(text)) && d && strlen(text) != n)
            abort();
        check_list(&r, tag);
    }
    return 0;
}
