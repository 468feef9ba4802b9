// SPDX-License-Identifier: Apache-2.0
/* ARNs, versions and page tokens from strangers; what is accepted has to be consistent. */
#include <stdlib.h>
#include <string.h>

#include "../../api/arn.h"
#include "../../api/page.h"
#include "../../hypervisor/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_slice(struct slice s, const char *text, size_t len)
{
    if (s.p < text || s.p + s.n > text + len)
        abort();
}

static void check_arn(const char *text, size_t len)
{
    struct arn a;
    if (arn_parse(text, &a) != ARN_OK)
        return;
    check_slice(a.partition, text, len);
    check_slice(a.service, text, len);
    check_slice(a.region, text, len);
    check_slice(a.account, text, len);
    check_slice(a.kind, text, len);
    check_slice(a.name, text, len);
    if (a.name.p + a.name.n != text + len)
        abort();
}

static void check_version(const char *text)
{
    uint32_t v, again;
    char written[32];
    if (!version_parse(text, &v))
        return;
    snprintf(written, sizeof written, "%u.0", v);
    if (v == 0 || !version_parse(written, &again) || again != v ||
        strncmp(written, text, strlen(text)) != 0)
        abort();
}

/* A token that is accepted is the one that would be made for its position. */
static void check_token(const char *text)
{
    static const uint8_t key[SIPHASH_KEY] = {7};
    char position[PAGE_KEY_MAX + 1], token[PAGE_TOKEN_CAP];
    if (page_read(key, "q", text, position) < 0)
        return;
    if (page_make(key, "q", position, token) < 0 || strcmp(token, text) != 0)
        abort();
}

static void check_position(const char *text)
{
    static const uint8_t key[SIPHASH_KEY] = {7};
    char position[PAGE_KEY_MAX + 1], token[PAGE_TOKEN_CAP];
    if (page_make(key, "q", text, token) < 0)
        return;
    if (page_read(key, "q", token, position) < 0 || strcmp(position, text) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = malloc(len + 1);
    if (len)
        memcpy(text, data, len);
    text[len] = '\0';
    len = strlen(text);
    check_arn(text, len);
    check_version(text);
    check_token(text);
    check_position(text);
    return 0;
}
