// SPDX-License-Identifier: Apache-2.0
/* Streaming JSON writer; see jsonw.h. */
#include "jsonw.h"

#include <string.h>

#include "utf8.h"

static void value_begins(struct jsonw *w)
{
    if (w->comma)
        buf_add(w->b, ",", 1);
    w->comma = true;
}

void jsonw_open(struct jsonw *w, char bracket)
{
    value_begins(w);
    buf_add(w->b, &bracket, 1);
    w->comma = false;
}

void jsonw_close(struct jsonw *w, char bracket)
{
    buf_add(w->b, &bracket, 1);
    w->comma = true;
}

static void add_escaped(struct buf *b, const char *s, size_t len)
{
    size_t plain = 0; /* start of the run not yet copied */
    size_t i = 0;
    while (i < len) {
        unsigned char c = (unsigned char)s[i];
        bool ascii = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
        size_t n = ascii ? 1 : utf8_len(s + i, len - i);
        if (ascii || (n > 1 && c >= 0x80)) {
            i += n;
            continue;
        }
        buf_add(b, s + plain, i - plain);
        if (n == 0)
            buf_str(b, "\\ufffd");
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_str(b, "\\n");
        else
            buf_printf(b, "\\u%04x", c);
        plain = ++i;
    }
    buf_add(b, s + plain, len - plain);
}

void jsonw_strn(struct jsonw *w, const char *s, size_t len)
{
    value_begins(w);
    buf_add(w->b, "\"", 1);
    add_escaped(w->b, s, len);
    buf_add(w->b, "\"", 1);
}

void jsonw_str(struct jsonw *w, const char *s)
{
    jsonw_strn(w, s, strlen(s));
}

void jsonw_key(struct jsonw *w, const char *key)
{
    jsonw_str(w, key);
    buf_add(w->b, ":", 1);
    w->comma = false;
}

/* Lists are mostly made of these; printf takes many times as long. */
static void add_digits(struct buf *b, uint64_t v, unsigned least)
{
    char text[20], *at = text + sizeof text;
    do {
        *--at = (char)('0' + v % 10);
    } while ((v /= 10) || (size_t)(text + sizeof text - at) < least);
    buf_add(b, at, (size_t)(text + sizeof text - at));
}

void jsonw_u64(struct jsonw *w, uint64_t v)
{
    value_begins(w);
    add_digits(w->b, v, 1);
}

void jsonw_bool(struct jsonw *w, bool v)
{
    value_begins(w);
    buf_str(w->b, v ? "true" : "false");
}

void jsonw_time(struct jsonw *w, double epoch)
{
    value_begins(w);
    if (!(epoch >= 0 && epoch < 1e12)) { /* no moment that anybody wrote down */
        buf_printf(w->b, "%.3f", epoch);
        return;
    }
    uint64_t ms = (uint64_t)(epoch * 1000 + 0.5);
    add_digits(w->b, ms / 1000, 1);
    buf_add(w->b, ".", 1);
    add_digits(w->b, ms % 1000, 3);
}

void jsonw_raw(struct jsonw *w, const char *json)
{
    value_begins(w);
    buf_str(w->b, json);
}

void jsonw_raw_members(struct jsonw *w, const char *object)
{
    size_t len = strlen(object);
    if (len <= 2 || object[0] != '{' || object[len - 1] != '}')
        return;
    value_begins(w);
    buf_add(w->b, object + 1, len - 2);
}

void jsonw_kstr(struct jsonw *w, const char *key, const char *s)
{
    jsonw_key(w, key);
    jsonw_str(w, s);
}

void jsonw_kstr_opt(struct jsonw *w, const char *key, const char *s)
{
    if (s && *s)
        jsonw_kstr(w, key, s);
}

void jsonw_ku64(struct jsonw *w, const char *key, uint64_t v)
{
    jsonw_key(w, key);
    jsonw_u64(w, v);
}

void jsonw_kbool(struct jsonw *w, const char *key, bool v)
{
    jsonw_key(w, key);
    jsonw_bool(w, v);
}

void jsonw_ktime(struct jsonw *w, const char *key, double epoch)
{
    jsonw_key(w, key);
    jsonw_time(w, epoch);
}

void jsonw_kopen(struct jsonw *w, const char *key, char bracket)
{
    jsonw_key(w, key);
    jsonw_open(w, bracket);
}
