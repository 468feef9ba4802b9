// SPDX-License-Identifier: Apache-2.0
/* A dormouse-vmm under test; see hostile_vmm.h. */
#include "hostile_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"

#define FIRST_UID 30000u

struct hostile_env env;
static char last_log[LOG_MAX + 1];

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void run_vmm(int sock, int log, const char *option)
{
    static unsigned uid = FIRST_UID;
    char vcpus[16], user[16];
    char *argv[] = {(char *)(uintptr_t) "dormouse-vmm",
                    (char *)(uintptr_t) "--vcpus",
                    vcpus,
                    (char *)(uintptr_t) "--uid",
                    user,
                    (char *)(uintptr_t)option,
                    (char *)(uintptr_t)(option ? env.option : NULL),
                    NULL};
    if (!option)
        argv[5] = (char *)(uintptr_t)env.option;
    snprintf(vcpus, sizeof vcpus, "%u", HOSTILE_VCPUS);
    snprintf(user, sizeof user, "%u", uid + (unsigned)getpid() % 1000);
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    sock = fcntl(sock, F_DUPFD_CLOEXEC, 10);
    kvm = fcntl(kvm, F_DUPFD_CLOEXEC, 10);
    dup2(log, STDERR_FILENO);
    if (dup2(sock, 3) < 0 || dup2(kvm, 4) < 0)
        _exit(126);
    execv(env.vmm, argv);
    _exit(127);
}

bool hvmm_start(struct hvmm *v, const char *option)
{
    int pair[2];
    memset(v, 0, sizeof *v);
    v->sock = v->console = v->stream = -1;
    v->log = memfd_create("log", MFD_CLOEXEC);
    if (v->log < 0 || msg_pair(pair, NULL) < 0)
        return false;
    fcntl(v->log, F_SETFL, O_APPEND);
    fflush(stdout);
    struct clone_args a;
    memset(&a, 0, sizeof a);
    a.flags = CLONE_NEWPID;
    a.exit_signal = SIGCHLD;
    v->pid = (pid_t)syscall(SYS_clone3, &a, sizeof a);
    if (v->pid == 0)
        run_vmm(pair[1], v->log, option);
    close(pair[1]);
    v->sock = pair[0];
    if (v->pid < 0)
        return false;
    struct pollfd p = {.fd = v->sock, .events = POLLIN};
    bool ok = poll(&p, 1, WAIT_MS) == 1 && msg_recv(v->sock, &v->msg, NULL) == 0 &&
              v->msg.type == CTL_READY;
    if (!ok) {
        printf("# the VMM does not start\n");
        hvmm_kill(v);
        hvmm_show_log(v);
    }
    return ok;
}

static int open_tap(void)
{
    struct ifreq r;
    memset(&r, 0, sizeof r);
    snprintf(r.ifr_name, sizeof r.ifr_name, "hostile%%d");
    r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, (int)TUNSETIFF, &r) < 0)
        perror("# tap");
    r.ifr_flags = IFF_UP;
    if (s < 0 || ioctl(s, SIOCSIFFLAGS, &r) < 0)
        perror("# tap up");
    close(s);
    return fd;
}

static struct ctl_machine machine(const char *verb)
{
    struct ctl_machine m;
    memset(&m, 0, sizeof m);
    m.version = CTL_VERSION;
    m.vcpus = HOSTILE_VCPUS;
    m.mem_bytes = HOSTILE_MEM;
    m.has_net = m.has_vsock = m.has_rng = m.has_balloon = m.ndisks = 1;
    m.disks[0].nlayers = 1;
    snprintf(m.disks[0].serial, sizeof m.disks[0].serial, "hostile");
    memcpy(m.mac, "\x02\x00\x00\x00\x00\x07", 6);
    if (getrandom(m.vmgenid, sizeof m.vmgenid, 0) < 0)
        abort();
    snprintf(m.cmdline, sizeof m.cmdline, "verb=%s", verb);
    return m;
}

static int order_fds(struct hvmm *v, uint32_t type, const void *body, size_t len,
                     const int *fds, size_t n);

/* The console: a pipe, or a file that nobody reads. */
static int make_console(struct hvmm *v, bool to_file)
{
    int p[2];
    v->console_is_file = to_file;
    if (to_file) {
        v->console = memfd_create("console", MFD_CLOEXEC);
        fcntl(v->console, F_SETFL, O_APPEND);
        return fcntl(v->console, F_DUPFD_CLOEXEC, 3);
    }
    if (pipe2(p, O_CLOEXEC) < 0)
        return -1;
    v->console = p[0];
    return p[1];
}

bool hvmm_boot(struct hvmm *v, const char *verb, bool console_to_file)
{
    struct ctl_machine m = machine(verb);
    int fds[5] = {open(env.kernel, O_RDONLY | O_CLOEXEC),
                  open("/dev/null", O_RDONLY | O_CLOEXEC), make_console(v, console_to_file),
                  open_tap(), open(env.disk, O_RDWR | O_CLOEXEC)};
    int r = order_fds(v, CTL_BOOT, &m, sizeof m, fds, 5);
    for (unsigned i = 0; i < 5; i++)
        close(fds[i]);
    return r == 0;
}

