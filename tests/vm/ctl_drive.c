// SPDX-License-Identifier: Apache-2.0
/*
 * Drives dormouse-vmm through its control socket as the daemon does: embryo,
 * boot, pause, save, restore, clones, sessions, refusals, ends. Runs on an
 * arm64 host with KVM (the emulated one in `make check-vm`).
 *     ctl_drive VMM KERNEL INITRD [DIR]
 * INITRD: tests/guests/ticker.c as /init.
 * With BENCH=N in the environment it restores N times from embryos and prints
 * the time from the order to its answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/msg.h"
#include "../../hypervisor/ctl.h"
#include "../tap.h"

#define MEM        (128ull << 20)
#define ANSWER_MS  120000
#define CMDLINE    "console=ttyAMA0 quiet ticks=100000"
#define SHORT_LIFE "console=ttyAMA0 quiet ticks=3"
#define PORT_UP    1024u
#define PORT_ECHO  5000u

static struct {
    const char *vmm, *kernel, *initrd;
    char image[256], session[256], other[256], disk[256];
} arg;

struct vmm {
    pid_t pid;
    int sock;
    int console; /* our end of the pipe the console goes to */
    uint32_t id;
    struct msg msg;
    struct ctl_fail fail;
    struct ctl_exit exit;
    bool exited;
    int up;           /* stream from the guest to host port 1024, or -1 */
    bool all;         /* with all devices */
    char text[65536]; /* what the console printed */
    size_t len;
};

static int child_fd(int fd, int want)
{
    return fd == want ? fcntl(fd, F_SETFD, 0) : dup2(fd, want);
}

static bool spawn(struct vmm *v, unsigned vcpus)
{
    int pair[2], kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    char n[16];
    snprintf(n, sizeof n, "%u", vcpus);
    memset(v, 0, sizeof *v);
    v->console = v->up = -1;
    if (kvm < 0 || msg_pair(pair, NULL) < 0)
        return false;
    v->pid = fork();
    if (v->pid == 0) {
        int sock = fcntl(pair[1], F_DUPFD, 10), dev = fcntl(kvm, F_DUPFD, 10);
        child_fd(sock, 3);
        child_fd(dev, 4);
        execl(arg.vmm, "dormouse-vmm", "--vcpus", n, (char *)NULL);
        _exit(127);
    }
    close(kvm);
    close(pair[1]);
    v->sock = pair[0];
    return v->pid > 0;
}

static bool receive(struct vmm *v)
{
    struct pollfd p = {.fd = v->sock, .events = POLLIN};
    if (poll(&p, 1, ANSWER_MS) != 1)
        return false;
    return msg_recv(v->sock, &v->msg, NULL) == 0;
}

static bool ready(struct vmm *v)
{
    const struct ctl_ready *r;
    return receive(v) && v->msg.type == CTL_READY && (r = msg_body(&v->msg, sizeof *r)) &&
           r->version == CTL_VERSION;
}

static void note_stream(struct vmm *v)
{
    const struct ctl_vsock *c = msg_body(&v->msg, sizeof *c);
    if (v->msg.type != CTL_VSOCK || !c || c->port != PORT_UP)
        return;
    if (v->up >= 0)
        close(v->up);
    v->up = msg_take_fd(&v->msg, 0);
}

/* Sends an order and waits for its answer: 0, or the errno of CTL_FAIL. */
static int order_fds(struct vmm *v, uint32_t type, const void *body, size_t len, const int *fds,
                     size_t nfds)
{
    uint32_t id = ++v->id;
    if (msg_send(v->sock, type, id, body, len, fds, nfds, NULL) < 0)
        return EPIPE;
    while (receive(v)) {
        const struct ctl_fail *f;
        const struct ctl_exit *x;
        note_stream(v);
        if (v->msg.type == CTL_EXITED && (x = msg_body(&v->msg, sizeof *x))) {
            v->exit = *x;
            v->exited = true;
        }
        if (v->msg.id != id)
            continue;
        if (v->msg.type == CTL_DONE)
            return 0;
        if (v->msg.type == CTL_FAIL && (f = msg_body(&v->msg, sizeof *f))) {
            v->fail = *f;
            printf("# refused: %s%s%s\n", f->msg, f->hint[0] ? "; " : "", f->hint);
            return f->num;
        }
        return EPROTO;
    }
    return ECONNRESET;
}

