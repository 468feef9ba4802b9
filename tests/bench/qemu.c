// SPDX-License-Identifier: Apache-2.0
/*
 * QEMU as a target: machine `virt` with KVM, nothing but the devices asked for,
 * all on virtio-mmio; snapshots by migration to a file with mapped-ram. No jail
 * and no system call filter, unlike dormouse-vmm.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define LIMIT_MS 300000
#define ARGS_MAX 64
#define FD_QMP   3
#define FD_TAP   4

bool qemu_open(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/qemu-system-aarch64", setup.qemu ? setup.qemu : "");
    return setup.qemu && access(path, X_OK) == 0;
}

/* The next line of the monitor's, in place. */
static char *next_line(struct inst *in)
{
    static char line[sizeof in->buf];
    for (;;) {
        char *end = memchr(in->buf, '\n', in->buf_len);
        if (end) {
            size_t n = (size_t)(end - in->buf) + 1;
            memcpy(line, in->buf, n);
            line[n - 1] = '\0';
            memmove(in->buf, in->buf + n, in->buf_len - n);
            in->buf_len -= n;
            return line;
        }
        struct pollfd p = {.fd = in->ctl, .events = POLLIN};
        if (in->buf_len == sizeof in->buf || poll(&p, 1, LIMIT_MS) != 1)
            return NULL;
        ssize_t got = read(in->ctl, in->buf + in->buf_len, sizeof in->buf - in->buf_len);
        if (got <= 0)
            return NULL;
        in->buf_len += (size_t)got;
    }
}

/* A command; true when it succeeded. Events before its answer are dropped. */
static bool command(struct inst *in, const char *text)
{
    char *line;
    if (fd_write_full(in->ctl, text, strlen(text)) < 0)
        return false;
    while ((line = next_line(in))) {
        if (strncmp(line, "{\"return\"", 9) == 0)
            return true;
        if (strstr(line, "\"error\"")) {
            complain("qemu: %s", line);
            return false;
        }
    }
    complain("qemu ended");
    return false;
}

struct args {
    const char *v[ARGS_MAX];
    unsigned n;
    char text[ARGS_MAX][1024];
};

__attribute__((format(printf, 2, 3))) static void arg(struct args *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->text[a->n], sizeof a->text[0], fmt, ap);
    va_end(ap);
    a->v[a->n] = a->text[a->n];
    a->n++;
}

static void build_args(struct args *a, const struct spec *s, bool incoming)
{
    static const char *const fixed[] = {
        "-nodefaults", "-no-user-config",
        "-display",    "none",
        "-M",          "virt,gic-version=host",
        "-accel",      "kvm",
        "-cpu",        "host",
        "-global",     "virtio-mmio.force-legacy=false",
        "-serial",     "stdio",
        "-chardev",    "socket,id=q,fd=3",
        "-mon",        "chardev=q,mode=control",
    };
    arg(a, "%s/ld-linux-aarch64.so.1", setup.qemu);
    arg(a, "--library-path");
    arg(a, "%s", setup.qemu);
    arg(a, "%s/qemu-system-aarch64", setup.qemu);
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
        arg(a, "%s", fixed[i]);
    arg(a, "-m");
    arg(a, "%lluM", (unsigned long long)(s->mem >> 20));
    arg(a, "-smp");
    arg(a, "%u", s->vcpus);
    arg(a, "-kernel");
    arg(a, "%s", setup.kernel);
    arg(a, "-initrd");
    arg(a, "%s", s->initrd ? s->initrd : setup.initrd);
    arg(a, "-append");
    arg(a, "console=ttyAMA0 quiet norandmaps %s", s->cmdline);
    if (s->disk) {
        arg(a, "-drive");
        arg(a, "if=none,id=d,format=raw,aio=io_uring,file.locking=off,file=%s", disk_path());
        arg(a, "-device");
        arg(a, "virtio-blk-device,drive=d");
    }
    if (s->net) {
        arg(a, "-netdev");
        arg(a, "tap,id=n,fd=%d", FD_TAP);
        arg(a, "-device");
        arg(a, "virtio-net-device,netdev=n,mac=02:00:00:00:00:01");
    }
    if (incoming) {
        arg(a, "-incoming");
        arg(a, "defer");
    }
}

