// SPDX-License-Identifier: Apache-2.0
/* Growable byte buffer; see buf.h. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_free(struct buf *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->bad = false;
}

void *buf_reserve(struct buf *b, size_t len)
{
    size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;
    if (b->bad || len > limit || b->len > limit - len) {
        b->bad = true;
        return NULL;
    }
    if (b->len + len > b->cap || !b->data) {
        size_t cap = b->cap ? b->cap : 128;
        while (cap < b->len + len)
            cap *= 2;
        uint8_t *data = realloc(b->data, cap);
        if (!data) {
            b->bad = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return;
    void *p = buf_reserve(b, len);
    if (p) {
        memcpy(p, data, len);
        b->len += len;
    }
}

void buf_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->bad = true;
        return;
    }
    char *p = buf_reserve(b, (size_t)n + 1);
    if (!p)
        return;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

char *buf_cstr(struct buf *b)
{
    char *p = buf_reserve(b, 1);
    if (!p)
        return NULL;
    *p = '\0';
    return (char *)b->data;
}