static int order(struct vmm *v, uint32_t type)
{
    return order_fds(v, type, NULL, 0, NULL, 0);
}

/* Waits for the CTL_EXITED message and the process's end. */
static uint32_t ended(struct vmm *v)
{
    int status = 0;
    while (!v->exited && receive(v)) {
        note_stream(v);
        const struct ctl_exit *x = msg_body(&v->msg, sizeof *x);
        if (v->msg.type == CTL_EXITED && x) {
            v->exit = *x;
            v->exited = true;
        }
    }
    close(v->sock);
    if (v->console >= 0)
        close(v->console);
    if (v->up >= 0)
        close(v->up);
    waitpid(v->pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        printf("# the VMM ended with status %x\n", (unsigned)status);
    return v->exited && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? v->exit.reason : 0;
}

static bool stop(struct vmm *v)
{
    return order(v, CTL_STOP) == 0 && ended(v) == CTL_EXIT_STOPPED;
}

/* Reads the console until it has printed `what` once more. */
static bool console_shows(struct vmm *v, const char *what)
{
    size_t from = v->len;
    while (v->len < sizeof v->text - 1) {
        struct pollfd p = {.fd = v->console, .events = POLLIN};
        if (poll(&p, 1, ANSWER_MS) != 1)
            return false;
        ssize_t n = read(v->console, v->text + v->len, sizeof v->text - 1 - v->len);
        if (n <= 0)
            return false;
        v->len += (size_t)n;
        v->text[v->len] = '\0';
        if (strstr(v->text + from, what))
            return true;
    }
    v->len = 0; /* wrap: only recent lines matter */
    return console_shows(v, what);
}

static struct ctl_machine machine(unsigned vcpus, const char *cmdline)
{
    struct ctl_machine m;
    memset(&m, 0, sizeof m);
    m.version = CTL_VERSION;
    m.vcpus = vcpus;
    m.mem_bytes = MEM;
    if (getrandom(m.vmgenid, sizeof m.vmgenid, 0) < 0)
        abort();
    snprintf(m.cmdline, sizeof m.cmdline, "%s", cmdline);
    return m;
}

static int open_at(const char *path, int flags)
{
    return open(path, flags | O_CLOEXEC, 0644);
}

/* A tap of our own, which goes with its descriptor; -1 when the host has none to give. */
static int open_tap(void)
{
    struct ifreq ifr;
    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int fd = open_at("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd >= 0 && ioctl(fd, (int)TUNSETIFF, &ifr) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void add_devices(struct ctl_machine *m, int *fds, size_t *nfds)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    int tap = open_tap();
    m->has_net = tap >= 0;
    memcpy(m->mac, mac, sizeof mac);
    if (tap >= 0)
        fds[(*nfds)++] = tap;
    m->ndisks = 1;
    m->disks[0].nlayers = 1;
    snprintf(m->disks[0].serial, sizeof m->disks[0].serial, "drive");
    m->has_vsock = m->has_rng = m->has_balloon = 1;
    fds[(*nfds)++] = open_at(arg.disk, O_RDWR);
}

static int boot(struct vmm *v, struct ctl_machine *m)
{
    int console[2];
    if (pipe2(console, O_CLOEXEC) < 0)
        return errno;
    int fds[6] = {open_at(arg.kernel, O_RDONLY), open_at(arg.initrd, O_RDONLY), console[1]};
    size_t n = 3;
    if (v->all)
        add_devices(m, fds, &n);
    v->console = console[0];
    int r = order_fds(v, CTL_BOOT, m, sizeof *m, fds, n);
    while (n > 0)
        close(fds[--n]);
    return r;
}

static int restore(struct vmm *v, struct ctl_machine *m, const char *image, const char *session)
{
    int console[2];
    if (pipe2(console, O_CLOEXEC) < 0)
        return errno;
    int fds[6] = {console[1], open_at(image, O_RDONLY)};
    size_t n = 2;
    if (session)
        fds[n++] = open_at(session, O_RDONLY);
    m->nmem_layers = session ? 2 : 1;
    if (v->all)
        add_devices(m, fds, &n);
    v->console = console[0];
    int r = order_fds(v, CTL_RESTORE, m, sizeof *m, fds, n);
    while (n > 0)
        close(fds[--n]);
    return r;
}

static int save(struct vmm *v, const char *path, uint32_t flags, struct ctl_saved *ret)
{
    struct ctl_save s = {.flags = flags};
    unlink(path); /* the machine may be one that this file's pages are mapped in */
    int fd = open_at(path, O_RDWR | O_CREAT | O_TRUNC);
    int r = order_fds(v, CTL_SAVE, &s, sizeof s, &fd, 1);
    const struct ctl_saved *saved = msg_body(&v->msg, sizeof *saved);
    close(fd);
    if (r == 0 && saved && ret)
        *ret = *saved;
    return r == 0 && !saved ? EPROTO : r;
}

static bool embryo(struct vmm *v, unsigned vcpus)
{
    return CHECK(spawn(v, vcpus)) && CHECK(ready(v));
}

TEST(embryo_ends_with_its_socket)
{
    static struct vmm v;
    int status;
    if (!embryo(&v, 1))
        return;
    close(v.sock);
    CHECK(waitpid(v.pid, &status, 0) == v.pid && WIFEXITED(status));
}

TEST(orders_before_a_machine)
{
    static struct vmm v;
    if (!embryo(&v, 1))
        return;
    CHECK(order(&v, CTL_PAUSE) == EBUSY);
    CHECK(order(&v, CTL_RESUME) == EBUSY);
    CHECK(order(&v, 999) == ENOTSUP);
    CHECK(order(&v, CTL_BOOT) == EBADMSG);
    CHECK(ended(&v) == CTL_EXIT_ERROR);
}

TEST(guest_powers_off)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, SHORT_LIFE);
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == 0);
    CHECK(ended(&v) == CTL_EXIT_POWEROFF);
    CHECK(strstr(v.exit.console, "done") != NULL);
}

