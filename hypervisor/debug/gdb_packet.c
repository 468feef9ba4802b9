// SPDX-License-Identifier: Apache-2.0
/* The GDB remote protocol as text; see gdb_packet.h. */
#include "gdb_packet.h"

#include <stdlib.h>
#include <string.h>

#define CTRL_C 0x03
#define ESCAPE 0x7d /* the next byte is xor 0x20 */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum gdb_event outside(struct gdb_input *in, uint8_t byte)
{
    switch (byte) {
    case '$':
        in->len = 0;
        in->sum = 0;
        in->bad = false;
        in->state = GDB_INSIDE;
        return GDB_NOTHING;
    case CTRL_C:
        return GDB_INTERRUPT;
    case '-':
        return GDB_RESEND;
    default: /* acknowledgements, and whatever else is no packet */
        return GDB_NOTHING;
    }
}

static void inside(struct gdb_input *in, uint8_t byte)
{
    if (byte == '#' && in->state == GDB_INSIDE) {
        in->state = GDB_SUM_1;
        return;
    }
    in->sum = (uint8_t)(in->sum + byte);
    if (byte == ESCAPE && in->state == GDB_INSIDE) {
        in->state = GDB_ESCAPED;
        return;
    }
    if (in->len == GDB_PACKET_MAX)
        in->bad = true;
    else
        in->text[in->len++] = (char)(in->state == GDB_ESCAPED ? byte ^ 0x20 : byte);
    in->state = GDB_INSIDE;
}

enum gdb_event gdb_feed(struct gdb_input *in, uint8_t byte)
{
    int d = digit((char)byte);
    switch (in->state) {
    case GDB_OUTSIDE:
        return outside(in, byte);
    case GDB_INSIDE:
    case GDB_ESCAPED:
        inside(in, byte);
        return GDB_NOTHING;
    case GDB_SUM_1:
        in->bad |= d < 0;
        in->want = (uint8_t)((unsigned)d << 4);
        in->state = GDB_SUM_2;
        return GDB_NOTHING;
    case GDB_SUM_2:
        break;
    }
    in->state = GDB_OUTSIDE;
    in->text[in->len] = '\0';
    return d < 0 || in->bad || (in->want | (unsigned)d) != in->sum ? GDB_REJECTED : GDB_PACKET;
}

void gdb_frame(struct buf *out, const void *text, size_t len)
{
    const uint8_t *p = text;
    uint8_t sum = 0;
    buf_str(out, "$");
    for (size_t i = 0; i < len; i++) {
        uint8_t pair[2] = {ESCAPE, p[i] ^ 0x20};
        bool special = p[i] == '$' || p[i] == '#' || p[i] == '*' || p[i] == ESCAPE;
        if (special) {
            buf_add(out, pair, sizeof pair);
            sum = (uint8_t)(sum + pair[0] + pair[1]);
        } else {
            buf_add(out, p + i, 1);
            sum = (uint8_t)(sum + p[i]);
        }
    }
    buf_printf(out, "#%02x", sum);
}

bool gdb_number(const char **p, uint64_t *ret)
{
    uint64_t v = 0;
    unsigned n = 0;
    for (int d; n < 16 && (d = digit((*p)[n])) >= 0; n++)
        v = v << 4 | (unsigned)d;
    if (n == 0 || digit((*p)[n]) >= 0)
        return false;
    *p += n;
    *ret = v;
    return true;
}

bool gdb_pair(const char **p, char sep, uint64_t *a, uint64_t *b)
{
    if (!gdb_number(p, a) || **p != sep)
        return false;
    ++*p;
    return gdb_number(p, b);
}

bool gdb_bytes(const char **p, uint8_t *ret, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = digit((*p)[0]), low = high < 0 ? -1 : digit((*p)[1]);
        if (low < 0)
            return false;
        ret[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
        *p += 2;
    }
    return true;
}

void gdb_put_bytes(struct buf *out, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        buf_printf(out, "%02x", p[i]);
}

bool gdb_thread(const char **p, int *ret)
{
    uint64_t n;
    if (strncmp(*p, "-1", 2) == 0) {
        *p += 2;
        *ret = GDB_ALL_THREADS;
        return true;
    }
    if (!gdb_number(p, &n) || n > INT16_MAX)
        return false;
    *ret = (int)n;
    return true;
}

bool gdb_vcont(const char *text, enum gdb_action *ret, unsigned n)
{
    memset(ret, 0, n * sizeof *ret);
    while (*text == ';') {
        enum gdb_action a;
        uint64_t signal;
        int thread = GDB_ALL_THREADS;
        char c = *++text;
        if (c == '\0')
            return false;
        text++;
        if (c != 'c' && c != 'C' && c != 's' && c != 'S')
            return false;
        a = c == 'c' || c == 'C' ? GDB_CONTINUE : GDB_STEP;
        /* A guest takes no signals: the number is read and forgotten. */
        if ((c == 'C' || c == 'S') && !gdb_number(&text, &signal))
            return false;
        if (*text == ':' && (text++, !gdb_thread(&text, &thread)))
            return false;
        for (unsigned i = 0; i < n; i++) {
            if (ret[i] == GDB_STAY && (thread <= 0 || (unsigned)thread == i + 1))
                ret[i] = a;
        }
    }
    return *text == '\0';
}
