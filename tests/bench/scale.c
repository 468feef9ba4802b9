// SPDX-License-Identifier: Apache-2.0
/* How figures grow: with guest memory, with vCPUs, with the number of machines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define GROWTH_RUNS 4
#define CLONES_MAX  200

/* ---- the main figures against size ---- */

/* Boots, and saves the whole machine; how long both took. */
static bool grow_image(const struct target *t, const char *params, const struct spec *s,
                       const char *image)
{
    static struct inst in;
    struct saved sv;
    struct seen seen;
    uint64_t ready;
    trace_begin(CALLS_NONE);
    uint64_t begin = now_ns();
    bool ok = t->boot(&in, s, &ready) && console_shows(&in, "ready");
    uint64_t up = now_ns();
    bool traced = trace_end(begin, in.pid, &seen);
    usleep(20000);
    uint64_t save = now_ns();
    ok = ok && t->save(&in, image, true, &sv);
    if (ok) {
        if (traced)
            rec("start-growth", params, "time", "ms", t->name, MS(seen.insn_ns - begin));
        rec("boot-growth", params, "time", "ms", t->name, MS(up - begin));
        rec("snapshot-growth", params, "time", "ms", t->name, MS(now_ns() - save));
        rec("snapshot-growth", params, "bytes", "B", t->name, (double)sv.allocated);
    } else {
        complain("%s cannot save %s", t->name, params);
    }
    t->stop(&in);
    return ok;
}

/* Restores, lets the guest run for a moment, and saves what it did. */
static void grow_session(const struct target *t, const char *params, const struct spec *s,
                         const char *image)
{
    static struct inst in;
    struct saved sv;
    char session[256];
    image_name(t, "grow.session", session);
    bool ok = t->embryo(&in, s) && t->restore(&in, s, image, NULL) && console_shows(&in, ".");
    usleep(1500);
    ok = ok && t->save(&in, session, false, &sv);
    if (ok) {
        rec("suspend-growth", params, "pause", "ms", t->name, MS(sv.pause_ns));
        rec("suspend-growth", params, "bytes", "B", t->name, (double)sv.allocated);
    } else {
        complain("%s: no session of %s", t->name, params);
    }
    t->stop(&in);
    unlink(session);
}

static void grow(const struct target *t, const char *params, const struct spec *s)
{
    printf("# %s %s\n", t->name, params);
    char image[256];
    struct restored r;
    struct spec doze = *s;
    doze.cmdline = "bench=doze";
    image_name(t, "grow", image);
    if (!grow_image(t, params, &doze, image))
        return;
    for (unsigned i = 0; i < GROWTH_RUNS; i++) {
        if (!restore_once(t, s, POOLED, image, NULL, CALLS_NONE, &r))
            break;
        if (i > 0)
            rec("restore-growth", params, "time", "ms", t->name, MS(r.seen.insn_ns - r.begin));
    }
    if (t->has_session)
        grow_session(t, params, s, image);
    unlink(image);
}

void cases_growth(const struct plan *p)
{
    static const unsigned sizes[] = {128, 512, 2048, 8192, 32768}, cpus[] = {1, 2, 4, 8, 16};
    static const unsigned overlays[] = {0, 1, 3, 7};
    char params[64];
    if ((p->quick && !p->only) || !wanted(p, "growth"))
        return;
    rec_compared("start-growth");
    rec_compared("boot-growth");
    rec_compared("snapshot-growth");
    rec_compared("restore-growth");
    for (unsigned k = 0; k < p->ntargets; k++) {
        const struct target *t = p->targets[k];
        struct spec s = spec_for(t, "");
        if (!t->save)
            continue;
        for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
            /* A peer that reads all memory would take the rest of the day. */
            if (t != &target_dormouse && sizes[i] > 512)
                break;
            s.mem = (uint64_t)sizes[i] << 20;
            snprintf(params, sizeof params, "{\"memory_mib\":%u}", sizes[i]);
            grow(t, params, &s);
        }
        s = spec_for(t, "");
        s.mem = 256ull << 20;
        for (unsigned i = 0; i < ARRAY_LEN(cpus); i++) {
            if (t != &target_dormouse && cpus[i] > 4)
                break;
            s.vcpus = cpus[i];
            snprintf(params, sizeof params, "{\"vcpus\":%u}", cpus[i]);
            grow(t, params, &s);
        }
        s.vcpus = 1;
        for (unsigned i = 0; i < ARRAY_LEN(overlays) && t == &target_dormouse; i++) {
            s.overlays = overlays[i];
            snprintf(params, sizeof params, "{\"disk_layers\":%u}", 1 + overlays[i]);
            grow(t, params, &s);
        }
    }
}

/* ---- clones ---- */

static uint64_t memory_free(void)
{
    char line[128];
    unsigned long long kb = 0;
    AUTO_FCLOSE FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemFree: %llu kB", &kb) == 1)
            break;
    }
    return kb << 10;
}

static void note_clones(const struct target *t, struct inst *in, unsigned n, uint64_t mem,
                        uint64_t free_before, uint64_t ns)
{
    char params[64];
    uint64_t pss = 0, vmm = 0;
    double per = 1.0 / n;
    for (unsigned i = 0; i < n; i++) {
        struct usage u;
        if (!proc_usage(in[i].pid, mem, &u))
            continue;
        pss += u.guest_pss + u.vmm_pss;
        vmm += u.vmm_pss;
    }
    uint64_t after = memory_free();
    snprintf(params, sizeof params, "{\"n\":%u}", n);
    rec("clones", params, "pss", "B", t->name, (double)pss * per);
    rec("clones", params, "vmm-pss", "B", t->name, (double)vmm * per);
    /* With what the kernel holds for it: page tables, KVM's tables, sockets. */
    rec("clones", params, "memory", "B", t->name,
        free_before > after ? (double)(free_before - after) * per : 0);
    rec("clones", params, "time", "ms", t->name, MS(ns) * per);
}

static void clones(const struct target *t, unsigned max)
{
    static const unsigned steps[] = {1, 10, 50, 100, CLONES_MAX};
    struct inst *in = calloc(max, sizeof *in);
    struct spec s = spec_for(t, ""), idle = spec_for(t, "bench=idle");
    char image[256];
    unsigned n = 0, step = 0;
    uint64_t ns = 0;
    image_name(t, "clone", image);
    if (!in || !make_image(t, &idle, "clone", NULL, false)) {
        free(in);
        return;
    }
    uint64_t before = memory_free();
    for (; n < max; n++) {
        uint64_t begin = now_ns();
        if (!t->embryo(&in[n], &s) || !t->restore(&in[n], &s, image, NULL))
            break;
        ns += now_ns() - begin;
        usleep(5000); /* the guest wakes and goes to sleep again */
        if (n + 1 == steps[step]) {
            note_clones(t, in, n + 1, s.mem, before, ns);
            step++;
        }
    }
    if (n < max)
        complain("%s: only %u clones", t->name, n);
    while (n > 0)
        t->stop(&in[--n]);
    free(in);
    unlink(image);
}

void cases_clones(const struct plan *p)
{
    if ((p->quick && !p->only) || !wanted(p, "clones"))
        return;
    rec_compared("clones");
    for (unsigned k = 0; k < p->ntargets && p->targets[k]->save; k++)
        clones(p->targets[k], p->targets[k] == &target_dormouse ? CLONES_MAX : 10);
}
