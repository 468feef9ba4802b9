// SPDX-License-Identifier: Apache-2.0
/* dormouse-vmm as a target: started and ordered about as the daemon does it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../api/parent_spawn.h"
#include "../../hypervisor/base/msg.h"
#include "../../hypervisor/ctl.h"
#include "../../snapshot/overlay.h"
#include "../../snapshot/snapfile.h"
#include "bench.h"
#include "layer.h"

#define LIMIT_MS 120000
#define CGROUP   "/sys/fs/cgroup/bench"
#define VMM_UID  64000u
#define FDS_MAX  16u

static struct spawn_host host;
static int cgroup = -1;
static struct msg msg;

bool dormouse_open(void)
{
    mkdir(CGROUP, 0755);
    cgroup = open(CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    host = (struct spawn_host){.vmm_path = setup.vmm,
                               .nursery = -1,
                               .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC),
                               .null = open("/dev/null", O_RDWR | O_CLOEXEC)};
    spawn_renew(&host);
    usleep(20000); /* as in the daemon, it is there before anybody wants a machine */
    return cgroup >= 0 && host.kvm >= 0 && host.null >= 0;
}

static bool receive(struct inst *in)
{
    struct pollfd p = {.fd = in->ctl, .events = POLLIN};
    return poll(&p, 1, LIMIT_MS) == 1 && msg_recv(in->ctl, &msg, NULL) == 0;
}

int dormouse_spawn(int ctl)
{
    pid_t pid = -1;
    int pidfd;
    struct err e = ERR_INIT;
    if (spawn_vmm(&host, VMM_UID, 1, ctl, -1, cgroup, &pid, &pidfd, &e) < 0) {
        complain("dormouse-vmm does not start: %s", e.msg);
        return -1;
    }
    close(pidfd);
    return pid;
}

void dormouse_rest(void)
{
    spawn_renew(&host);
    if (host.born == 0)
        usleep(20000);
}

static bool embryo(struct inst *in, const struct spec *s)
{
    int pair[2];
    struct err e = ERR_INIT;
    in->pid = -1;
    in->ctl = in->console = in->tap = in->pidfd = -1;
    in->id = 0;
    in->prepared = false;
    if (msg_pair(pair, &e) < 0)
        return false;
    in->ctl = pair[0];
    int r = spawn_vmm(&host, VMM_UID, s->vcpus, pair[1], -1, cgroup, &in->pid, &in->pidfd, &e);
    close(pair[1]);
    if (r < 0 || !receive(in) || msg.type != CTL_READY) {
        complain("dormouse-vmm does not start: %s", e.msg);
        return false;
    }
    return true;
}

int dormouse_stream(struct inst *in)
{
    if (!receive(in) || msg.type != CTL_VSOCK) {
        complain("dormouse-vmm: no connection but message %u", msg.type);
        return -1;
    }
    return msg_take_fd(&msg, 0);
}

static bool order(struct inst *in, uint32_t type, const void *body, size_t len, const int *fds,
                  size_t nfds)
{
    uint32_t id = ++in->id;
    if (msg_send(in->ctl, type, id, body, len, fds, nfds, NULL) < 0)
        return false;
    while (receive(in)) {
        if (msg.id == id && msg.type == CTL_DONE)
            return true;
        if (msg.id == id) {
            const struct ctl_fail *f = msg_body(&msg, sizeof *f);
            complain("dormouse-vmm: %s", f ? f->msg : "no reason given");
            return false;
        }
        msg_close_fds(&msg);
    }
    complain("dormouse-vmm ended");
    return false;
}

/* An empty layer over the disk, the same each time. */
static int overlay(unsigned i)
{
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s.%u", disk_path(), i);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > 0)
        return fd;
    if (stat(disk_path(), &st) < 0 || overlay_create(fd, (uint64_t)st.st_size, NULL) < 0)
        complain("no disk layer %u", i);
    return fd;
}

static struct ctl_machine machine(struct inst *in, const struct spec *s, int *fds, size_t *nfds)
{
    struct ctl_machine m = {.version = CTL_VERSION,
                            .vcpus = s->vcpus,
                            .mem_bytes = s->mem,
                            .has_net = s->net,
                            .ndisks = s->disk,
                            .mac = {2, 0, 0, 0, 0, 1},
                            .has_vsock = s->vsock};
    if (getrandom(m.vmgenid, sizeof m.vmgenid, 0) < 0)
        complain("no random bytes");
    if (s->net)
        fds[(*nfds)++] = in->tap;
    if (s->disk) {
        m.disks[0].nlayers = 1 + s->overlays;
        snprintf(m.disks[0].serial, sizeof m.disks[0].serial, "bench");
        fds[(*nfds)++] = open(disk_path(), O_RDWR | O_CLOEXEC);
        for (unsigned i = 0; i < s->overlays; i++)
            fds[(*nfds)++] = overlay(i);
    }
    return m;
}

/* Made from the first machine that is saved, and the same for all. */
static int layer = -1;

/* The image that was restored last, open, as the daemon has those that it knows. */
static struct {
    char path[256];
    int fd;
    bool layered;
} held = {.fd = -1};

static void let_go(void)
{
    if (held.fd >= 0)
        close(held.fd);
    held.fd = -1;
}

static void hold(const char *image)
{
    struct snap_info info;
    if (held.fd >= 0 && strcmp(held.path, image) == 0)
        return;
    let_go();
    snprintf(held.path, sizeof held.path, "%s", image);
    held.fd = open(image, O_RDONLY | O_CLOEXEC);
    held.layered =
        held.fd >= 0 && snap_read_info(held.fd, &info, NULL) == 0 && info.flags & SNAP_LAYERED;
}