TEST(boot_is_refused)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, SHORT_LIFE);
    const char *kernel = arg.kernel;
    if (!embryo(&v, 1))
        return;
    arg.kernel = arg.initrd;
    CHECK(boot(&v, &m) == ENOEXEC);
    arg.kernel = kernel;
    CHECK(ended(&v) == CTL_EXIT_ERROR);
    m.mem_bytes = 64ull << 20;
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == EINVAL);
    CHECK(ended(&v) == CTL_EXIT_ERROR);
}

TEST(pause_save_and_go_on)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, CMDLINE);
    struct ctl_saved saved;
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == 0);
    CHECK(console_shows(&v, "tick 3 "));
    CHECK(order(&v, CTL_STATS) == 0);
    CHECK(order(&v, CTL_RESUME) == EBUSY);
    CHECK(save(&v, arg.other, CTL_SAVE_FULL, NULL) == EBUSY);
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(order(&v, CTL_PAUSE) == EBUSY);
    CHECK(save(&v, arg.other, 0, NULL) == EINVAL); /* nothing to differ from */
    CHECK(save(&v, arg.image, CTL_SAVE_FULL, &saved) == 0);
    CHECK(saved.pages_stored > 500);
    printf("# image: %llu pages stored, %llu us paused\n",
           (unsigned long long)saved.pages_stored, (unsigned long long)saved.pause_ns / 1000);
    CHECK(order(&v, CTL_RESUME) == 0);
    CHECK(console_shows(&v, "tick"));
    CHECK(stop(&v));
}

