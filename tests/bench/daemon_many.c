// SPDX-License-Identifier: Apache-2.0
/* Many microVMs: how fast they are made, what an idle one costs, lists of thousands. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "daemon.h"
#include "proc.h"

#define CREATES 50
#define GETS    50
#define PAGE    "maxResults=50"

/* ---- processes ---- */

static bool is_program(pid_t pid, const char *name)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    return f && fgets(text, sizeof text, f) && strncmp(text, name, strlen(name)) == 0;
}

static unsigned pids_of(const char *name, pid_t *pids, unsigned max)
{
    unsigned n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d)) && n < max;) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 0 && is_program(pid, name))
            pids[n++] = pid;
    }
    if (d)
        closedir(d);
    return n;
}

/* ---- create ---- */

void daemon_create(struct bench *b)
{
    static struct vm vms[CREATES];
    unsigned n = 0;
    uint64_t begin = now_ns();
    while (n < CREATES && vm_run(b, &vms[n]))
        n++;
    uint64_t accepted = now_ns();
    /* The last one's answer is the end: they start side by side. */
    bool ok = n == CREATES;
    for (unsigned i = 0; i < n && ok; i++)
        ok = vm_token(b, &vms[i]) && vm_ask(&b->c.api, &vms[i], "/");
    uint64_t answered = now_ns();
    for (unsigned i = 0; i < n; i++)
        vm_end(b, vms[i].id);
    if (!ok) {
        complain("create: the %u. microVM: %s", n, b->c.fail.e.msg);
        return;
    }
    const char *params[] = {"{\"n\":50,\"until\":\"accepted\"}",
                            "{\"n\":50,\"until\":\"answered\"}"};
    const uint64_t ns[] = {accepted - begin, answered - begin};
    for (unsigned i = 0; i < 2; i++) {
        rec("create", params[i], "time", "ms", WHO, MS(ns[i]) / CREATES);
        rec("create", params[i], "rate", "1/s", WHO, CREATES / ((double)ns[i] / 1e9));
    }
}

/* ---- clones of an application ---- */

/* Guest memory is a power of two, from what an image may ask for at least; once it is known it
 * is that of all, and looking takes long. */
static bool usage_of(pid_t pid, uint64_t *mem, struct usage *ret)
{
    if (*mem)
        return proc_usage(pid, *mem, ret); /* an embryo has no guest yet */
    for (uint64_t size = 128ull << 20; size <= 32ull << 30; size *= 2) {
        if (proc_usage(pid, size, ret)) {
            *mem = size;
            return true;
        }
    }
    return false;
}

static void note_clones(unsigned n, uint64_t ns)
{
    static pid_t pids[1024];
    char params[64];
    double pss = 0, vmm = 0, wrote = 0, count = 0;
    uint64_t mem = 0;
    unsigned all = pids_of("dormouse-vmm", pids, ARRAY_LEN(pids));
    for (unsigned i = 0; i < all; i++) {
        struct usage u;
        if (!usage_of(pids[i], &mem, &u))
            continue;
        count++;
        pss += (double)(u.guest_pss + u.vmm_pss);
        vmm += (double)u.vmm_pss;
        wrote += (double)u.guest_dirty;
    }
    if (count < n)
        complain("only %.0f of %u clones are there", count, n);
    if (count < 1)
        return;
    snprintf(params, sizeof params, "{\"n\":%u,\"app\":\"python\"}", n);
    rec("clones", params, "pss", "B", WHO, pss / count);
    rec("clones", params, "vmm-pss", "B", WHO, vmm / count);
    rec("clones", params, "wrote", "B", WHO, wrote / count);
    rec("clones", params, "pss-beyond-written", "B", WHO, (pss - wrote) / count);
    rec("clones", params, "time", "ms", WHO, MS(ns) / n);
}

void daemon_clones(struct bench *b)
{
    static const unsigned steps[] = {1, 10, 50, 100, 200};
    struct vm *vms = calloc(b->clones, sizeof *vms);
    uint64_t ns = 0;
    unsigned n = 0, step = 0;
    for (; vms && n < b->clones; n++) {
        uint64_t begin = now_ns();
        if (!vm_run(b, &vms[n]) || !vm_token(b, &vms[n]) || !vm_ask(&b->c.api, &vms[n], "/"))
            break;
        ns += now_ns() - begin;
        if (step < ARRAY_LEN(steps) && n + 1 == steps[step]) {
            usleep(200000); /* they are idle */
            note_clones(n + 1, ns);
            step++;
        }
    }
    if (n < b->clones)
        complain("only %u clones: %s", n, b->c.fail.e.msg);
    rec("clones", "{\"app\":\"python\"}", "reached", "1", WHO, n);
    while (n > 0)
        vm_end(b, vms[--n].id);
    free(vms);
}

/* ---- lists ---- */

static bool page(struct bench *b, const char *query, json_t **ret)
{
    return cli_call(&b->c, "GET", MICROVMS, query, NULL, ret) == CLI_OK;
}

void daemon_list(struct bench *b)
{
    static pid_t pids[16];
    json_t *first = NULL, *v = NULL, *item;
    size_t i;
    char params[64], query[1200] = PAGE;
    const char *rows = getenv("ROWS");
    unsigned n = rows ? (unsigned)strtoul(rows, NULL, 10) : 0;
    snprintf(params, sizeof params, "{\"records\":%u}", n);
    for (unsigned k = 0; k < b->runs; k++) {
        uint64_t begin = now_ns();
        bool ok = page(b, query, &v);
        uint64_t ns = now_ns() - begin;
        if (!ok) {
            complain("list: %s", b->c.fail.e.msg);
            return;
        }
        if (k > 0)
            rec("list", params, "time", "ms", WHO, MS(ns));
        /* Each run reads the next page. */
        const char *next = json_string_value(json_object_get(v, "nextToken"));
        if (next)
            snprintf(query, sizeof query, PAGE "&nextToken=%s", next);
        if (!first)
            first = json_incref(v);
        json_decref(v);
    }
    json_t *items = json_object_get(first, "microvms");
    if (!json_is_array(items))
        items = json_object_get(first, "items");
    if (json_array_size(items) == 0)
        complain("list: the first page is empty");
    json_array_foreach(items, i, item)
    {
        const char *id = json_string_value(json_object_get(item, "microvmId"));
        uint64_t begin = now_ns();
        if (!id || !api_get(b, MICROVMS "/%", id, NULL)) {
            complain("get: %s", b->c.fail.e.msg);
            break;
        }
        if (i > 0)
            rec("get", params, "time", "ms", WHO, MS(now_ns() - begin));
    }
    json_decref(first);
    double rss = 0;
    unsigned all = pids_of("dormoused", pids, ARRAY_LEN(pids));
    for (unsigned k = 0; k < all; k++) {
        struct usage u;
        proc_usage(pids[k], 0, &u);
        rss += (double)(u.vmm_pss + u.guest_pss);
    }
    rec("daemon-memory", params, "pss", "B", WHO, rss);
}
