// SPDX-License-Identifier: Apache-2.0
/* Start, boot, snapshot and restore of one machine. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define MEM     (128ull << 20)
#define COUNTED 5    /* restores whose system calls are counted */
#define ROUNDS  3    /* dots until a dozing guest does the same in each */
#define IDLE_US 1500 /* then a dozing guest has printed its dot and sleeps again */

static const struct spec full_spec = {
    .vcpus = 1, .mem = MEM, .disk = true, .net = true, .vsock = true};

static bool in_list(const struct plan *p, const char *name)
{
    size_t n = strlen(name);
    if (!p->only)
        return true;
    for (const char *at = p->only; (at = strstr(at, name)); at++) {
        if ((at == p->only || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return false;
}

bool wanted(const struct plan *p, const char *name)
{
    if (!in_list(p, name))
        return false;
    printf("# %s\n", name);
    return true;
}

struct spec spec_for(const struct target *t, const char *cmdline)
{
    struct spec s = full_spec;
    s.vsock = t->has_vsock;
    s.cmdline = cmdline;
    return s;
}

unsigned runs_of(const struct plan *p, const struct target *t)
{
    return t == &target_dormouse ? p->runs : p->peer_runs;
}

/* ---- vmm-start ---- */

static void start_once(const struct target *t, bool keep)
{
    static struct inst in;
    struct spec s = spec_for(t, "bench=idle");
    struct seen seen;
    uint64_t ready = 0, begin;
    tap_prepare(&s);
    trace_begin(CALLS_NONE);
    begin = now_ns();
    bool ok = t->boot(&in, &s, &ready) && console_shows(&in, "ready");
    uint64_t end = now_ns();
    bool traced = trace_end(begin, in.pid, &seen);
    if (!ok)
        complain("%s does not boot", t->name);
    if (ok && keep) {
        if (ready)
            rec("vmm-start", "{\"until\":\"ready\"}", "time", "ms", t->name, MS(ready - begin));
        if (traced)
            rec("vmm-start", "{\"until\":\"first-instruction\"}", "time", "ms", t->name,
                MS(seen.insn_ns - begin));
        /* The benchmark's own guest, under every monitor; dormouse-init: init.c. */
        rec("boot-to-cmd", "{\"until\":\"user-space\"}", "time", "ms", t->name,
            MS(end - begin));
    }
    t->stop(&in);
}

void cases_start(const struct plan *p)
{
    if (!wanted(p, "vmm-start"))
        return;
    rec_compared("vmm-start");
    for (unsigned k = 0; k < p->ntargets; k++) {
        const struct target *t = p->targets[k];
        for (unsigned i = 0; i < runs_of(p, t); i++)
            start_once(t, i > 0);
    }
}

/* ---- snapshot-create ---- */

void image_name(const struct target *t, const char *what, char ret[256])
{
    snprintf(ret, 256, "%s/%s.%s", setup.dir, t->name, what);
}

static void note_saved(const struct target *t, const char *params, const struct saved *sv,
                       uint64_t ns, bool keep)
{
    if (!keep)
        return;
    rec("snapshot-create", params, "time", "ms", t->name, MS(ns));
    rec("snapshot-create", params, "pause", "ms", t->name, MS(sv->pause_ns));
    rec("snapshot-create", params, "bytes", "B", t->name, (double)sv->allocated);
    if (!sv->pages)
        return;
    rec("snapshot-create", params, "pages-stored", "1", t->name, (double)sv->pages);
    rec("snapshot-create", params, "pages-same", "1", t->name, (double)sv->same);
    rec("snapshot-create", params, "pages-zero", "1", t->name, (double)sv->zero);
}

bool make_image(const struct target *t, const struct spec *s, const char *what,
                const char *params, bool keep)
{
    static struct inst in;
    struct saved sv;
    char path[256];
    uint64_t ready;
    image_name(t, what, path);
    bool ok = t->boot(&in, s, &ready) && console_shows(&in, "ready");
    if (ok) {
        usleep(20000); /* the guest's kernel ends its start */
        uint64_t begin = now_ns();
        ok = t->save(&in, path, true, &sv);
        if (ok && params)
            note_saved(t, params, &sv, now_ns() - begin, keep);
    }
    if (!ok)
        complain("%s cannot save %s", t->name, what);
    t->stop(&in);
    return ok;
}

static void sessions(const struct plan *p, const struct target *t)
{
    static struct inst in;
    struct spec s = spec_for(t, "");
    char image[256], session[256];
    image_name(t, "idle", image);
    image_name(t, "session", session);
    for (unsigned i = 0; i < p->runs; i++) {
        struct saved sv;
        bool ok = t->embryo(&in, &s) && t->restore(&in, &s, image, NULL);
        usleep(50000); /* the guest lives */
        uint64_t begin = now_ns();
        ok = ok && t->save(&in, session, false, &sv);
        if (ok)
            note_saved(t, "{\"kind\":\"session\",\"workload\":\"idle\"}", &sv, now_ns() - begin,
                       i > 0);
        t->stop(&in);
        if (!ok)
            return;
    }
}

/* Of the last idle image: as one stream, by zstd's default. */
static void compress(const struct target *t)
{
    char path[256];
    struct stat st;
    image_name(t, "idle", path);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    size_t size = (size_t)st.st_size, cap = ZSTD_compressBound(size);
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    AUTO_FREE void *out = malloc(cap);
    if (data == MAP_FAILED || !out)
        return;
    size_t n = ZSTD_compress(out, cap, data, size, 3);
    if (!ZSTD_isError(n))
        rec("snapshot-create", "{\"kind\":\"full\",\"workload\":\"idle\"}", "compressed", "B",
            t->name, (double)n);
    munmap(data, size);
}

static void snapshots(const struct plan *p, const struct target *t)
{
    struct spec idle = spec_for(t, "bench=idle");
    struct spec fill = spec_for(t, "bench=fill fill=64");
    for (unsigned i = 0; i < runs_of(p, t); i++) {
        if (!make_image(t, &idle, "idle", "{\"kind\":\"full\",\"workload\":\"idle\"}", i > 0))
            return;
    }
    for (unsigned i = 0; i < (p->quick ? 0 : runs_of(p, t)); i++) {
        if (!make_image(t, &fill, "fill", "{\"kind\":\"full\",\"workload\":\"64-mib-filled\"}",
                        i > 0))
            return;
    }
    if (t->has_session)
        sessions(p, t);
    if (!p->quick && t == &target_dormouse) {
        fill.mem = 2048ull << 20;
        for (unsigned i = 0; i < 3; i++)
            make_image(t, &fill, "fill",
                       "{\"kind\":\"full\",\"workload\":\"64-mib-filled\","
                       "\"memory_mib\":2048}",
                       i > 0);
    }
}

/* ---- restore ---- */

const char *const mode_names[MODES] = {"unpooled", "pooled", "prepared"};

bool ready_for(const struct target *t, struct inst *in, const struct spec *s, enum mode mode,
               const char *image)
{
    tap_prepare(s);
    if (mode == UNPOOLED)
        return true;
    bool ok = t->embryo(in, s);
    if (mode == PREPARED)
        ok = ok && t->prepare(in, s, image);
    usleep(IDLE_US); /* whatever it does after it said that it is ready is long done */
    return ok;
}

bool restore_once(const struct target *t, const struct spec *s, enum mode mode,
                  const char *image, const char *session, enum calls calls,
                  struct restored *ret)
{
    static struct inst in;
    bool ok = ready_for(t, &in, s, mode, image);
    ret->faults_before = mode != UNPOOLED ? proc_faults(in.pid) : 0;
    trace_begin(calls);
    ret->begin = now_ns();
    if (mode == UNPOOLED)
        ok = t->embryo(&in, s);
    ok = ok && t->restore(&in, s, image, session);
    ret->done = now_ns();
    ok = ok && console_shows(&in, ".");
    ok = trace_end(ret->begin, in.pid, &ret->seen) && ok;
    usleep(IDLE_US);
    ok = ok && proc_usage(in.pid, s->mem, &ret->usage);
    if (ok && t->phases)
        t->phases(&in, ret->phases);
    t->stop(&in);
    if (!ok)
        complain("%s cannot restore %s", t->name, image);
    return ok;
}

static void params_of(char ret[128], enum mode mode, const char *layers)
{
    snprintf(ret, 128, "{\"mode\":\"%s\",\"layers\":\"%s\"}", mode_names[mode], layers);
}

static void note_restored(const struct target *t, const char *params, const struct restored *r)
{
    static const char *const names[] = {"files", "memory", "devices", "vcpus", "gic", "load"};
    char more[160];
    rec("restore", params, "time", "ms", t->name, MS(r->seen.insn_ns - r->begin));
    rec("restore", params, "faults", "1", t->name,
        (double)(r->usage.faults - r->faults_before));
    rec("restore", params, "rss", "B", t->name, (double)r->usage.vmm_rss);
    rec("restore", params, "dirty", "B", t->name, (double)r->usage.vmm_dirty);
    rec("restore", params, "guest-rss", "B", t->name, (double)r->usage.guest_rss);
    for (unsigned i = 0; t->phases && i < ARRAY_LEN(names); i++) {
        snprintf(more, sizeof more, "%.*s,\"phase\":\"%s\"}", (int)strlen(params) - 1, params,
                 names[i]);
        rec("restore-phase", more, "time", "ms", t->name, MS(r->phases[i]));
    }
}

static void note_calls(const struct target *t, const char *params, const struct seen *s,
                       bool show)
{
    rec("restore", params, "syscalls", "1", t->name, s->syscalls);
    rec("restore", params, "ioctls", "1", t->name, s->ioctls);
    if (!show)
        return;
    printf("# %s %s: %u system calls:", t->name, params, s->syscalls);
    for (unsigned i = 0; i < sizeof s->calls / sizeof s->calls[0]; i++) {
        if (s->calls[i])
            printf(" %u:%u", i, s->calls[i]);
    }
    printf("; ioctls:");
    for (unsigned i = 0; i < s->nioctl; i++)
        printf(" %x:%u", s->ioctl[i].cmd, s->ioctl[i].n);
    printf("\n");
}

static void restores(const struct plan *p, const struct target *t, enum mode mode,
                     const char *image, const char *session)
{
    struct spec s = spec_for(t, "");
    struct restored r;
    char params[128];
    params_of(params, mode, session ? "session" : "image");
    for (unsigned i = 0; i < runs_of(p, t); i++) {
        if (!restore_once(t, &s, mode, image, session, CALLS_NONE, &r))
            return;
        if (i > 0)
            note_restored(t, params, &r);
    }
    for (unsigned i = 0; i < COUNTED; i++) {
        if (!restore_once(t, &s, mode, image, session, CALLS_COUNTED, &r))
            return;
        note_calls(t, params, &r.seen, i + 1 == COUNTED);
    }
}

/* A dozing guest that sleeps. Not after its first dot: it spends that round in page faults, and
 * would be found at work, anywhere. */
static bool doze(struct inst *in)
{
    bool ok = true;
    for (unsigned i = 0; i < ROUNDS; i++)
        ok = ok && console_shows(in, ".");
    usleep(IDLE_US);
    return ok;
}

/* The pages that it touches until then. */
bool make_workset(const struct target *t, const char *image)
{
    static struct inst in;
    struct spec s = spec_for(t, "");
    if (!t->workset)
        return false;
    bool ok = t->embryo(&in, &s) && t->restore(&in, &s, image, NULL) && doze(&in) &&
              t->workset(&in, image);
    t->stop(&in);
    return ok;
}

/* A session of the dozing guest, to restore from two layers. */
static bool make_session(const struct target *t, const char *image, char session[256])
{
    static struct inst in;
    struct spec s = spec_for(t, "");
    image_name(t, "doze.session", session);
    bool ok = t->embryo(&in, &s) && t->restore(&in, &s, image, NULL) && doze(&in);
    ok = ok && t->save(&in, session, false, NULL);
    t->stop(&in);
    return ok;
}

void cases_snapshot(const struct plan *p)
{
    if (wanted(p, "snapshot-create")) {
        rec_compared("snapshot-create");
        for (unsigned k = 0; k < p->ntargets; k++) {
            if (!p->targets[k]->save)
                continue;
            snapshots(p, p->targets[k]);
            compress(p->targets[k]);
        }
    }
    if (!wanted(p, "restore"))
        return;
    rec_compared("restore");
    for (unsigned k = 0; k < p->ntargets; k++) {
        const struct target *t = p->targets[k];
        struct spec doze = spec_for(t, "bench=doze");
        char image[256], session[256];
        if (!t->save || !make_image(t, &doze, "doze", NULL, false))
            continue;
        image_name(t, "doze", image);
        for (enum mode mode = 0; mode < MODES; mode++) {
            if (mode != PREPARED || make_workset(t, image))
                restores(p, t, mode, image, NULL);
        }
        if (!t->has_session || !make_session(t, image, session))
            continue;
        for (enum mode mode = 0; mode < MODES; mode++) {
            if (mode != PREPARED || t->prepare)
                restores(p, t, mode, image, session);
        }
    }
}