/* The value after `key` in the first line that begins after the restore. */
static bool field(const struct vmm *v, const char *key, char *ret, size_t size)
{
    const char *line = strstr(v->text, "\ntick");
    const char *p = line ? strstr(line, key) : NULL;
    if (!p)
        return false;
    p += strlen(key);
    size_t n = strcspn(p, " \n");
    if (n == 0 || n >= size)
        return false;
    memcpy(ret, p, n);
    ret[n] = '\0';
    return true;
}

TEST(console_without_a_reader)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, SHORT_LIFE);
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == 0);
    close(v.console);
    v.console = -1;
    CHECK(ended(&v) == CTL_EXIT_POWEROFF);
    CHECK(strstr(v.exit.console, "done") != NULL);
}

TEST(clones_differ)
{
    static struct vmm v[2];
    char uuid[2][64] = {"", ""}, mono[64];
    for (int i = 0; i < 2; i++) {
        struct ctl_machine m = machine(1, "");
        if (!embryo(&v[i], 1))
            return;
        CHECK(restore(&v[i], &m, arg.image, NULL) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(console_shows(&v[i], " sum ok"));
        CHECK(console_shows(&v[i], " sum ok"));
        CHECK(field(&v[i], "uuid ", uuid[i], sizeof uuid[i]));
        CHECK(!strstr(v[i].text, "BROKEN"));
    }
    printf("# uuids %s %s\n", uuid[0], uuid[1]);
    CHECK(strcmp(uuid[0], uuid[1]) != 0);
    CHECK(field(&v[0], "mono ", mono, sizeof mono));
    CHECK(stop(&v[0]));
    CHECK(stop(&v[1]));
}

TEST(session_and_session_again)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, "");
    struct ctl_saved first, second;
    if (!embryo(&v, 1))
        return;
    CHECK(restore(&v, &m, arg.image, NULL) == 0);
    CHECK(console_shows(&v, " sum ok"));
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.session, 0, &first) == 0);
    CHECK(stop(&v));
    printf("# session: %llu bytes, %llu us paused\n", (unsigned long long)first.file_bytes,
           (unsigned long long)first.pause_ns / 1000);
    CHECK(first.file_bytes < MEM / 16);
    if (!embryo(&v, 1))
        return;
    CHECK(restore(&v, &m, arg.image, arg.session) == 0);
    CHECK(console_shows(&v, " sum ok"));
    CHECK(console_shows(&v, " sum ok"));
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.other, 0, &second) == 0);
    CHECK(second.pages_stored >= first.pages_stored / 2);
    CHECK(order(&v, CTL_RESUME) == 0);
    CHECK(console_shows(&v, " sum ok"));
    CHECK(stop(&v));
    if (!embryo(&v, 1))
        return;
    CHECK(restore(&v, &m, arg.image, arg.other) == 0);
    CHECK(console_shows(&v, " sum ok"));
    CHECK(stop(&v));
}

static void refused(const char *image, const char *session, unsigned vcpus, int want)
{
    static struct vmm v;
    struct ctl_machine m = machine(vcpus, "");
    if (!embryo(&v, vcpus))
        return;
    int r = restore(&v, &m, image, session);
    CHECK(want ? r == want : r != 0);
    CHECK(ended(&v) == CTL_EXIT_ERROR);
}