bool hvmm_restore(struct hvmm *v)
{
    struct ctl_machine m = machine("");
    m.nmem_layers = 1;
    int fds[4] = {make_console(v, false), open(env.image, O_RDONLY | O_CLOEXEC), open_tap(),
                  open(env.disk, O_RDWR | O_CLOEXEC)};
    int r = order_fds(v, CTL_RESTORE, &m, sizeof m, fds, 4);
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
    return r == 0;
}

/* Takes what the console has; false at its end. */
static bool read_console(struct hvmm *v)
{
    char buf[2048];
    ssize_t n = read(v->console, buf, sizeof buf);
    if (n <= 0)
        return false;
    size_t keep = sizeof v->text - 1 - (size_t)n;
    if (v->len > keep) {
        memmove(v->text, v->text + (v->len - keep), keep);
        v->len = keep;
    }
    for (ssize_t i = 0; i < n; i++)
        v->text[v->len++] = buf[i] ? buf[i] : ' ';
    v->text[v->len] = '\0';
    return true;
}

/* One message or some console text, whichever comes first. 1: a message, 0: text,
 * -ETIMEDOUT, -ECONNRESET. */
static int next(struct hvmm *v, int64_t until, bool messages)
{
    int64_t left = until - now_ms();
    bool text = v->console >= 0 && !v->console_is_file;
    struct pollfd p[2] = {{.fd = messages ? v->sock : -1, .events = POLLIN},
                          {.fd = text ? v->console : -1, .events = POLLIN}};
    if (left < 0 || poll(p, 2, (int)left) <= 0)
        return -ETIMEDOUT;
    if (p[1].revents && !read_console(v)) {
        close(v->console);
        v->console = -1;
    }
    if (!p[0].revents)
        return 0;
    if (msg_recv(v->sock, &v->msg, NULL) < 0)
        return -ECONNRESET;
    const struct ctl_exit *x = msg_body(&v->msg, sizeof *x);
    if (v->msg.type == CTL_EXITED && x) {
        v->exit = *x;
        v->exited = true;
    }
    if (v->msg.type == CTL_VSOCK && v->streams++ == 0)
        v->stream = msg_take_fd(&v->msg, 0);
    msg_close_fds(&v->msg); /* streams nobody wants */
    return 1;
}

static int order_fds(struct hvmm *v, uint32_t type, const void *body, size_t len,
                     const int *fds, size_t n)
{
    uint32_t id = ++v->id;
    int64_t until = now_ms() + WAIT_MS;
    if (msg_send(v->sock, type, id, body, len, fds, n, NULL) < 0)
        return ECONNRESET;
    for (;;) {
        int r = next(v, until, true);
        const struct ctl_fail *f;
        if (r < 0)
            return -r;
        if (r == 0 || v->msg.id != id)
            continue;
        if (v->msg.type == CTL_DONE)
            return 0;
        if (v->msg.type == CTL_FAIL && (f = msg_body(&v->msg, sizeof *f))) {
            printf("# refused: %s%s%s\n", f->msg, f->hint[0] ? "; " : "", f->hint);
            return f->num;
        }
        return EPROTO;
    }
}

int hvmm_order(struct hvmm *v, uint32_t type, const void *body, size_t len, int fd)
{
    return order_fds(v, type, body, len, &fd, fd >= 0);
}

bool hvmm_shows(struct hvmm *v, const char *what)
{
    int64_t until = now_ms() + WAIT_MS;
    while (!strstr(v->text, what)) {
        if (v->console < 0 || next(v, until, false) < 0)
            return false;
    }
    return true;
}

bool hvmm_exited(struct hvmm *v, int ms)
{
    int64_t until = now_ms() + ms;
    while (!v->exited) {
        if (next(v, until, true) < 0)
            break;
    }
    return v->exited;
}

void hvmm_kill(struct hvmm *v)
{
    if (v->pid > 0)
        kill(v->pid, SIGKILL);
    hvmm_end(v);
}

uint32_t hvmm_end(struct hvmm *v)
{
    int64_t until = now_ms() + WAIT_MS;
    int r;
    while ((r = next(v, until, true)) >= 0)
        continue;
    if (r == -ETIMEDOUT) {
        printf("# the VMM does not end\n");
        kill(v->pid, SIGKILL);
    }
    close(v->sock);
    if (v->pid > 0)
        waitpid(v->pid, &v->status, 0);
    while (v->console >= 0 && !v->console_is_file && read_console(v))
        continue;
    ssize_t n = pread(v->log, last_log, LOG_MAX, 0);
    last_log[n > 0 ? n : 0] = '\0';
    char buf[256];
    while (v->stream >= 0 && (n = recv(v->stream, buf, sizeof buf, MSG_DONTWAIT)) > 0)
        v->stream_bytes += (size_t)n;
    if (v->stream >= 0)
        close(v->stream);
    if (v->console >= 0)
        close(v->console);
    close(v->log);
    bool clean = WIFEXITED(v->status) && WEXITSTATUS(v->status) == 0;
    return v->exited && clean ? v->exit.reason : 0;
}

const char *hvmm_log(const struct hvmm *v)
{
    (void)v;
    return last_log;
}

void hvmm_show_log(const struct hvmm *v)
{
    size_t len = strlen(last_log), from = len > 3000 ? len - 3000 : 0;
    printf("# status %x; its log:\n", (unsigned)v->status);
    for (char *line = strtok(last_log + from, "\n"); line; line = strtok(NULL, "\n"))
        printf("#   %s\n", line);
}
