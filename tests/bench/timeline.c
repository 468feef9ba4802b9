// SPDX-License-Identifier: Apache-2.0
/*
 * One restore, call by call: what each kind of system call takes, what passes
 * between calls (the monitor's own instructions and its page faults), and the
 * guest's first steps. Printed as `# timeline` lines, which tools/benchplot
 * draws, and recorded in sums as the case `restore-calls`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define KINDS_MAX   128
#define THREADS_MAX 32
#define PROBES      200
#define LOOPS       500
#define KINDS_SHOWN 12 /* in the results; the rest is small */

struct kind {
    char name[32];
    uint64_t ns;
    unsigned n;
};

struct thread {
    pid_t tid;
    uint64_t since;     /* when its call began or ended */
    uint64_t off, lost; /* when it left the processor (0: it has not), and for how long since */
    char call[32];      /* the call it is in, or "" */
};

struct timeline {
    struct kind kinds[KINDS_MAX];
    unsigned nkinds;
    struct thread threads[THREADS_MAX];
    unsigned nthreads;
    uint64_t begin, end, last_entry;
    double event_ns; /* what the two events of a call cost */
    bool print;
    char who[32];
};

static const struct {
    unsigned nr;
    const char *name;
} call_names[] = {
    {19, "eventfd2"},
    {24, "dup3"},
    {25, "fcntl"},
    {29, "ioctl"},
    {56, "openat"},
    {57, "close"},
    {61, "getdents64"},
    {62, "lseek"},
    {63, "read"},
    {64, "write"},
    {65, "readv"},
    {66, "writev"},
    {67, "pread64"},
    {73, "ppoll"},
    {80, "fstat"},
    {98, "futex"},
    {113, "clock_gettime"},
    {134, "rt_sigaction"},
    {135, "rt_sigprocmask"},
    {167, "prctl"},
    {211, "sendmsg"},
    {212, "recvmsg"},
    {215, "munmap"},
    {220, "clone"},
    {221, "execve"},
    {222, "mmap"},
    {226, "mprotect"},
    {233, "madvise"},
    {277, "seccomp"},
    {425, "io_uring_setup"},
    {426, "io_uring_enter"},
    {427, "io_uring_register"},
    {436, "close_range"},
    {97, "unshare"},
    {40, "mount"},
    {39, "umount2"},
    {41, "pivot_root"},
};
static const struct {
    uint32_t cmd;
    const char *name;
} ioctl_names[] = {
    {0x4020ae46, "SET_USER_MEMORY_REGION"},
    {0x4020ae76, "IRQFD"},
    {0x4040ae79, "IOEVENTFD"},
    {0x4010aeac, "SET_ONE_REG"},
    {0x4010aeab, "GET_ONE_REG"},
    {0x4018aee1, "SET_DEVICE_ATTR"},
    {0x4018aee2, "GET_DEVICE_ATTR"},
    {0x4040aea0, "SET_VCPU_EVENTS"},
    {0x4008ae61, "IRQ_LINE"},
    {0xae80, "KVM_RUN"},
    {0xae01, "CREATE_VM"},
    {0xae41, "CREATE_VCPU"},
    {0x4020aeae, "VCPU_INIT"},
    {0xc00caee0, "CREATE_DEVICE"},
    {0xc008aeb0, "GET_REG_LIST"},
    {0xae03, "CHECK_EXTENSION"},
    {0x400454d8, "TUNSETVNETHDRSZ"},
    {0x400454d0, "TUNSETOFFLOAD"},
};

static void name_call(const char *text, char ret[32])
{
    const char *nr = strstr(text, "NR ");
    char *at = NULL;
    unsigned long no = nr ? strtoul(nr + 3, &at, 10) : 0;
    snprintf(ret, 32, "call %lu", no);
    for (unsigned i = 0; i < ARRAY_LEN(call_names); i++) {
        if (call_names[i].nr == no)
            snprintf(ret, 32, "%s", call_names[i].name);
    }
    if (no != 29 || !at || !(at = strchr(at, ',')))
        return;
    uint32_t cmd = (uint32_t)strtoul(at + 1, NULL, 16);
    snprintf(ret, 32, "ioctl %x", cmd);
    for (unsigned i = 0; i < ARRAY_LEN(ioctl_names); i++) {
        if (ioctl_names[i].cmd == cmd)
            snprintf(ret, 32, "%s", ioctl_names[i].name);
    }
}