/* A sparse copy with one byte changed, or cut to `len`. */
static bool damaged_copy(const char *from, const char *to, off_t at, off_t len)
{
    struct stat st;
    static uint8_t buf[65536];
    int in = open_at(from, O_RDONLY), out = open_at(to, O_RDWR | O_CREAT | O_TRUNC);
    bool ok = in >= 0 && out >= 0 && fstat(in, &st) == 0;
    off_t end = len ? len : st.st_size;
    for (off_t pos = 0; ok && (pos = lseek(in, pos, SEEK_DATA)) >= 0 && pos < end;) {
        ssize_t n = pread(in, buf, sizeof buf, pos);
        ok = n > 0 && fd_pwrite_full(out, buf, (size_t)n, (uint64_t)pos) == 0;
        pos += n;
    }
    ok = ok && ftruncate(out, end) == 0;
    if (ok && at) {
        ok = fd_pread_full(out, buf, 1, (uint64_t)at) == 0;
        buf[0] ^= 0x10;
        ok = ok && fd_pwrite_full(out, buf, 1, (uint64_t)at) == 0;
    }
    close(in);
    close(out);
    return ok;
}

/* How often the guest's busy threads have passed their tokens around, as it last said. */
static unsigned long laps(const struct vmm *v)
{
    unsigned long last = 0;
    for (const char *p = v->text; (p = strstr(p, " laps ")); p++)
        last = strtoul(p + 6, NULL, 10);
    return last;
}

static bool goes_round(struct vmm *v, unsigned long than)
{
    for (int i = 0; i < 200 && laps(v) <= than; i++) {
        if (!console_shows(v, " sum ok"))
            return false;
    }
    return laps(v) > than && !strstr(v->text, "BROKEN");
}

/* All CPUs compute and interrupt each other when the machine is saved, and do so again. */
TEST(many_busy_vcpus)
{
    static struct vmm v;
    unsigned n = 16;
    if (!spawn(&v, n) || !ready(&v)) { /* a GICv2 host */
        ended(&v);
        n = 8;
        if (!embryo(&v, n))
            return;
    }
    struct ctl_machine m = machine(n, "console=ttyAMA0 quiet ticks=100000 busy");
    char cpus[32];
    snprintf(cpus, sizeof cpus, "ready cpus %u", n);
    CHECK(boot(&v, &m) == 0);
    CHECK(console_shows(&v, cpus));
    CHECK(goes_round(&v, 2));
    printf("# %u vCPUs, lap %lu\n", n, laps(&v));
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.other, CTL_SAVE_FULL, NULL) == 0);
    unsigned long before = laps(&v);
    CHECK(stop(&v));
    for (int i = 0; i < 3; i++) {
        const char *session = i == 2 ? arg.session : NULL;
        if (!embryo(&v, n))
            return;
        if (i == 1)
            usleep(20000); /* like one of the pool's */
        CHECK(restore(&v, &m, arg.other, session) == 0);
        CHECK(console_shows(&v, " sum ok"));
        CHECK(goes_round(&v, before + 2));
        printf("# restored, lap %lu\n", laps(&v));
        CHECK(order(&v, CTL_PAUSE) == 0);
        CHECK(save(&v, arg.session, 0, NULL) == 0);
        if (i == 1)
            before = laps(&v);
        CHECK(stop(&v));
    }
}

TEST(damaged_snapshots_are_refused)
{
    struct stat st = {0};
    stat(arg.image, &st);
    CHECK(damaged_copy(arg.image, arg.other, 60, 0)); /* header */
    refused(arg.other, NULL, 1, EBADMSG);
    CHECK(damaged_copy(arg.image, arg.other, 4096 + 100, 0)); /* device state */
    refused(arg.other, NULL, 1, EBADMSG);
    CHECK(damaged_copy(arg.image, arg.other, 0, st.st_size - 1));
    refused(arg.other, NULL, 1, EBADMSG);
    CHECK(damaged_copy(arg.image, arg.other, 0, 100));
    refused(arg.other, NULL, 1, EBADMSG);
    CHECK(damaged_copy(arg.image, arg.other, 8, 0)); /* version */
    refused(arg.other, NULL, 1, ENOTSUP);
    refused(arg.kernel, NULL, 1, EBADMSG);
}

#include "ctl_layers.h"

