// SPDX-License-Identifier: Apache-2.0
/*
 * From a restored guest's first instruction to its application's: what init does in between,
 * and what its host does for it. As the daemon has it: the image lies over the kernel's memory
 * layer, the machine has a network and gets another address, an application stands in inotify's
 * read and a connection of before is to be ended. `prepared`: the VMM has the image's working
 * set mapped, as those in the pool have; `pooled`: it has not.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "../vm/guest_client.h"
#include "../vm/guest_net.h"
#include "bench.h"
#include "layer.h"

#define WHO  "dormouse"
#define CASE "restore-to-thaw"
#define NET_KICK \
    "gpa 0xa001050 val 0x1" /* the second device's: something was put in its ring */
#define PORT    9900
#define WAIT_MS 60000

static struct guest g;
static uint8_t space[4096];

struct thaw {
    struct setup s;
    struct disk disk;
    const char *root;
    char disk_path[256], image[256], session[256], workset[256];
    uint8_t mac[6];
    int awake; /* where the application's datagrams come */
    int layer;
};

static struct tlv_writer fields(void)
{
    return tlv_writer_init(space, sizeof space);
}

static uint64_t real_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool write_layer(void *ctx, const struct ctl_layer *l, int fd)
{
    return guest_order(ctx, CTL_LAYER, l, sizeof *l, fd) == 0;
}

static bool freeze(bool trim)
{
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_TRIM, trim);
    return guest_ok(&g, GP_FREEZE, &w);
}

/* A connection of the application's, established. */
static int client(void)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct sockaddr_in to;
    char reply[256];
    int fd = host_socket(SOCK_STREAM, "10.9.0.2", 8080, &to);
    bool ok = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
              write(fd, ask, sizeof ask - 1) > 0 && read(fd, reply, sizeof reply) > 0;
    if (!ok)
        close(fd);
    return ok ? fd : -1;
}

static bool make_frozen(struct thaw *t)
{
    struct ctl_saved saved;
    struct tlv_writer w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    bool ok = copy_file(t->root, t->disk_path) && guest_boot(&g, &t->s, &t->disk, 1) &&
              guest_ok(&g, GP_MOUNT_ROOT, &w);
    w = fields();
    net_fields(&w, 2, t->mac);
    ok = ok && guest_ok(&g, GP_NET, &w);
    w = fields();
    const char *const argv[] = {"sh", "-c", "serve 8080 & awake 10.9.0.254 9900", NULL};
    for (size_t i = 0; argv[i]; i++)
        tlv_put_str(&w, GP_T_ARG, argv[i]);
    tlv_put_str(&w, GP_T_HOSTNAME, "bench");
    ok = ok && guest_ok(&g, GP_START, &w) && guest_line(&g, 0, "serving") &&
         guest_line(&g, 0, "watching");
    int fd = ok ? client() : -1;
    ok = fd >= 0 && freeze(true) && guest_order(&g, CTL_PAUSE, NULL, 0, -1) == 0 &&
         (t->layer = layer_make(write_layer, &g)) >= 0 &&
         guest_save_over(&g, t->image, t->layer, &saved);
    t->s.layer = t->layer;
    if (fd >= 0)
        close(fd);
    return guest_kill(&g) && ok;
}

struct times {
    uint64_t begin, insn, sent, replied, kicked, awake;
    uint64_t late; /* of the guest's clock behind ours, at most */
};

static bool restored(struct thaw *t, bool fresh, struct times *ret)
{
    static uint64_t generation;
    uint8_t entropy[64];
    struct tlv_writer w = fields();
    if (getrandom(entropy, sizeof entropy, 0) < 0)
        return false;
    tlv_put_u64(&w, GP_T_GENERATION, ++generation);
    tlv_put_u64(&w, GP_T_REALTIME_NS, real_ns());
    tlv_put_bytes(&w, GP_T_ENTROPY, entropy, sizeof entropy);
    tlv_put_u32(&w, GP_T_FRESH, fresh);
    tlv_put_str(&w, GP_T_VM_ID, "microvm-00000000000000000000000000000000");
    tlv_put_str(&w, GP_T_ENDPOINT, "00000000000000000000000000000000.example");
    tlv_put_str(&w, GP_T_HOSTNAME, fresh ? "clone" : "bench");
    net_fields(&w, fresh ? 3 : 2, t->mac);
    trace_mark();
    ret->sent = now_ns();
    if (!guest_ok(&g, GP_RESTORED, &w))
        return false;
    ret->replied = now_ns();
    struct timespec theirs;
    struct pollfd p = {.fd = t->awake, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) != 1 ||
        recv(t->awake, &theirs, sizeof theirs, 0) != (ssize_t)sizeof theirs)
        return false;
    ret->awake = now_ns();
    ret->late = real_ns() - ((uint64_t)theirs.tv_sec * 1000000000u + (uint64_t)theirs.tv_nsec);
    return true;
}

