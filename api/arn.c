// SPDX-License-Identifier: Apache-2.0
/* ARNs, versions and percent-encoding; see arn.h. */
#include "arn.h"

#include <string.h>

#include "../hypervisor/base/num.h"
#include "utf8.h"

bool slice_is(struct slice s, const char *text)
{
    return strlen(text) == s.n && memcmp(s.p, text, s.n) == 0;
}

bool slice_copy(struct slice s, char *ret, size_t cap)
{
    if (s.n == 0 || s.n >= cap)
        return false;
    memcpy(ret, s.p, s.n);
    ret[s.n] = '\0';
    return true;
}

enum arn_fault arn_parse(const char *text, struct arn *ret)
{
    if (strncmp(text, "arn:", 4) != 0)
        return ARN_NO_PREFIX;
    struct slice *const parts[] = {&ret->partition, &ret->service, &ret->region,
                                   &ret->account};
    const char *p = text + 4;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const char *colon = strchr(p, ':');
        if (!colon)
            return ARN_MALFORMED;
        *parts[i] = (struct slice){p, (size_t)(colon - p)};
        p = colon + 1;
    }
    if (ret->partition.n == 0 || ret->service.n == 0 || *p == '\0')
        return ARN_MALFORMED;
    size_t kind = strcspn(p, ":/");
    ret->kind = (struct slice){p, kind};
    ret->sep = p[kind];
    const char *name = ret->sep ? p + kind + 1 : p + kind;
    ret->name = (struct slice){name, strlen(name)};
    return ARN_OK;
}

bool version_parse(const char *text, uint32_t *ret)
{
    size_t len = strlen(text);
    if (len > 2 && strcmp(text + len - 2, ".0") == 0)
        len -= 2;
    uint64_t v;
    if (text[0] == '0' || !parse_u64n(text, len, 1, 999999, &v))
        return false;
    *ret = (uint32_t)v;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool percent_decode(const char *in, size_t len, bool plus_is_space, char *ret, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%') {
            if (!range_ok(i, 3, len))
                return false;
            int hi = hex_digit(in[i + 1]), lo = hex_digit(in[i + 2]);
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0' || n + 1 >= cap)
            return false;
        ret[n++] = c;
    }
    if (cap == 0)
        return false;
    ret[n] = '\0';
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_len(ret + i, n - i);
        if (k == 0)
            return false;
    }
    return true;
}
