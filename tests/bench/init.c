// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-init with an application in it, by the same client as the guest
 * suites: from the start of the VMM to the application's command, from a
 * snapshot to its first answer, and what a session costs that served requests.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../vm/guest_client.h"
#include "bench.h"
#include "proc.h"
#include "record.h"

#define WHO      "dormouse"
#define REQUESTS 10

static struct guest g;
static struct answer last;
static uint8_t space[4096];

static struct tlv_writer fields(void)
{
    return tlv_writer_init(space, sizeof space);
}

struct paths {
    struct setup s;
    const char *root;
    char disk[256], image[256], session[256], workset[256];
};

static bool start_app(struct guest *m)
{
    struct tlv_writer w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    if (!guest_ok(m, GP_MOUNT_ROOT, &w))
        return false;
    w = fields();
    tlv_put_str(&w, GP_T_ARG, "http");
    tlv_put_str(&w, GP_T_ARG, "8080");
    tlv_put_str(&w, GP_T_HOSTNAME, "bench");
    return guest_ok(m, GP_START, &w);
}

/* An image is made small; a session is made soon. */
static bool freeze(struct guest *m, bool trim)
{
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_TRIM, trim);
    return guest_ok(m, GP_FREEZE, &w);
}

static bool restored(struct guest *m, bool fresh)
{
    struct timespec ts;
    uint8_t entropy[64];
    struct tlv_writer w = fields();
    if (getrandom(entropy, sizeof entropy, 0) < 0)
        return false;
    clock_gettime(CLOCK_REALTIME, &ts);
    tlv_put_u64(&w, GP_T_GENERATION, 1);
    tlv_put_u64(&w, GP_T_REALTIME_NS, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
    tlv_put_bytes(&w, GP_T_ENTROPY, entropy, sizeof entropy);
    tlv_put_u32(&w, GP_T_FRESH, fresh);
    tlv_put_str(&w, GP_T_VM_ID, "bench");
    tlv_put_str(&w, GP_T_ENDPOINT, "bench.example");
    tlv_put_str(&w, GP_T_HOSTNAME, "bench");
    return guest_ok(m, GP_RESTORED, &w);
}

/* One HTTP request over a stream of its own. */
static bool request(struct guest *m)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    char reply[512];
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_PORT, 8080);
    int fd = stream_open(m, GP_FORWARD, &w);
    bool ok = fd >= 0 && stream_next(fd, &last) == GP_REPLY && last.num == 0 &&
              fd_write_full(fd, ask, sizeof ask - 1) == 0 && read(fd, reply, sizeof reply) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool boot_once(const struct paths *p, const struct disk *d, bool keep)
{
    dormouse_rest();
    trace_mark();
    uint64_t begin = now_ns();
    if (!guest_boot(&g, &p->s, d, 1))
        return false;
    uint64_t hello = now_ns();
    if (keep && guest_ask(&g, GP_STATS, NULL))
        rec("guest-memory", "{\"state\":\"booted\"}", "bytes", "B", WHO,
            (double)(g.answer.mem_total - g.answer.mem_free));
    uint64_t asked = now_ns();
    if (!start_app(&g))
        return false;
    uint64_t cmd = now_ns();
    trace_mark_end();
    if (!guest_line(&g, 0, "listening"))
        return false;
    uint64_t listening = now_ns();
    if (keep) {
        rec("boot-to-cmd", "{\"until\":\"init\"}", "time", "ms", WHO, MS(hello - begin));
        /* Without the question for its memory. */
        rec("boot-to-cmd", "{\"until\":\"cmd\"}", "time", "ms", WHO,
            MS(cmd - asked + hello - begin));
        rec("boot-to-cmd", "{\"until\":\"init-to-cmd\"}", "time", "ms", WHO, MS(cmd - asked));
        rec("boot-to-cmd", "{\"until\":\"listening\"}", "time", "ms", WHO,
            MS(listening - asked + hello - begin));
    }
    return true;
}

static void note(const char *workload, const char *path, const struct ctl_saved *saved)
{
    struct stat st;
    char params[96];
    snprintf(params, sizeof params, "{\"workload\":\"%s\"}", workload);
    rec("suspend", params, "pause", "ms", WHO, MS(saved->pause_ns));
    if (stat(path, &st) == 0)
        rec("suspend", params, "bytes", "B", WHO, (double)st.st_blocks * 512);
}

