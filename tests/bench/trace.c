// SPDX-License-Identifier: Apache-2.0
/*
 * What the host's kernel saw of one run, from its trace buffer: entries into the
 * guest, exits from it, system calls of the monitor. The same events for every
 * monitor, and none of its own making. The buffer keeps the first events and
 * drops later ones, so a guest that goes on running does no harm.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define DIR_TRACE "/sys/kernel/tracing/"
#define TIDS_MAX  64
#define NR_IOCTL  29

static bool usable;

static bool put(const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, DIR_TRACE "%s", file);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    size_t len = strlen(text);
    return fd >= 0 && write(fd, text, len) == (ssize_t)len;
}

bool trace_open(void)
{
    usable = put("tracing_on", "0") && put("trace_clock", "mono") &&
             put("options/overwrite", "0") && put("options/irq-info", "0") &&
             put("options/record-cmd", "0") && put("events/kvm/kvm_entry/enable", "1") &&
             put("events/kvm/kvm_exit/enable", "1") && put("events/kvm/kvm_mmio/enable", "1");
    return usable;
}

bool trace_usable(void)
{
    return usable;
}

void trace_begin(enum calls calls)
{
    if (!usable)
        return;
    put("events/raw_syscalls/sys_enter/enable", calls != CALLS_NONE ? "1" : "0");
    put("events/raw_syscalls/sys_exit/enable", calls == CALLS_TIMED ? "1" : "0");
    put("events/sched/sched_switch/enable", calls == CALLS_TIMED ? "1" : "0");
    put("buffer_size_kb", calls != CALLS_NONE ? "4096" : "256");
    put("trace", "");
    put("tracing_on", "1");
}

/* "  <...>-212   [000]  12.345678: kvm_entry: PC: 0x..." */
static bool parse(char *line, struct event *ev)
{
    char *cpu = strstr(line, " [");
    if (line[0] == '#' || !cpu)
        return false;
    char *dash = cpu;
    while (dash > line && *dash != '-')
        dash--;
    ev->tid = (pid_t)strtol(dash + 1, NULL, 10);
    char *stamp = strchr(cpu, ']');
    if (!stamp)
        return false;
    char *end;
    uint64_t s = strtoull(stamp + 1, &end, 10);
    if (*end != '.')
        return false;
    uint64_t us = strtoull(end + 1, &end, 10);
    if (end[0] != ':' || end[1] != ' ')
        return false;
    ev->ns = s * 1000000000u + us * 1000u;
    ev->name = end + 2;
    ev->text = strchr(ev->name, ':');
    if (!ev->text)
        ev->text = strchr(ev->name, '('); /* sys_enter: NR 1 (...) has both */
    return ev->text != NULL;
}

bool trace_is(const struct event *ev, const char *name)
{
    size_t n = strlen(name);
    return strncmp(ev->name, name, n) == 0 && (ev->name[n] == ':' || ev->name[n] == '(');
}

static unsigned threads_of(pid_t pid, pid_t *tids)
{
    char path[64];
    unsigned n = 0;
    tids[n++] = pid; /* may have ended */
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) && n < TIDS_MAX;)
        if (e->d_name[0] != '.')
            tids[n++] = (pid_t)strtol(e->d_name, NULL, 10);
    if (d)
        closedir(d);
    return n;
}

static void count_call(struct seen *s, const char *text)
{
    const char *nr = strstr(text, "NR ");
    char *at;
    if (!nr)
        return;
    unsigned long no = strtoul(nr + 3, &at, 10);
    s->syscalls++;
    if (no < ARRAY_LEN(s->calls))
        s->calls[no]++;
    if (no != NR_IOCTL)
        return;
    s->ioctls++;
    if (!(at = strchr(at, ',')))
        return;
    uint32_t cmd = (uint32_t)strtoul(at + 1, NULL, 16);
    for (unsigned i = 0; i < ARRAY_LEN(s->ioctl); i++) {
        if (i == s->nioctl) {
            s->ioctl[i].cmd = cmd;
            s->nioctl++;
        }
        if (s->ioctl[i].cmd == cmd) {
            s->ioctl[i].n++;
            return;
        }
    }
}

/* An exit with an instruction abort and nothing before it: the guest has run nothing yet. */
static void guest_event(struct seen *s, const struct event *ev, uint64_t *last_entry)
{
    if (trace_is(ev, "kvm_entry")) {
        *last_entry = ev->ns;
        if (!s->entry_ns)
            s->entry_ns = ev->ns;
    } else if (trace_is(ev, "kvm_exit")) {
        bool fetch = strstr(ev->text, "IABT") != NULL;
        if (!s->mmio_ns) {
            s->exits++;
            s->aborts += fetch || strstr(ev->text, "DABT");
        }
        if (!fetch && !s->insn_ns)
            s->insn_ns = *last_entry;
    } else if (trace_is(ev, "kvm_mmio") && !s->mmio_ns) {
        s->mmio_ns = ev->ns;
    }
}

static void count_event(const struct event *ev, void *ctx)
{
    struct seen *s = ctx;
    if (strncmp(ev->name, "kvm_", 4) == 0)
        guest_event(s, ev, &s->last_entry);
    else if (ev->mine && !s->insn_ns && strncmp(ev->name, "sys_enter", 9) == 0)
        count_call(s, ev->name);
}

bool trace_read(uint64_t from_ns, pid_t pid, void (*fn)(const struct event *ev, void *ctx),
                void *ctx)
{
    static char line[1024];
    pid_t tids[TIDS_MAX];
    if (!usable)
        return false;
    put("tracing_on", "0");
    kill(pid, SIGSTOP); /* or it would run beside the reading of the trace */
    unsigned n = threads_of(pid, tids);
    AUTO_FCLOSE FILE *f = fopen(DIR_TRACE "trace", "re");
    while (f && fgets(line, sizeof line, f)) {
        struct event ev;
        if (!parse(line, &ev) || ev.ns + 1000 <= from_ns)
            continue;
        ev.mine = false;
        for (unsigned i = 0; i < n; i++)
            ev.mine |= tids[i] == ev.tid;
        fn(&ev, ctx);
    }
    put("trace", "");
    kill(pid, SIGCONT);
    return f != NULL;
}

bool trace_end(uint64_t from_ns, pid_t pid, struct seen *ret)
{
    memset(ret, 0, sizeof *ret);
    return trace_read(from_ns, pid, count_event, ret) && ret->insn_ns != 0;
}