static void add(struct timeline *t, const char *name, uint64_t from, uint64_t to, double less)
{
    unsigned i = 0;
    while (i < t->nkinds && strcmp(t->kinds[i].name, name) != 0)
        i++;
    if (i == KINDS_MAX || to < from)
        return;
    if (i == t->nkinds)
        snprintf(t->kinds[t->nkinds++].name, sizeof t->kinds[0].name, "%s", name);
    uint64_t ns = to - from, l = (uint64_t)less;
    t->kinds[i].ns += ns > l ? ns - l : 0;
    t->kinds[i].n++;
    if (t->print && ns > l)
        printf("# timeline %s %.1f %.1f %s\n", t->who, (double)(from - t->begin) / 1e3,
               (double)(to - l - t->begin) / 1e3, name);
}

static struct thread *thread_of(struct timeline *t, pid_t tid)
{
    for (unsigned i = 0; i < t->nthreads; i++) {
        if (t->threads[i].tid == tid)
            return &t->threads[i];
    }
    if (t->nthreads == THREADS_MAX)
        return NULL;
    t->threads[t->nthreads] = (struct thread){.tid = tid};
    return &t->threads[t->nthreads++];
}

/* Another thread had the processor: that is no time of this one's. */
static void switched(struct timeline *t, const struct event *ev)
{
    const char *prev = strstr(ev->text, "prev_pid="), *next = strstr(ev->text, "next_pid=");
    if (!prev || !next)
        return;
    pid_t from = (pid_t)strtol(prev + 9, NULL, 10), to = (pid_t)strtol(next + 9, NULL, 10);
    for (unsigned i = 0; i < t->nthreads; i++) {
        struct thread *th = &t->threads[i];
        if (th->tid == from)
            th->off = ev->ns;
        if (th->tid == to && th->off) {
            th->lost += ev->ns - th->off;
            th->off = 0;
        }
    }
}

static void take(const struct event *ev, void *ctx)
{
    struct timeline *t = ctx;
    struct thread *th;
    if (!t->end && trace_is(ev, "sched_switch"))
        switched(t, ev);
    if (t->end || !(ev->mine || strncmp(ev->name, "kvm_", 4) == 0))
        return;
    if (trace_is(ev, "kvm_entry")) {
        t->last_entry = ev->ns;
    } else if (trace_is(ev, "kvm_exit") && !strstr(ev->text, "IABT")) {
        t->end = t->last_entry;
        if ((th = thread_of(t, ev->tid)) && th->since)
            add(t, "KVM_RUN", th->since, t->end, 0);
    } else if (strncmp(ev->name, "sys_e", 5) == 0 && (th = thread_of(t, ev->tid))) {
        bool enter = ev->name[5] == 'n';
        /* Between calls of one thread: its own instructions and page faults. */
        if (enter && th->since)
            add(t, "user", th->since, ev->ns, t->event_ns / 2 + (double)th->lost);
        else if (!enter && th->since && th->call[0])
            add(t, th->call, th->since, ev->ns, t->event_ns / 2 + (double)th->lost);
        th->since = ev->ns;
        th->lost = 0;
        if (enter)
            name_call(ev->name, th->call);
        else
            th->call[0] = '\0';
    }
}

/* The cost of seeing a call: the same calls with and without. */
static double probe_events(void)
{
    uint64_t t[2];
    for (unsigned k = 0; k < 2; k++) {
        trace_begin(k ? CALLS_TIMED : CALLS_NONE);
        uint64_t begin = now_ns();
        for (unsigned i = 0; i < PROBES; i++)
            syscall(SYS_getppid);
        t[k] = now_ns() - begin;
    }
    return (double)(t[1] - t[0]) / PROBES;
}

