// SPDX-License-Identifier: Apache-2.0
/* What the debugger asks of a held guest; see gdb.h. */
#include <stdio.h>
#include <string.h>

#include "../base/mem.h"
#include "cpuregs.h"
#include "gdb.h"
#include "guestmem.h"

#define MEMORY_MAX (GDB_PACKET_MAX / 2 - 16)

static struct vcpu *current(struct gdb *g)
{
    return &g->vm->vcpus[g->current];
}

static void done(struct gdb *g, bool ok)
{
    gdb_reply(g, ok ? "OK" : "E01");
}

/* ---- registers --------------------------------------------------------------------------- */

static void put_reg(struct gdb *g, unsigned n, struct buf *out)
{
    uint8_t value[CPU_REG_MAX];
    unsigned size = cpu_reg_size(n);
    if (cpu_reg_get(current(g), n, value) == 0)
        gdb_put_bytes(out, value, size);
    else
        buf_printf(out, "%.*s", 2 * (int)size, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

static bool set_reg(struct gdb *g, unsigned n, const char **text)
{
    uint8_t value[CPU_REG_MAX];
    return n < CPU_REGS && gdb_bytes(text, value, cpu_reg_size(n)) &&
           cpu_reg_set(current(g), n, value) == 0;
}

static void read_regs(struct gdb *g, const char *text)
{
    struct buf out AUTO(buf_free) = BUF_INIT;
    uint64_t n;
    if (*text == 'g') {
        for (unsigned i = 0; i < CPU_REGS; i++)
            put_reg(g, i, &out);
    } else if (text++, gdb_number(&text, &n) && n < CPU_REGS) {
        put_reg(g, (unsigned)n, &out);
    } else {
        buf_str(&out, "E01");
    }
    gdb_send(g, &out);
}

static void write_regs(struct gdb *g, const char *text)
{
    uint64_t n;
    bool ok = true;
    if (*text++ == 'P') {
        done(g, gdb_number(&text, &n) && *text++ == '=' && n < CPU_REGS &&
                    set_reg(g, (unsigned)n, &text));
        return;
    }
    for (unsigned i = 0; i < CPU_REGS && ok; i++) {
        if (*text == 'x') /* one that could not be read */
            text += strspn(text, "x");
        else
            ok = set_reg(g, i, &text);
    }
    done(g, ok);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void read_memory(struct gdb *g, const char *text)
{
    struct buf out AUTO(buf_free) = BUF_INIT;
    uint8_t data[MEMORY_MAX];
    uint64_t va, len;
    size_t n = 0;
    if (gdb_pair(&text, ',', &va, &len))
        n = guest_read(current(g), va, data, MIN(len, sizeof data));
    if (n)
        gdb_put_bytes(&out, data, n);
    else
        buf_str(&out, "E01");
    gdb_send(g, &out);
}

static void write_memory(struct gdb *g, const char *text)
{
    uint8_t data[MEMORY_MAX];
    uint64_t va, len;
    done(g, gdb_pair(&text, ',', &va, &len) && *text++ == ':' && len <= sizeof data &&
                gdb_bytes(&text, data, len) && guest_write(current(g), va, data, len) == len);
}

/* ---- breakpoints, running ---------------------------------------------------------------- */

/* Ztype,address,length and z... */
static void stop_point(struct gdb *g, const char *text)
{
    bool add = *text++ == 'Z';
    uint64_t type, va, len;
    if (!gdb_pair(&text, ',', &type, &va) || *text++ != ',' || !gdb_number(&text, &len) ||
        type > STOP_ACCESS) {
        gdb_reply(g, "");
        return;
    }
    done(g, (add ? stops_add(&g->stops, current(g), (enum stop_type)type, va, len)
                 : stops_remove(&g->stops, current(g), (enum stop_type)type, va)) == 0);
}

static void run(struct gdb *g, const char *actions)
{
    unsigned n = g->vm->nvcpus, staying = 0;
    bool ok = gdb_vcont(actions, g->plan, n);
    for (unsigned i = 0; i < n; i++)
        staying += g->plan[i] == GDB_STAY;
    if (ok && staying < n)
        gdb_go(g); /* the answer is the next stop */
    else
        done(g, false);
}

/* ---- threads, features ------------------------------------------------------------------- */

static void select_thread(struct gdb *g, const char *text)
{
    int thread;
    char what = *text++;
    bool ok = gdb_thread(&text, &thread) && thread <= (int)g->vm->nvcpus;
    if (ok && what == 'g' && thread > 0)
        g->current = (unsigned)thread - 1;
    done(g, ok);
}

static void list_threads(struct gdb *g)
{
    struct buf out AUTO(buf_free) = BUF_INIT;
    for (unsigned i = 0; i < g->vm->nvcpus; i++)
        buf_printf(&out, "%c%x", i ? ',' : 'm', i + 1);
    gdb_send(g, &out);
}

static void thread_alive(struct gdb *g, const char *text)
{
    int thread;
    done(g, gdb_thread(&text, &thread) && thread >= 1 && thread <= (int)g->vm->nvcpus);
}

static void target_part(struct gdb *g, const char *text)
{
    struct buf xml AUTO(buf_free) = BUF_INIT, out AUTO(buf_free) = BUF_INIT;
    uint64_t off, len;
    cpu_describe(&xml);
    if (!gdb_pair(&text, ',', &off, &len) || off > xml.len) {
        done(g, false);
        return;
    }
    size_t n = MIN(xml.len - off, MIN(len, MEMORY_MAX));
    buf_str(&out, off + n == xml.len ? "l" : "m");
    buf_add(&out, xml.data + off, n);
    gdb_send(g, &out);
}

/* What follows `name` at the beginning of text, or NULL. */
static const char *after(const char *text, const char *name)
{
    size_t n = strlen(name);
    return strncmp(text, name, n) == 0 ? text + n : NULL;
}

static void by_name(struct gdb *g, const char *text)
{
    const char *rest;
    char line[100];
    if (after(text, "qSupported")) {
        snprintf(line, sizeof line,
                 "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+",
                 GDB_PACKET_MAX);
        gdb_reply(g, line);
    } else if ((rest = after(text, "qXfer:features:read:target.xml:"))) {
        target_part(g, rest);
    } else if (after(text, "QStartNoAckMode")) {
        done(g, true);
        g->no_ack = true;
    } else if (after(text, "qfThreadInfo")) {
        list_threads(g);
    } else if (after(text, "qsThreadInfo")) {
        gdb_reply(g, "l");
    } else if (after(text, "qAttached")) {
        gdb_reply(g, "1");
    } else if (after(text, "qC")) {
        snprintf(line, sizeof line, "QC%x", g->current + 1);
        gdb_reply(g, line);
    } else if (after(text, "vCont?")) {
        gdb_reply(g, "vCont;c;C;s;S");
    } else if ((rest = after(text, "vCont"))) {
        run(g, rest);
    } else {
        gdb_reply(g, ""); /* not supported */
    }
}

void gdb_command(struct gdb *g, const char *text, size_t len)
{
    char actions[32];
    (void)len; /* a NUL inside ends a command early */
    switch (*text) {
    case '?':
        gdb_report(g);
        break;
    case 'g':
    case 'p':
        read_regs(g, text);
        break;
    case 'G':
    case 'P':
        write_regs(g, text);
        break;
    case 'm':
        read_memory(g, text + 1);
        break;
    case 'M':
        write_memory(g, text + 1);
        break;
    case 'Z':
    case 'z':
        stop_point(g, text);
        break;
    case 'c':
        run(g, ";c");
        break;
    case 's':
        snprintf(actions, sizeof actions, ";s:%x;c", g->current + 1);
        run(g, actions);
        break;
    case 'H':
        select_thread(g, text + 1);
        break;
    case 'T':
        thread_alive(g, text + 1);
        break;
    case 'D':
        done(g, true);
        gdb_detach(g);
        break;
    case 'k':
        vm_end(g->vm, CTL_EXIT_STOPPED, -1, "ended by the debugger");
        break;
    default:
        by_name(g, text);
    }
}