/* The application's datagram is the last before it came here. */
static void take(const struct event *ev, void *ctx)
{
    static uint64_t entry;
    struct times *t = ctx;
    if (trace_is(ev, "kvm_entry"))
        entry = ev->ns;
    if (trace_is(ev, "kvm_exit") && !t->insn && !strstr(ev->text, "IABT"))
        t->insn = entry;
    if (trace_is(ev, "kvm_mmio") && strstr(ev->text, NET_KICK) && ev->ns <= t->awake)
        t->kicked = ev->ns;
}

static void note(const char *params, const char *part, double ms)
{
    char more[160];
    snprintf(more, sizeof more, "%.*s%s%s\"}", (int)strlen(params) - 1, params, ",\"part\":\"",
             part);
    rec(CASE, more, "time", "ms", WHO, ms);
}

static bool once(struct thaw *t, bool prepared, const char *session, bool keep)
{
    struct setup s = t->s;
    struct times at = {.begin = 0};
    char params[96];
    snprintf(params, sizeof params, "{\"mode\":\"%s\",\"layers\":\"%s\"}",
             prepared ? "prepared" : "pooled", session ? "session" : "image");
    if (prepared) {
        s.prepare_image = t->image;
        s.prepare_workset = t->workset;
    }
    if (!guest_embryo(&g, &s))
        return false;
    usleep(1500); /* it has waited in the pool for long */
    uint64_t faults = proc_faults(g.pid);
    trace_begin(CALLS_NONE);
    at.begin = now_ns();
    bool ok = guest_load(&g, &s, &t->disk, 1, t->image, session) && restored(t, !session, &at);
    faults = proc_faults(g.pid) - faults;
    ok = trace_read(at.begin, g.pid, take, &at) && ok && at.insn && at.kicked > at.sent;
    if (ok && keep) {
        rec(CASE, params, "time", "ms", WHO, MS(at.kicked - at.insn));
        rec(CASE, params, "faults", "1", WHO, (double)faults);
        rec(CASE, params, "clock-off", "ms", WHO, MS(at.late));
        note(params, "until the order", MS(at.sent - at.insn));
        note(params, "order to answer", MS(at.replied - at.sent));
        note(params, "order to application", MS(at.kicked - at.sent));
        note(params, "its datagram here", MS(at.awake - at.kicked));
    }
    return guest_kill(&g) && ok;
}

/* What the machine touches until then, as at the end of a build. */
static bool record(struct thaw *t)
{
    struct times at;
    if (!guest_restore(&g, &t->s, &t->disk, 1, t->image, NULL) || !restored(t, true, &at))
        return false;
    bool ok = guest_workset(&g, t->workset);
    return guest_kill(&g) && ok;
}

static bool make_session(struct thaw *t)
{
    struct times at;
    struct ctl_saved saved;
    struct setup s = t->s;
    s.prepare_image = t->image;
    s.prepare_workset = t->workset;
    return guest_embryo(&g, &s) && guest_load(&g, &s, &t->disk, 1, t->image, NULL) &&
           restored(t, false, &at) && freeze(false) && guest_save(&g, t->session, 0, &saved) &&
           guest_kill(&g);
}

void bench_thaw(const char *vmm, const char *kernel, const char *initrd, const char *root,
                const char *dir, unsigned runs, bool traced)
{
    struct thaw t = {.s = {.vmm = vmm, .kernel = kernel, .initrd = initrd}, .root = root};
    struct sockaddr_in at;
    snprintf(t.disk_path, sizeof t.disk_path, "%s/thaw.disk", dir);
    snprintf(t.image, sizeof t.image, "%s/thaw.image", dir);
    snprintf(t.session, sizeof t.session, "%s/thaw.session", dir);
    snprintf(t.workset, sizeof t.workset, "%s/thaw.workset", dir);
    t.disk = (struct disk){.path = t.disk_path, .serial = "root"};
    if (!trace_usable()) {
        complain("no trace events: nothing is known of a restored guest's first instruction");
        return;
    }
    t.s.tap = make_tap(t.mac);
    t.awake = host_socket(SOCK_DGRAM, "10.9.0.254", PORT, &at);
    bool ok = t.s.tap > 0 && t.awake >= 0 &&
              bind(t.awake, (struct sockaddr *)&at, sizeof at) == 0 && make_frozen(&t);
    for (unsigned i = 0; i < runs && ok && !traced; i++)
        ok = once(&t, false, NULL, i > 0);
    ok = ok && record(&t);
    for (unsigned i = 0; i < runs && ok; i++)
        ok = once(&t, true, NULL, i > 0);
    ok = ok && (traced || make_session(&t));
    for (unsigned i = 0; !traced && i < 2 * runs && ok; i++)
        ok = once(&t, i >= runs, t.session, i % runs > 0);
    if (!ok)
        complain("restore to thaw: %s %s", g.answer.text, g.exit.text);
    close(t.awake);
    close(t.s.tap);
    if (t.layer > 0)
        close(t.layer);
}