static void child(struct args *a, int qmp, int console, int tap)
{
    int null = open("/dev/null", O_RDWR);
    int q = fcntl(qmp, F_DUPFD, 16), t = tap < 0 ? -1 : fcntl(tap, F_DUPFD, 16);
    dup2(null, 0);
    dup2(console, 1);
    dup2(q, FD_QMP);
    if (t >= 0)
        dup2(t, FD_TAP);
    for (int fd = FD_TAP + (t >= 0); fd < 64; fd++)
        close(fd);
    execve(a->v[0], (char *const *)(uintptr_t)a->v, (char *const[]){NULL});
    _exit(127);
}

static bool spawn(struct inst *in, const struct spec *s, bool incoming)
{
    struct args a = {.n = 0};
    int pair[2], console;
    in->pid = -1;
    in->ctl = in->console = in->tap = in->pidfd = -1;
    in->buf_len = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    in->ctl = pair[0];
    if (!console_open(in, &console))
        return false;
    in->tap = s->net ? tap_make(s) : -1;
    build_args(&a, s, incoming);
    in->pid = fork();
    if (in->pid == 0)
        child(&a, pair[1], console, in->tap);
    close(pair[1]);
    close(console);
    char *line = next_line(in);
    if (in->pid < 0 || !line || !strstr(line, "\"QMP\"")) {
        complain("qemu does not start");
        return false;
    }
    return true;
}

static const char capabilities[] =
    "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
    "{\"capability\":\"mapped-ram\",\"state\":true},"
    "{\"capability\":\"events\",\"state\":true}]}}\n";

static bool ready(struct inst *in)
{
    return command(in, "{\"execute\":\"qmp_capabilities\"}\n") && command(in, capabilities);
}

static bool embryo(struct inst *in, const struct spec *s)
{
    return spawn(in, s, true) && ready(in);
}

static bool boot(struct inst *in, const struct spec *s, uint64_t *ready_ns)
{
    bool ok = spawn(in, s, false);
    *ready_ns = now_ns();
    return ok && ready(in);
}

/* Waits for the end of a migration, in either direction. */
static bool finished(struct inst *in)
{
    char *line;
    do {
        line = next_line(in);
        if (!line || strstr(line, "\"failed\"") || strstr(line, "\"error\"")) {
            complain("qemu: %s", line ? line : "ended");
            return false;
        }
    } while (!strstr(line, "\"completed\""));
    return true;
}

static bool restore(struct inst *in, const struct spec *s, const char *image,
                    const char *session)
{
    char text[512];
    (void)s;
    (void)session;
    snprintf(text, sizeof text,
             "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"file:%s\"}}\n", image);
    /* It was saved as a paused machine and comes back as one. */
    return command(in, text) && finished(in) && command(in, "{\"execute\":\"cont\"}\n");
}

static bool save(struct inst *in, const char *path, bool full, struct saved *ret)
{
    char text[512];
    struct stat st;
    uint64_t begin = now_ns();
    (void)full;
    snprintf(text, sizeof text,
             "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:%s\"}}\n", path);
    unlink(path);
    if (!command(in, "{\"execute\":\"stop\"}\n") ||
        fd_write_full(in->ctl, text, strlen(text)) < 0)
        return false;
    if (!finished(in) || stat(path, &st) < 0)
        return false;
    if (ret)
        *ret = (struct saved){.bytes = (uint64_t)st.st_size,
                              .allocated = (uint64_t)st.st_blocks * 512,
                              .pause_ns = now_ns() - begin};
    return true;
}

static bool stop(struct inst *in)
{
    kill(in->pid, SIGKILL);
    reap(in);
    return true;
}

const struct target target_qemu = {.name = "qemu",
                                   .embryo = embryo,
                                   .boot = boot,
                                   .restore = restore,
                                   .save = save,
                                   .stop = stop};
