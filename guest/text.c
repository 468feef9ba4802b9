// SPDX-License-Identifier: Apache-2.0
/* See text.h. */
#include "text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct text_out {
    char *buf;
    size_t size, len;
};

static void add(struct text_out *o, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++, o->len++)
        if (o->len + 1 < o->size)
            o->buf[o->len] = s[i];
}

static void add_number(struct text_out *o, uint64_t v, unsigned base, bool minus)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    if (minus)
        digits[--at] = '-';
    add(o, digits + at, sizeof(digits) - at);
}

int text_vput(char *buf, size_t size, const char *fmt, va_list ap)
{
    struct text_out o = {.buf = buf, .size = size};
    while (*fmt) {
        size_t plain = strcspn(fmt, "%");
        add(&o, fmt, plain);
        fmt += plain;
        if (!*fmt)
            break;
        fmt++;
        size_t limit = SIZE_MAX;
        if (*fmt == '.') {
            fmt++;
            limit = 0;
            if (*fmt == '*') {
                int n = va_arg(ap, int);
                limit = n < 0 ? SIZE_MAX : (size_t)n;
                fmt++;
            }
            for (; *fmt >= '0' && *fmt <= '9'; fmt++)
                limit = limit * 10 + (size_t)(*fmt - '0');
        }
        bool wide = false;
        for (; *fmt == 'l' || *fmt == 'z'; fmt++)
            wide = true; /* int64_t is long on every machine this runs on */
        switch (*fmt) {
        case 's': {
            const char *s = va_arg(ap, const char *);
            s = s ? s : "(null)";
            add(&o, s, limit == SIZE_MAX ? strlen(s) : strnlen(s, limit));
            break;
        }
        case 'c': {
            char c = (char)va_arg(ap, int);
            add(&o, &c, 1);
            break;
        }
        case 'd': {
            int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
            add_number(&o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, v < 0);
            break;
        }
        case 'u':
        case 'x':
        case 'o': {
            uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
            add_number(&o, v, *fmt == 'u' ? 10 : *fmt == 'x' ? 16 : 8, false);
            break;
        }
        default: /* a percent sign, or nothing this knows: shown as it stands */
            add(&o, fmt, 1);
            break;
        }
        if (*fmt)
            fmt++;
    }
    if (size > 0)
        buf[o.len < size ? o.len : size - 1] = '\0';
    return (int)o.len;
}

int text_put(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = text_vput(buf, size, fmt, ap);
    va_end(ap);
    return n;
}

const char *text_find(const char *text, const char *what)
{
    size_t n = strlen(what);
    for (; *text; text++)
        if (strncmp(text, what, n) == 0)
            return text;
    return NULL;
}
