// SPDX-License-Identifier: Apache-2.0
/* Reading and writing of small XML bodies; see s3_xml.h. */
#include "s3_xml.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"

#define DEPTH_MAX 8u
#define PATH_CAP  256u
#define VALUE_CAP 8192u

struct reader {
    const char *p, *end;
    char path[PATH_CAP];
    size_t path_len;
    size_t name_at[DEPTH_MAX]; /* where each open element's name begins in path */
    unsigned depth;
    struct buf value;
    bool seen_root;
};

static bool starts(const struct reader *r, const char *s)
{
    size_t len = strlen(s);
    return (size_t)(r->end - r->p) >= len && memcmp(r->p, s, len) == 0;
}

/* Moves behind the next occurrence of s. */
static bool skip_past(struct reader *r, const char *s)
{
    const char *at = memmem(r->p, (size_t)(r->end - r->p), s, strlen(s));
    if (!at)
        return false;
    r->p = at + strlen(s);
    return true;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || c == '.' || c == ':';
}

static void add_utf8(struct buf *b, uint32_t c)
{
    uint8_t out[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (n == 1) {
        out[0] = (uint8_t)c;
    } else {
        for (size_t i = n - 1; i > 0; i--, c >>= 6)
            out[i] = (uint8_t)(0x80 | (c & 63));
        out[0] = (uint8_t)((0xf00 >> n & 0xff) | c);
    }
    buf_add(b, out, n);
}

static bool read_entity(struct reader *r)
{
    static const struct {
        const char *name;
        char value;
    } known[] = {
        {"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (starts(r, known[i].name)) {
            buf_add(&r->value, &known[i].value, 1);
            r->p += strlen(known[i].name);
            return true;
        }
    }
    if (!starts(r, "&#"))
        return false;
    r->p += 2;
    uint32_t base = 10, v = 0;
    if (r->p < r->end && *r->p == 'x') {
        base = 16;
        r->p++;
    }
    const char *begin = r->p;
    for (; r->p < r->end && *r->p != ';'; r->p++) {
        char c = *r->p;
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 99;
        if (d >= base || r->p - begin > 7)
            return false;
        v = v * base + d;
    }
    if (r->p == r->end || r->p == begin || v == 0 || v > 0x10ffff ||
        (v >= 0xd800 && v < 0xe000))
        return false;
    r->p++;
    add_utf8(&r->value, v);
    return true;
}

static bool close_element(struct reader *r,
                          bool (*fn)(void *ctx, const char *path, const char *value), void *ctx)
{
    const char *value = buf_cstr(&r->value);
    if (!value || !fn(ctx, r->path, value))
        return false;
    buf_reset(&r->value);
    r->depth--;
    size_t at = r->name_at[r->depth];
    r->path_len = at > 0 ? at - 1 : 0;
    r->path[r->path_len] = '\0';
    return true;
}

/* At '<' of an opening tag. */
static bool open_element(struct reader *r, bool *ret_empty)
{
    const char *name = ++r->p;
    while (r->p < r->end && name_char(*r->p))
        r->p++;
    size_t len = (size_t)(r->p - name);
    if (len == 0 || r->depth == DEPTH_MAX || (r->depth == 0 && r->seen_root) ||
        r->path_len + len + 2 > sizeof r->path)
        return false;
    if (r->depth > 0)
        r->path[r->path_len++] = '/';
    r->name_at[r->depth++] = r->path_len;
    memcpy(r->path + r->path_len, name, len);
    r->path_len += len;
    r->path[r->path_len] = '\0';
    r->seen_root = true;
    buf_reset(&r->value);
    /* Attributes mean nothing here; quotes may hide a '>'. */
    char quote = 0, last = 0;
    for (; r->p < r->end; r->p++) {
        if (quote) {
            if (*r->p == quote)
                quote = 0;
        } else if (*r->p == '"' || *r->p == '\'') {
            quote = *r->p;
        } else if (*r->p == '<') {
            return false;
        } else if (*r->p == '>') {
            *ret_empty = last == '/';
            r->p++;
            return true;
        }
        last = *r->p;
    }
    return false;
}

static bool closing_tag(struct reader *r)
{
    if (r->depth == 0)
        return false;
    const char *name = r->path + r->name_at[r->depth - 1];
    size_t len = strlen(name);
    r->p += 2;
    if (!starts(r, name))
        return false;
    r->p += len;
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
    return r->p < r->end && *r->p++ == '>';
}

static bool read_markup(struct reader *r,
                        bool (*fn)(void *ctx, const char *path, const char *value), void *ctx)
{
    bool empty = false;
    if (starts(r, "<?"))
        return skip_past(r, "?>");
    if (starts(r, "<!--"))
        return skip_past(r, "-->");
    if (starts(r, "<!"))
        return false;
    if (starts(r, "</"))
        return closing_tag(r) && close_element(r, fn, ctx);
    return open_element(r, &empty) && (!empty || close_element(r, fn, ctx));
}

bool xml_read(const char *text, size_t len,
              bool (*fn)(void *ctx, const char *path, const char *value), void *ctx)
{
    struct reader r = {.p = text, .end = text + len, .value = {.limit = VALUE_CAP}};
    bool ok = memchr(text, '\0', len) == NULL;
    while (ok && r.p < r.end) {
        if (*r.p == '<')
            ok = read_markup(&r, fn, ctx);
        else if (*r.p == '&')
            ok = r.depth > 0 && read_entity(&r);
        else
            buf_add(&r.value, r.p++, 1);
        ok = ok && !r.value.bad;
    }
    buf_free(&r.value);
    return ok && r.depth == 0 && r.seen_root;
}

void xml_text(struct buf *b, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '<')
            buf_str(b, "&lt;");
        else if (c == '>')
            buf_str(b, "&gt;");
        else if (c == '&')
            buf_str(b, "&amp;");
        else if (c == '"')
            buf_str(b, "&quot;");
        else if (c < ' ')
            buf_printf(b, "&#%u;", c);
        else
            buf_add(b, &c, 1);
    }
}

void xml_element(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, "<%s>", name);
    xml_text(b, text);
    buf_printf(b, "</%s>", name);
}
