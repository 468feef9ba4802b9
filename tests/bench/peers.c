// SPDX-License-Identifier: Apache-2.0
/*
 * Firecracker and kvmtool as targets, when PEER_FIRECRACKER= or PEER_KVMTOOL= named a program:
 * see tests/bench.sh. Their serial port is one that the guest kernel has no driver for, so
 * their guests say over the network what others say on the console (`bench.say=net`). The tap
 * has a name and lasts, as these two open it themselves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "bench.h"
#include "firecracker_api.h"

#define TAP      "benchpeer"
#define MAC      "02:00:00:00:00:01"
#define SAY_PORT 9001
#define START_MS 60000
#define CMDLINE  "quiet norandmaps bench.say=net %s"

static bool program(const char *name, char ret[256])
{
    snprintf(ret, 256, "%s/%s", setup.qemu ? setup.qemu : "", name);
    return setup.qemu && access(ret, X_OK) == 0;
}

static void tap_lasts(bool on)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, TAP);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, on) < 0)
        complain("no tap " TAP ": %s", strerror(errno));
    else if (on && !tap_up(TAP, true))
        complain("no address for " TAP);
}

/* What the guest says comes as datagrams. */
static int listen_for_guest(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(SAY_PORT)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool begin(struct inst *in)
{
    in->pid = -1;
    in->ctl = in->tap = in->pidfd = -1;
    in->len = 0;
    in->console = listen_for_guest();
    tap_lasts(true);
    return in->console >= 0;
}

static bool spawn(struct inst *in, const char *const *argv)
{
    char home[300];
    snprintf(home, sizeof home, "HOME=%s", setup.dir);
    in->pid = fork();
    if (in->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        execve(argv[0], (char *const *)(uintptr_t)argv, (char *const[]){home, NULL});
        _exit(127);
    }
    return in->pid > 0;
}

static bool stop(struct inst *in)
{
    if (in->pid > 0) {
        kill(in->pid, SIGKILL);
        reap(in);
    }
    tap_lasts(false);
    return true;
}

/* ---- kvmtool: it has no control socket worth the name, and no snapshots ---- */

static bool kvmtool_boot(struct inst *in, const struct spec *s, uint64_t *ready_ns)
{
    char path[256], cpus[16], mem[32], line[512];
    *ready_ns = 0; /* it does not say */
    snprintf(cpus, sizeof cpus, "%u", s->vcpus);
    snprintf(mem, sizeof mem, "%llu", (unsigned long long)(s->mem >> 20));
    snprintf(line, sizeof line, CMDLINE, s->cmdline);
    const char *const argv[] = {path,
                                "run",
                                "--name",
                                "bench",
                                "--kernel",
                                setup.kernel,
                                "--initrd",
                                s->initrd ? s->initrd : setup.initrd,
                                "--cpus",
                                cpus,
                                "--mem",
                                mem,
                                "--params",
                                line,
                                "--virtio-transport",
                                "mmio",
                                "--network",
                                "mode=tap,tapif=" TAP ",guest_mac=" MAC,
                                "--disk",
                                disk_path(),
                                NULL};
    return program("kvmtool", path) && begin(in) && spawn(in, argv);
}

const struct target target_kvmtool = {.name = "kvmtool", .boot = kvmtool_boot, .stop = stop};

/* ---- Firecracker ---- */

static const char *fc_socket(void)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/firecracker.sock", setup.dir);
    return path;
}

static bool fc_embryo(struct inst *in, const struct spec *s)
{
    char path[256];
    const char *const argv[] = {path,    "--api-sock", fc_socket(), "--id",
                                "bench", "--level",    "Error",     NULL};
    (void)s;
    unlink(fc_socket());
    if (!program("firecracker", path) || !begin(in) || !spawn(in, argv))
        return false;
    in->ctl = fc_connect(fc_socket(), START_MS);
    if (in->ctl < 0)
        complain("firecracker does not start");
    return in->ctl >= 0;
}

static bool said(bool ok, const char *why)
{
    if (!ok)
        complain("firecracker: %s", why);
    return ok;
}

static bool fc_boot_spec(struct inst *in, const struct spec *s, uint64_t *ready_ns)
{
    char line[512], why[512];
    snprintf(line, sizeof line, CMDLINE, s->cmdline);
    const struct fc_machine m = {.vcpus = s->vcpus,
                                 .mem = s->mem,
                                 .kernel = setup.kernel,
                                 .initrd = s->initrd ? s->initrd : setup.initrd,
                                 .cmdline = line,
                                 .disk = s->disk ? disk_path() : NULL,
                                 .tap = s->net ? TAP : NULL,
                                 .mac = MAC};
    bool ok = fc_embryo(in, s);
    *ready_ns = now_ns();
    return ok && said(fc_boot(in->ctl, &m, why, sizeof why), why);
}

static void fc_files(const char *image, char state[300])
{
    snprintf(state, 300, "%s.state", image);
}

static bool fc_restore(struct inst *in, const struct spec *s, const char *image,
                       const char *session)
{
    char state[300], why[512];
    (void)s;
    (void)session;
    fc_files(image, state);
    return said(fc_load(in->ctl, state, image, why, sizeof why), why);
}

static bool fc_save_to(struct inst *in, const char *path, bool full, struct saved *ret)
{
    char state[300], why[512];
    struct stat mem, dev;
    uint64_t start = now_ns();
    (void)full;
    fc_files(path, state);
    unlink(path);
    if (!said(fc_pause(in->ctl, why, sizeof why) &&
                  fc_save(in->ctl, state, path, why, sizeof why),
              why) ||
        stat(path, &mem) < 0 || stat(state, &dev) < 0)
        return false;
    if (ret)
        *ret = (struct saved){.bytes = (uint64_t)(mem.st_size + dev.st_size),
                              .allocated = (uint64_t)(mem.st_blocks + dev.st_blocks) * 512,
                              .pause_ns = now_ns() - start};
    return true;
}

const struct target target_firecracker = {.name = "firecracker",
                                          .embryo = fc_embryo,
                                          .boot = fc_boot_spec,
                                          .restore = fc_restore,
                                          .save = fc_save_to,
                                          .stop = stop};

bool peer_open(const struct target *t)
{
    char path[256];
    return program(t->name, path);
}
