// SPDX-License-Identifier: Apache-2.0
/* Percent-encoding and query strings; see urlenc.h. */
#include "urlenc.h"

#include <stdlib.h>
#include <string.h>

static bool unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

static void encode_byte(struct buf *b, unsigned char c, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    if (unreserved(c) || (c == '/' && keep_slash)) {
        buf_add(b, &c, 1);
    } else {
        char out[3] = {'%', digits[c >> 4], digits[c & 15]};
        buf_add(b, out, sizeof out);
    }
}

void url_encode(struct buf *b, const char *text, size_t len, bool keep_slash)
{
    for (size_t i = 0; i < len; i++)
        encode_byte(b, (unsigned char)text[i], keep_slash);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte of an escape at text[0], or -1. */
static int escape_value(const char *text, size_t len)
{
    if (len < 3 || text[0] != '%')
        return -1;
    int high = hex_value(text[1]), low = hex_value(text[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

bool url_decode(const char *text, size_t len, char *ret, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int v = (unsigned char)text[i];
        if (text[i] == '%') {
            v = escape_value(text + i, len - i);
            i += 2;
        }
        if (v <= 0 || n + 1 >= cap)
            return false;
        ret[n++] = (char)v;
    }
    if (n >= cap)
        return false;
    ret[n] = '\0';
    return true;
}

void url_recode(struct buf *b, const char *text, size_t len, bool keep_slash)
{
    for (size_t i = 0; i < len; i++) {
        int v = escape_value(text + i, len - i);
        if (v == '/') {
            /* An encoded slash is data, not a separator. */
            encode_byte(b, '/', false);
            i += 2;
        } else if (v >= 0) {
            encode_byte(b, (unsigned char)v, keep_slash);
            i += 2;
        } else {
            encode_byte(b, (unsigned char)text[i], keep_slash);
        }
    }
}

bool query_next(struct query_iter *it)
{
    while (*it->rest == '&')
        it->rest++;
    if (!*it->rest)
        return false;
    size_t len = strcspn(it->rest, "&");
    const char *equals = memchr(it->rest, '=', len);
    it->name = it->rest;
    it->name_len = equals ? (size_t)(equals - it->rest) : len;
    it->value = equals ? equals + 1 : it->rest + len;
    it->value_len = len - it->name_len - (equals != NULL);
    it->rest += len;
    return true;
}

static bool query_find(const char *query, const char *name, struct query_iter *it)
{
    it->rest = query;
    while (query_next(it)) {
        if (it->name_len == strlen(name) && !memcmp(it->name, name, it->name_len))
            return true;
    }
    return false;
}

char *query_value(const char *query, const char *name, bool *ret_bad)
{
    struct query_iter it;
    if (!query_find(query, name, &it))
        return NULL;
    char *text = malloc(it.value_len + 1);
    if (!text ||
        (it.value_len > 0 && !url_decode(it.value, it.value_len, text, it.value_len + 1))) {
        *ret_bad = true;
        free(text);
        return NULL;
    }
    text[it.value_len > 0 ? strlen(text) : 0] = '\0';
    return text;
}

bool query_has(const char *query, const char *name)
{
    struct query_iter it;
    return query_find(query, name, &it);
}