/* An image's index is needed, and checked, to save a difference to it. */
TEST(damaged_index_is_found_when_saving)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, "");
    struct stat st = {0};
    stat(arg.image, &st);
    CHECK(damaged_copy(arg.image, arg.other, st.st_size - 3, 0));
    if (!embryo(&v, 1))
        return;
    CHECK(restore(&v, &m, arg.other, NULL) == 0);
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.session, 0, NULL) == EBADMSG);
    CHECK(order(&v, CTL_RESUME) == 0);
    CHECK(stop(&v));
}

TEST(wrong_layers_are_refused)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, CMDLINE);
    refused(arg.session, NULL, 1, EINVAL);
    refused(arg.image, arg.image, 1, EINVAL);
    refused(arg.image, NULL, 2, EINVAL);
    /* Another image: the session belongs to the first. */
    if (!embryo(&v, 1))
        return;
    CHECK(boot(&v, &m) == 0);
    CHECK(console_shows(&v, "ready"));
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.other, CTL_SAVE_FULL, NULL) == 0);
    CHECK(stop(&v));
    refused(arg.other, arg.session, 1, EINVAL);
}

TEST(starts_paused)
{
    static struct vmm v;
    struct ctl_machine m = machine(1, "");
    if (!embryo(&v, 1))
        return;
    m.start_paused = 1;
    CHECK(restore(&v, &m, arg.image, NULL) == 0);
    CHECK(order(&v, CTL_PAUSE) == EBUSY);
    CHECK(order(&v, CTL_RESUME) == 0);
    CHECK(console_shows(&v, " sum ok"));
    CHECK(stop(&v));
}

/* Reads the stream until it has brought `what`. */
static bool stream_shows(int fd, const char *what)
{
    char text[8192];
    size_t len = 0;
    while (len < sizeof text - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, ANSWER_MS) != 1)
            return false;
        ssize_t n = read(fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, what))
            return true;
    }
    return false;
}