static int by_time(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

static void one(const struct target *t, enum mode mode, const char *image, double event_ns,
                bool keep)
{
    static struct timeline tl;
    static struct inst in;
    struct spec s = spec_for(t, "");
    memset(&tl, 0, sizeof tl);
    bool ok = ready_for(t, &in, &s, mode, image);
    tl.event_ns = event_ns;
    tl.print = keep;
    snprintf(tl.who, sizeof tl.who, "%s-%s", t->name, mode_names[mode]);
    trace_begin(CALLS_TIMED);
    tl.begin = now_ns();
    if (mode == UNPOOLED)
        ok = t->embryo(&in, &s);
    ok = ok && t->restore(&in, &s, image, NULL) && console_shows(&in, ".");
    ok = trace_read(tl.begin, in.pid, take, &tl) && ok && tl.end;
    t->stop(&in);
    if (!ok) {
        complain("%s: no timeline", t->name);
        return;
    }
    if (!keep)
        return;
    qsort(tl.kinds, tl.nkinds, sizeof tl.kinds[0], by_time);
    for (unsigned i = 0; i < tl.nkinds && i < KINDS_SHOWN; i++) {
        char params[128];
        snprintf(params, sizeof params, "{\"mode\":\"%s\",\"call\":\"%s\"}", mode_names[mode],
                 tl.kinds[i].name);
        rec("restore-calls", params, "time", "ms", t->name, MS(tl.kinds[i].ns));
        rec("restore-calls", params, "count", "1", t->name, tl.kinds[i].n);
    }
}

void cases_timeline(const struct plan *p)
{
    char image[256];
    if (!wanted(p, "restore-calls") || !trace_usable())
        return;
    double event_ns = probe_events();
    printf("# a call that is seen takes %.0f ns more\n", event_ns);
    for (unsigned k = 0; k < p->ntargets; k++) {
        const struct target *t = p->targets[k];
        struct spec doze = spec_for(t, "bench=doze");
        image_name(t, "doze", image);
        if (!t->save)
            continue;
        if (access(image, R_OK) < 0 && !make_image(t, &doze, "doze", NULL, false))
            continue;
        /* The way of a peer without its pool is too long for the kernel's buffer. */
        for (enum mode mode = t == &target_dormouse ? UNPOOLED : POOLED; mode < MODES; mode++) {
            if (mode == PREPARED && !make_workset(t, image))
                continue;
            one(t, mode, image, event_ns, false);
            one(t, mode, image, event_ns, true);
        }
    }
}

/* ---- for tools/restore-trace.sh ---- */

/* An instruction that does nothing, and that the emulator's plugin waits for. */
void trace_mark(void)
{
    __asm__ volatile("hint #96" ::: "memory");
}

void trace_mark_end(void)
{
    __asm__ volatile("hint #97" ::: "memory");
}

static void traced(enum mode mode, const char *image, unsigned times, unsigned marked)
{
    static struct inst in;
    const struct target *t = &target_dormouse;
    struct spec s = spec_for(t, "");
    for (unsigned i = 0; i < times; i++) {
        bool ok = ready_for(t, &in, &s, mode, image);
        if (i >= marked)
            trace_mark();
        if (mode == UNPOOLED)
            ok = t->embryo(&in, &s);
        ok = ok && t->restore(&in, &s, image, NULL) && console_shows(&in, ".");
        if (!ok)
            complain("nothing to trace");
        t->stop(&in);
    }
}

/* A guest that filled 64 MiB, saved whole. */
static void traced_save(void)
{
    static struct inst in;
    const struct target *t = &target_dormouse;
    struct spec s = spec_for(t, "bench=fill fill=64");
    struct saved sv;
    char path[256];
    uint64_t ready;
    image_name(t, "trace", path);
    for (unsigned i = 0; i < 2; i++) {
        bool ok = t->boot(&in, &s, &ready) && console_shows(&in, "ready");
        usleep(20000); /* the guest's kernel ends its start */
        trace_mark();
        ok = ok && t->save(&in, path, true, &sv);
        trace_mark_end();
        if (!ok)
            complain("nothing to trace");
        t->stop(&in);
    }
}

void cases_trace(const struct plan *p)
{
    static const char *const names[][MODES] = {
        {"restore-trace-unpooled", "restore-trace-pooled", "restore-trace-prepared"},
        {"restore-loop-unpooled", "restore-loop-pooled", "restore-loop-prepared"}};
    struct spec doze = spec_for(&target_dormouse, "bench=doze");
    char image[256];
    if (p->only && wanted(p, "restore-trace-save"))
        traced_save();
    for (enum mode mode = 0; mode < MODES; mode++) {
        for (unsigned loop = 0; loop < 2 && p->only; loop++) {
            if (!wanted(p, names[loop][mode]) ||
                !make_image(&target_dormouse, &doze, "trace", NULL, false))
                continue;
            image_name(&target_dormouse, "trace", image);
            if (mode == PREPARED && !make_workset(&target_dormouse, image))
                complain("no working set to prepare");
            traced(mode, image, loop ? LOOPS : 3, 2);
        }
    }
}