/* Not those that stay open. */
static void close_fds(const struct inst *in, const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0 && fds[i] != in->tap && fds[i] != held.fd && fds[i] != layer)
            close(fds[i]);
    }
}

static bool boot(struct inst *in, const struct spec *s, uint64_t *ready_ns)
{
    int fds[FDS_MAX], console;
    size_t n = 3;
    if (!embryo(in, s))
        return false;
    *ready_ns = now_ns();
    if (!console_open(in, &console))
        return false;
    fds[0] = open(setup.kernel, O_RDONLY | O_CLOEXEC);
    fds[1] = open(s->initrd ? s->initrd : setup.initrd, O_RDONLY | O_CLOEXEC);
    fds[2] = console;
    in->tap = s->net ? tap_make(s) : -1;
    struct ctl_machine m = machine(in, s, fds, &n);
    snprintf(m.cmdline, sizeof m.cmdline, "console=ttyAMA0 quiet norandmaps %s", s->cmdline);
    bool ok = order(in, CTL_BOOT, &m, sizeof m, fds, n);
    close_fds(in, fds, n);
    return ok;
}

static bool write_layer(void *ctx, const struct ctl_layer *l, int fd)
{
    return order(ctx, CTL_LAYER, l, sizeof *l, &fd, 1);
}

static bool restore(struct inst *in, const struct spec *s, const char *image,
                    const char *session)
{
    int fds[FDS_MAX], console;
    size_t n = 0;
    if (!console_open(in, &console))
        return false;
    fds[n++] = console;
    hold(image);
    bool layered = !in->prepared && held.layered;
    if (!in->prepared)
        fds[n++] = held.fd;
    if (session)
        fds[n++] = open(session, O_RDONLY | O_CLOEXEC);
    if (layered)
        fds[n++] = layer;
    struct ctl_machine m = machine(in, s, fds, &n);
    m.has_layer = layered;
    m.nmem_layers = session ? 2 : 1;
    m.prepared = in->prepared;
    bool ok = order(in, CTL_RESTORE, &m, sizeof m, fds, n);
    close_fds(in, fds, n);
    return ok;
}

static void workset_path(const char *image, char ret[300])
{
    snprintf(ret, 300, "%s.workset", image);
}

static bool workset(struct inst *in, const char *image)
{
    char path[300];
    workset_path(image, path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && order(in, CTL_WORKSET, NULL, 0, &fd, 1);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool prepare(struct inst *in, const struct spec *s, const char *image)
{
    char path[300];
    int fds[3];
    size_t n = 0;
    hold(image);
    const struct ctl_machine m = {.version = CTL_VERSION,
                                  .vcpus = s->vcpus,
                                  .mem_bytes = s->mem,
                                  .has_layer = held.layered,
                                  .has_workset = 1};
    workset_path(image, path);
    fds[n++] = held.fd;
    if (held.layered)
        fds[n++] = layer;
    fds[n++] = open(path, O_RDONLY | O_CLOEXEC);
    in->prepared = order(in, CTL_PREPARE, &m, sizeof m, fds, n);
    close_fds(in, fds, n);
    return in->prepared;
}

static bool embryo_and_tap(struct inst *in, const struct spec *s)
{
    if (!embryo(in, s))
        return false;
    in->tap = s->net ? tap_make(s) : -1; /* the daemon's come with the process */
    return true;
}

static bool save(struct inst *in, const char *path, bool full, struct saved *ret)
{
    struct ctl_save body = {.flags = full ? CTL_SAVE_FULL : 0};
    struct stat st;
    let_go(); /* it may be the one that is made anew */
    if (!order(in, CTL_PAUSE, NULL, 0, NULL, 0))
        return false;
    int fds[2] = {open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), -1}, fd = fds[0];
    if (full && layer < 0)
        layer = layer_make(write_layer, in);
    if (full && layer >= 0) {
        body.flags |= CTL_SAVE_LAYER;
        fds[1] = layer;
    }
    bool ok = fd >= 0 && order(in, CTL_SAVE, &body, sizeof body, fds, fds[1] < 0 ? 1 : 2);
    const struct ctl_saved *saved = ok ? msg_body(&msg, sizeof *saved) : NULL;
    ok = saved && fstat(fd, &st) == 0;
    if (ok && ret)
        *ret = (struct saved){.bytes = saved->file_bytes,
                              .allocated = (uint64_t)st.st_blocks * 512,
                              .pause_ns = saved->pause_ns,
                              .pages = saved->pages_stored,
                              .zero = saved->pages_zero,
                              .same = saved->pages_same};
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool stop(struct inst *in)
{
    bool ok = order(in, CTL_STOP, NULL, 0, NULL, 0);
    if (!ok)
        spawn_kill(in->pidfd);
    ok = reap(in) && ok;
    dormouse_rest();
    return ok;
}

static void phases(struct inst *in, uint64_t ret[8])
{
    const struct ctl_stats *st;
    memset(ret, 0, 8 * sizeof ret[0]);
    if (order(in, CTL_STATS, NULL, 0, NULL, 0) && (st = msg_body(&msg, sizeof *st)))
        memcpy(ret, st->restore_ns, sizeof st->restore_ns);
}

const struct target target_dormouse = {.name = "dormouse",
                                       .has_vsock = true,
                                       .has_session = true,
                                       .embryo = embryo_and_tap,
                                       .boot = boot,
                                       .restore = restore,
                                       .workset = workset,
                                       .prepare = prepare,
                                       .save = save,
                                       .stop = stop,
                                       .phases = phases};
