// SPDX-License-Identifier: Apache-2.0
/* ARNs and versions; see arn.h. */
#include "arn.h"

#include <string.h>

#include "../hypervisor/base/num.h"

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
    struct slice *const parts[] = {&ret->partition, &ret->service, &ret->region, &ret->account};
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
