// SPDX-License-Identifier: Apache-2.0
/* Text for people; see text.h. */
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"

void text_clean(struct buf *b, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        bool bad = (c < ' ' && c != '\n' && c != '\t') || c == 127;
        /* U+0080 to U+009F are commands to a terminal, too. */
        if (c == 0xc2 && (i + 1 == len || (unsigned char)data[i + 1] < 0xa0)) {
            bad = true;
            i++;
        }
        buf_add(b, bad ? "?" : &data[i], 1);
    }
}

void text_print(FILE *to, const char *data, size_t len, bool clean)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    if (clean) {
        text_clean(&b, data, len);
        data = (const char *)b.data;
        len = b.bad ? 0 : b.len;
    }
    if (len)
        fwrite(data, 1, len, to);
}

void human_size(uint64_t bytes, char ret[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t u = 0;
    /* 999.95 would be shown as 1000. */
    while (u + 1 < ARRAY_LEN(units) && v >= (u ? 999.5 : 1000)) {
        v /= 1000;
        u++;
    }
    snprintf(ret, 24, u && v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

void human_age(double seconds, char ret[24])
{
    static const struct {
        double from, unit;
        char letter;
    } steps[] = {{172800, 86400, 'd'}, {7200, 3600, 'h'}, {120, 60, 'm'}};
    if (!(seconds > 0))
        seconds = 0;
    if (seconds > 1e9)
        seconds = 1e9;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (seconds >= steps[i].from) {
            snprintf(ret, 24, "%.0f%c", floor(seconds / steps[i].unit), steps[i].letter);
            return;
        }
    }
    snprintf(ret, 24, "%.0fs", floor(seconds));
}

void human_time(double epoch, char ret[40])
{
    double whole = floor(epoch);
    time_t t = (time_t)whole;
    struct tm tm = {.tm_mday = 1};
    char text[24] = "";
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret, 40, "%s.%03dZ", text, (int)((epoch - whole) * 1000 + 0.5) % 1000);
}

unsigned text_width(const char *s)
{
    unsigned n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* ---- tables -------------------------------------------------------------------------- */

void table_init(struct table *t, const char *const *heads)
{
    *t = (struct table){.ncols = 0};
    while (t->ncols < TABLE_COLUMNS && heads[t->ncols]) {
        t->heads[t->ncols] = heads[t->ncols];
        t->ncols++;
    }
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->nrows * t->ncols; i++)
        free(t->cells[i]);
    free(t->cells);
    t->cells = NULL;
    t->nrows = 0;
}

void table_row(struct table *t, const char *const *cells)
{
    if (t->nrows == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        char **grown = reallocarray(t->cells, cap * t->ncols, sizeof *grown);
        if (!grown) {
            t->bad = true;
            return;
        }
        t->cells = grown;
        t->cap = cap;
    }
    char **row = t->cells + t->nrows * t->ncols;
    for (size_t i = 0; i < t->ncols; i++) {
        AUTO(buf_free) struct buf b = BUF_INIT;
        text_clean(&b, cells[i], strlen(cells[i]));
        const char *clean = buf_cstr(&b);
        row[i] = strdup(clean ? clean : "");
        if (!row[i] || !clean)
            t->bad = true;
        /* A cell is one line. */
        for (char *p = row[i]; p && *p; p++)
            *p = (char)(*p == '\n' || *p == '\t' ? ' ' : *p);
    }
    t->nrows++;
}

static void format_row(const struct table *t, const char *const *row, const unsigned *width,
                       struct buf *b)
{
    size_t last = t->ncols;
    while (last > 1 && row[last - 1] && row[last - 1][0] == '\0')
        last--;
    for (size_t i = 0; i < last; i++) {
        const char *cell = row[i] ? row[i] : "";
        buf_str(b, cell);
        if (i + 1 < last)
            buf_printf(b, "%*s", (int)(width[i] - text_width(cell) + 2), "");
    }
    buf_str(b, "\n");
}

void table_format(const struct table *t, struct buf *b)
{
    unsigned width[TABLE_COLUMNS] = {0};
    if (t->nrows == 0)
        return;
    for (size_t i = 0; i < t->ncols; i++) {
        width[i] = text_width(t->heads[i]);
        for (size_t r = 0; r < t->nrows; r++) {
            const char *cell = t->cells[r * t->ncols + i];
            width[i] = MAX(width[i], cell ? text_width(cell) : 0u);
        }
    }
    format_row(t, t->heads, width, b);
    for (size_t r = 0; r < t->nrows; r++)
        format_row(t, (const char *const *)(t->cells + r * t->ncols), width, b);
    b->bad = b->bad || t->bad;
}