/* Restores the image, answers, serves, and suspends again. */
static bool session_once(const struct paths *p, const struct disk *d, bool keep)
{
    struct ctl_saved saved;
    dormouse_rest();
    uint64_t begin = now_ns();
    if (!guest_restore(&g, &p->s, d, 1, p->image, NULL))
        return false;
    if (!restored(&g, true))
        return false;
    uint64_t answered = now_ns();
    if (!request(&g))
        return false;
    uint64_t first = now_ns();
    for (unsigned i = 1; i < REQUESTS; i++) {
        if (!request(&g))
            return false;
    }
    uint64_t end = now_ns();
    if (!freeze(&g, false))
        return false;
    uint64_t frozen = now_ns();
    if (!guest_save(&g, p->session, 0, &saved) || !guest_kill(&g))
        return false;
    if (!keep)
        return true;
    const char *params = "{\"mode\":\"unpooled\",\"layers\":\"image\"}";
    rec("restore-to-answer", params, "time", "ms", WHO, MS(answered - begin));
    rec("restore-to-byte", params, "time", "ms", WHO, MS(first - begin));
    rec("guest-request", "{\"over\":\"vsock\"}", "time", "ms", WHO,
        MS(end - first) / (REQUESTS - 1));
    rec("suspend", "{\"workload\":\"10-requests\"}", "freeze", "ms", WHO, MS(frozen - end));
    note("10-requests", p->session, &saved);
    begin = now_ns();
    if (!guest_restore(&g, &p->s, d, 1, p->image, p->session))
        return false;
    if (!restored(&g, false))
        return false;
    answered = now_ns();
    bool ok = request(&g);
    first = now_ns();
    params = "{\"mode\":\"unpooled\",\"layers\":\"session\"}";
    rec("restore-to-answer", params, "time", "ms", WHO, MS(answered - begin));
    rec("restore-to-byte", params, "time", "ms", WHO, MS(first - begin));
    return guest_kill(&g) && ok;
}

/* From the pool to the application's first answer: with the pages it will need mapped
 * beforehand and without. */
static bool first_answer(const struct paths *p, const struct disk *d, bool prefetch, bool keep)
{
    const char *params = prefetch ? "{\"prefetch\":\"on\"}" : "{\"prefetch\":\"off\"}";
    struct setup s = p->s;
    if (prefetch) {
        s.prepare_image = p->image;
        s.prepare_workset = p->workset;
    }
    dormouse_rest();
    if (!guest_embryo(&g, &s))
        return false;
    usleep(1500); /* it has waited in the pool for long */
    uint64_t faults = proc_faults(g.pid), begin = now_ns();
    bool ok = guest_load(&g, &s, d, 1, p->image, NULL) && restored(&g, true) && request(&g);
    if (ok && keep) {
        rec("workset", params, "time", "ms", WHO, MS(now_ns() - begin));
        rec("workset", params, "faults", "1", WHO, (double)(proc_faults(g.pid) - faults));
    }
    return guest_kill(&g) && ok;
}

/* What the machine touches until its first answer, as at the end of a build. */
static bool record_workset(const struct paths *p, const struct disk *d)
{
    if (!guest_restore(&g, &p->s, d, 1, p->image, NULL) || !restored(&g, true) || !request(&g))
        return false;
    bool ok = guest_workset(&g, p->workset);
    return guest_kill(&g) && ok;
}

void bench_init(const char *kernel, const char *initrd, const char *root, const char *dir,
                unsigned runs, bool traced)
{
    struct paths p = {.s = {.spawn = dormouse_spawn, .kernel = kernel, .initrd = initrd},
                      .root = root};
    struct disk d = {.path = p.disk, .serial = "root"};
    struct ctl_saved saved;
    snprintf(p.disk, sizeof p.disk, "%s/init.disk", dir);
    snprintf(p.image, sizeof p.image, "%s/init.image", dir);
    snprintf(p.session, sizeof p.session, "%s/init.session", dir);
    snprintf(p.workset, sizeof p.workset, "%s/init.workset", dir);
    bool ok = true;
    for (unsigned i = 0; i < runs && ok; i++) {
        ok = copy_file(p.root, p.disk) && boot_once(&p, &d, i > 0);
        ok = ok && (i + 1 < runs ||
                    (freeze(&g, true) && guest_save(&g, p.image, CTL_SAVE_FULL, &saved)));
        if (ok && i + 1 == runs)
            note("image-of-idle-server", p.image, &saved);
        ok = ok && guest_kill(&g);
    }
    if (traced)
        return;
    for (unsigned i = 0; i < runs && ok; i++)
        ok = session_once(&p, &d, i > 0);
    for (unsigned i = 0; i < runs && ok; i++)
        ok = first_answer(&p, &d, false, i > 0);
    rec_missing("workset", "{\"prefetch\":\"on\"}", "time", "ms", WHO);
    rec_missing("workset", "{\"prefetch\":\"on\"}", "faults", "1", WHO);
    ok = ok && record_workset(&p, &d);
    for (unsigned i = 0; i < runs && ok; i++)
        ok = first_answer(&p, &d, true, i > 0);
    if (!ok)
        complain("dormouse-init: %s %s", g.answer.text, g.exit.text);
}