static bool echoes(struct vmm *v, size_t total)
{
    static uint8_t out[65536], in[65536];
    struct ctl_vsock c = {.port = PORT_ECHO};
    int pair[2];
    if (total > sizeof out || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    for (size_t i = 0; i < total; i++)
        out[i] = (uint8_t)(i * 7 + i / 251);
    bool ok = order_fds(v, CTL_VSOCK_OPEN, &c, sizeof c, &pair[1], 1) == 0;
    close(pair[1]);
    ok = ok && fd_write_full(pair[0], out, total) == 0 &&
         fd_read_full(pair[0], in, total) == 0 && memcmp(in, out, total) == 0;
    close(pair[0]);
    return ok;
}

TEST(all_devices_over_snapshots)
{
    static struct vmm v;
    struct ctl_machine m = machine(2, CMDLINE);
    struct ctl_balloon balloon = {.target_bytes = 16u << 20};
    int fd = open_at(arg.disk, O_RDWR | O_CREAT | O_TRUNC);
    CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    close(fd);
    if (!embryo(&v, 2))
        return;
    v.all = true;
    CHECK(boot(&v, &m) == 0);
    CHECK(console_shows(&v, "disk ok rng ok sum ok"));
    CHECK(order(&v, CTL_STATS) == 0); /* also takes in the guest's connection */
    CHECK(v.up >= 0 && stream_shows(v.up, "sum ok"));
    CHECK(echoes(&v, 10));
    CHECK(echoes(&v, 65536));
    CHECK(order_fds(&v, CTL_BALLOON, &balloon, sizeof balloon, NULL, 0) == 0);
    CHECK(console_shows(&v, "disk ok rng ok sum ok"));
    CHECK(order(&v, CTL_PAUSE) == 0);
    CHECK(save(&v, arg.image, CTL_SAVE_FULL, NULL) == 0);
    CHECK(stop(&v));
    for (int i = 0; i < 3; i++) { /* image, session, session of the session */
        struct ctl_saved saved;
        if (!embryo(&v, 2))
            return;
        v.all = true;
        CHECK(restore(&v, &m, arg.image, i == 0 ? NULL : arg.session) == 0);
        CHECK(v.up >= 0 && stream_shows(v.up, "sum ok"));
        CHECK(console_shows(&v, " sum ok"));
        CHECK(console_shows(&v, "disk ok rng ok sum ok"));
        CHECK(echoes(&v, 65536));
        CHECK(!strstr(v.text, "BROKEN"));
        CHECK(order(&v, CTL_PAUSE) == 0);
        /* The older session may be mapped: it is replaced, never overwritten. */
        CHECK(save(&v, arg.other, 0, &saved) == 0);
        CHECK(rename(arg.other, arg.session) == 0);
        CHECK(stop(&v));
    }
    /* A machine with other devices is not the one that was saved. */
    if (!embryo(&v, 2))
        return;
    struct ctl_machine bare = machine(2, "");
    CHECK(restore(&v, &bare, arg.image, NULL) == EINVAL);
    CHECK(ended(&v) == CTL_EXIT_ERROR);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void bench(unsigned n)
{
    static const char *const phases[] = {"files", "memory", "devices", "vcpus",
                                         "gic",   "load",   "start"};
    static struct vmm v;
    uint64_t *t = calloc(n, sizeof *t), start = UINT64_MAX;
    if (!t)
        return;
    for (unsigned i = 0; i < n; i++) {
        struct ctl_machine m = machine(1, "");
        uint64_t spawned = now_ns();
        if (!embryo(&v, 1))
            return;
        if (now_ns() - spawned < start)
            start = now_ns() - spawned;
        uint64_t begin = now_ns();
        if (!CHECK(restore(&v, &m, arg.image, NULL) == 0))
            return;
        t[i] = now_ns() - begin;
        if (i == n - 1 && order(&v, CTL_STATS) == 0) {
            const struct ctl_stats *s = msg_body(&v.msg, sizeof *s);
            for (unsigned k = 0; s && k < 7; k++)
                printf("# restore phase %s: %llu us\n", phases[k],
                       (unsigned long long)s->restore_ns[k] / 1000);
        }
        CHECK(stop(&v));
    }
    qsort(t, n, sizeof *t, by_value);
    printf("# process start to ready: min %llu us\n", (unsigned long long)start / 1000);
    printf("# restore order to answer: min %llu us, median %llu us, of %u\n",
           (unsigned long long)t[0] / 1000, (unsigned long long)t[n / 2] / 1000, n);
    free(t);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: ctl_drive VMM KERNEL INITRD [DIR]\n");
        return 2;
    }
    const char *dir = argc > 4 ? argv[4] : "/tmp";
    const char *rounds = getenv("BENCH");
    signal(SIGPIPE, SIG_IGN);
    arg.vmm = argv[1];
    arg.kernel = argv[2];
    arg.initrd = argv[3];
    snprintf(arg.image, sizeof arg.image, "%s/drive.image", dir);
    snprintf(arg.session, sizeof arg.session, "%s/drive.session", dir);
    snprintf(arg.other, sizeof arg.other, "%s/drive.other", dir);
    snprintf(arg.disk, sizeof arg.disk, "%s/drive.disk", dir);
    RUN(embryo_ends_with_its_socket);
    RUN(orders_before_a_machine);
    RUN(guest_powers_off);
    RUN(boot_is_refused);
    RUN(console_without_a_reader);
    RUN(pause_save_and_go_on);
    RUN(clones_differ);
    RUN(session_and_session_again);
    RUN(damaged_snapshots_are_refused);
    RUN(image_over_a_layer);
    RUN(prepared_embryos);
    RUN(wrong_layers_are_refused);
    RUN(damaged_index_is_found_when_saving);
    RUN(starts_paused);
    if (rounds)
        bench((unsigned)strtoul(rounds, NULL, 10));
    RUN(all_devices_over_snapshots);
    RUN(many_busy_vcpus);
    unlink(arg.disk);
    unlink(arg.image);
    unlink(arg.session);
    unlink(arg.other);
    return TAP_DONE();
}
