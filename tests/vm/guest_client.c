// SPDX-License-Identifier: Apache-2.0
/* See guest_client.h. */
#include "guest_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"

#define LIMIT_MS 120000
#define MEM      (256ull << 20)
#define CMDLINE                                                                         \
    "console=ttyAMA0 quiet panic=-1 swiotlb=noforce coherent_pool=4K slab_max_order=1 " \
    "fw_devlink=off rcupdate.rcu_expedited=1"

/* ---- the VMM ---- */

static bool spawn(struct guest *g, const struct setup *s)
{
    int pair[2], kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    memset(g, 0, sizeof *g);
    g->ctl = g->log = g->console = -1;
    if (kvm < 0 || msg_pair(pair, NULL) < 0)
        return false;
    g->pid = s->spawn ? s->spawn(pair[1]) : fork();
    if (g->pid == 0) {
        int sock = fcntl(pair[1], F_DUPFD, 10), dev = fcntl(kvm, F_DUPFD, 10);
        dup2(sock, 3);
        dup2(dev, 4);
        close(sock);
        close(dev);
        execl(s->vmm, "dormouse-vmm", "--vcpus", "1", (char *)NULL);
        _exit(127);
    }
    close(kvm);
    close(pair[1]);
    g->sock = pair[0];
    return g->pid > 0;
}

static void take_stream(struct guest *g)
{
    const struct ctl_vsock *c = msg_body(&g->msg, sizeof *c);
    int *to = !c ? NULL : c->port == GP_PORT_CONTROL ? &g->ctl : &g->log;
    if (!to || (c->port != GP_PORT_CONTROL && c->port != GP_PORT_LOG)) {
        msg_close_fds(&g->msg);
        return;
    }
    if (*to >= 0)
        close(*to);
    *to = msg_take_fd(&g->msg, 0);
}

/* One message of the VMM. */
static bool vmm_message(struct guest *g)
{
    if (msg_recv(g->sock, &g->msg, NULL) < 0)
        return false;
    if (g->msg.type == CTL_VSOCK)
        take_stream(g);
    const struct ctl_exit *x = msg_body(&g->msg, sizeof *x);
    if (g->msg.type == CTL_EXITED && x) {
        g->exit = *x;
        g->end = x->reason;
    }
    return true;
}

static bool wait_fd(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, LIMIT_MS) == 1;
}

static int order_fds(struct guest *g, uint32_t type, const void *body, size_t len,
                     const int *fds, size_t n)
{
    uint32_t id = ++g->vmm_id;
    if (msg_send(g->sock, type, id, body, len, fds, n, NULL) < 0)
        return EPIPE;
    while (wait_fd(g->sock) && vmm_message(g)) {
        const struct ctl_fail *f;
        if (g->msg.id != id)
            continue;
        if (g->msg.type == CTL_DONE)
            return 0;
        if (g->msg.type == CTL_FAIL && (f = msg_body(&g->msg, sizeof *f))) {
            printf("# refused: %s\n", f->msg);
            return f->num;
        }
        return EPROTO;
    }
    return ECONNRESET;
}

int guest_order(struct guest *g, uint32_t type, const void *body, size_t len, int fd)
{
    return order_fds(g, type, body, len, &fd, fd >= 0 ? 1 : 0);
}

static bool begin(struct guest *g, const struct setup *s)
{
    if (spawn(g, s) && wait_fd(g->sock) && vmm_message(g) && g->msg.type == CTL_READY)
        return true;
    printf("# dormouse-vmm did not start\n");
    return false;
}

static int set_address(int sock, const char *name, const char *text)
{
    struct ifreq req;
    struct sockaddr_in a = {.sin_family = AF_INET};
    memset(&req, 0, sizeof req);
    snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
    inet_pton(AF_INET, text, &a.sin_addr);
    memcpy(&req.ifr_addr, &a, sizeof a);
    if (ioctl(sock, (int)SIOCSIFADDR, &req) < 0)
        return -1;
    inet_pton(AF_INET, "255.255.255.0", &a.sin_addr);
    memcpy(&req.ifr_netmask, &a, sizeof a);
    return ioctl(sock, (int)SIOCSIFNETMASK, &req);
}

int make_tap(uint8_t mac[6])
{
    struct ifreq req;
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&req, 0, sizeof req);
    snprintf(req.ifr_name, sizeof req.ifr_name, "gt0");
    req.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (tap < 0 || ioctl(tap, (int)TUNSETIFF, &req) < 0 ||
        set_address(sock, "gt0", "10.9.0.254") < 0 ||
        set_address(sock, "gt0:1", "10.9.0.253") < 0)
        return -1;
    req.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(sock, (int)SIOCSIFFLAGS, &req) < 0 || ioctl(sock, (int)SIOCGIFHWADDR, &req) < 0)
        return -1;
    memcpy(mac, req.ifr_hwaddr.sa_data, 6);
    close(sock);
    return tap;
}

static struct ctl_machine machine(const struct setup *s, const struct disk *disks, unsigned n,
                                  int *fds, size_t *nfds)
{
    static const uint8_t mac[6] = {0x02, 0x64, 0x6d, 0, 0, 2};
    struct ctl_machine m;
    memset(&m, 0, sizeof m);
    m.version = CTL_VERSION;
    m.vcpus = 1;
    m.mem_bytes = MEM;
    m.has_vsock = m.has_rng = m.has_balloon = 1;
    memcpy(m.mac, mac, sizeof m.mac);
    m.has_net = s->tap > 0;
    if (s->tap > 0)
        fds[(*nfds)++] = fcntl(s->tap, F_DUPFD_CLOEXEC, 10);
    m.ndisks = n;
    for (unsigned i = 0; i < n; i++) {
        bool ro = disks[i].read_only;
        m.disks[i].nlayers = 1;
        m.disks[i].flags = ro ? CTL_DISK_READONLY : 0;
        snprintf(m.disks[i].serial, sizeof m.disks[i].serial, "%s", disks[i].serial);
        fds[(*nfds)++] = open(disks[i].path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    }
    if (getrandom(m.vmgenid, sizeof m.vmgenid, 0) < 0)
        abort();
    snprintf(m.cmdline, sizeof m.cmdline, CMDLINE);
    return m;
}

/* Waits for both streams of the guest. */
static bool streams(struct guest *g)
{
    while (g->ctl < 0 || g->log < 0) {
        if (!wait_fd(g->sock) || !vmm_message(g) || g->end) {
            printf("# the guest did not connect: %s %s\n", g->exit.text, g->exit.console);
            return false;
        }
    }
    return true;
}

static bool run(struct guest *g, uint32_t type, struct ctl_machine *m, int *fds, size_t n)
{
    int r = order_fds(g, type, m, sizeof *m, fds, n);
    while (n > 0)
        close(fds[--n]);
    return r == 0 && streams(g);
}

static int console_pipe(struct guest *g)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        abort();
    g->console = fds[0];
    return fds[1];
}

bool guest_boot(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n)
{
    int fds[8];
    size_t nfds = 3;
    if (!begin(g, s))
        return false;
    fds[0] = open(s->kernel, O_RDONLY | O_CLOEXEC);
    fds[1] = open(s->initrd, O_RDONLY | O_CLOEXEC);
    fds[2] = console_pipe(g);
    struct ctl_machine m = machine(s, disks, n, fds, &nfds);
    return run(g, CTL_BOOT, &m, fds, nfds);
}

/* As the daemon's pool does it. */
static bool prepare(struct guest *g, const struct setup *s)
{
    const struct ctl_machine m = {.version = CTL_VERSION,
                                  .vcpus = 1,
                                  .mem_bytes = MEM,
                                  .has_layer = s->layer > 0,
                                  .has_workset = 1};
    int fds[3] = {open(s->prepare_image, O_RDONLY | O_CLOEXEC)};
    size_t n = 1;
    if (s->layer > 0)
        fds[n++] = fcntl(s->layer, F_DUPFD_CLOEXEC, 0);
    fds[n++] = open(s->prepare_workset, O_RDONLY | O_CLOEXEC);
    int r = order_fds(g, CTL_PREPARE, &m, sizeof m, fds, n);
    while (n > 0)
        close(fds[--n]);
    return r == 0;
}

bool guest_embryo(struct guest *g, const struct setup *s)
{
    return begin(g, s) && (!s->prepare_image || prepare(g, s));
}

bool guest_restore(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n,
                   const char *image, const char *session)
{
    return begin(g, s) && guest_load(g, s, disks, n, image, session);
}

bool guest_load(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n,
                const char *image, const char *session)
{
    int fds[8];
    size_t nfds = 1;
    fds[0] = console_pipe(g);
    if (!s->prepare_image)
        fds[nfds++] = open(image, O_RDONLY | O_CLOEXEC);
    if (session)
        fds[nfds++] = open(session, O_RDONLY | O_CLOEXEC);
    bool layered = s->layer > 0 && !s->prepare_image;
    if (layered)
        fds[nfds++] = fcntl(s->layer, F_DUPFD_CLOEXEC, 0);
    struct ctl_machine m = machine(s, disks, n, fds, &nfds);
    m.has_layer = layered;
    m.nmem_layers = session ? 2 : 1;
    m.prepared = s->prepare_image != NULL;
    return run(g, CTL_RESTORE, &m, fds, nfds);
}

static bool save(struct guest *g, const char *path, uint32_t flags, int layer,
                 struct ctl_saved *ret)
{
    struct ctl_save s = {.flags = flags};
    int fds[2] = {open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), layer};
    int r = order_fds(g, CTL_SAVE, &s, sizeof s, fds, layer < 0 ? 1 : 2);
    const struct ctl_saved *saved = msg_body(&g->msg, sizeof *saved);
    close(fds[0]);
    if (r != 0 || !saved)
        return false;
    *ret = *saved;
    return true;
}

bool guest_save(struct guest *g, const char *path, uint32_t flags, struct ctl_saved *ret)
{
    return guest_order(g, CTL_PAUSE, NULL, 0, -1) == 0 && save(g, path, flags, -1, ret);
}

bool guest_save_over(struct guest *g, const char *path, int layer, struct ctl_saved *ret)
{
    return save(g, path, CTL_SAVE_FULL | CTL_SAVE_LAYER, layer, ret);
}

uint32_t guest_ended(struct guest *g)
{
    int status = 0;
    while (!g->end && wait_fd(g->sock) && vmm_message(g))
        ;
    close(g->sock);
    int *const fds[] = {&g->ctl, &g->log, &g->console};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    if (!g->end)
        kill(g->pid, SIGKILL);
    waitpid(g->pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? g->end : 0;
}

bool guest_workset(struct guest *g, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && guest_order(g, CTL_WORKSET, NULL, 0, fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

bool guest_kill(struct guest *g)
{
    return guest_order(g, CTL_STOP, NULL, 0, -1) == 0 && guest_ended(g) == CTL_EXIT_STOPPED;
}

/* ---- messages ---- */

static bool read_message(int fd, struct gp_header *h, uint8_t *body)
{
    uint8_t head[GP_HEADER_SIZE];
    return fd_read_full(fd, head, sizeof head) == 0 && gp_header_get(head, h) &&
           fd_read_full(fd, body, h->len) == 0 && tlv_valid(body, h->len);
}

static bool write_message(int fd, uint16_t type, uint32_t id, const void *body, size_t len)
{
    uint8_t head[GP_HEADER_SIZE];
    gp_header_put(head, type, id, (uint32_t)len);
    return fd_write_full(fd, head, sizeof head) == 0 && fd_write_full(fd, body, len) == 0;
}

static void parse(struct answer *a, const uint8_t *body, size_t len)
{
    struct tlv_reader r = tlv_reader_init(body, len);
    uint16_t tag;
    const uint8_t *d;
    size_t n;
    memset(a, 0, offsetof(struct answer, data));
    while (tlv_next(&r, &tag, &d, &n)) {
        switch (tag) {
        case GP_T_ERRNO:
            tlv_get_u32(d, n, &a->num);
            break;
        case GP_T_STATUS:
            tlv_get_u32(d, n, &a->status);
            break;
        case GP_T_OUTCOME:
            tlv_get_u32(d, n, &a->outcome);
            break;
        case GP_T_EXIT_STATUS:
            a->has_exit = tlv_get_u32(d, n, &a->exit_status);
            break;
        case GP_T_SIGNAL:
            a->has_signal = tlv_get_u32(d, n, &a->signal);
            break;
        case GP_T_OOM:
            tlv_get_u32(d, n, &a->oom);
            break;
        case GP_T_EOF:
            tlv_get_u32(d, n, &a->eof);
            break;
        case GP_T_PROCS:
            tlv_get_u32(d, n, &a->procs);
            break;
        case GP_T_MEM_TOTAL:
            tlv_get_u64(d, n, &a->mem_total);
            break;
        case GP_T_MEM_AVAILABLE:
            tlv_get_u64(d, n, &a->mem_available);
            break;
        case GP_T_MEM_FREE:
            tlv_get_u64(d, n, &a->mem_free);
            break;
        case GP_T_SIZE:
            tlv_get_u64(d, n, &a->size);
            break;
        case GP_T_TEXT:
            tlv_get_str(d, n, a->text, sizeof a->text);
            break;
        case GP_T_ENTRY: /* entries become lines of data */
        case GP_T_DATA:
            if (n < sizeof a->data - a->data_len) {
                memcpy(a->data + a->data_len, d, n);
                a->data_len += n;
                if (tag == GP_T_ENTRY)
                    a->data[a->data_len++] = '\n';
            }
            break;
        default:
            break;
        }
    }
    a->data[a->data_len < sizeof a->data ? a->data_len : sizeof a->data - 1] = '\0';
}

static bool log_message(struct guest *g)
{
    static uint8_t body[GP_BODY_MAX];
    struct gp_header h;
    struct tlv_reader r;
    uint16_t tag;
    const uint8_t *d, *data = NULL;
    size_t n, len = 0;
    uint64_t seq = 0;
    uint32_t source = 0, partial = 0;
    if (!read_message(g->log, &h, body))
        return false;
    if (h.type != GP_LOG)
        return true; /* the greeting */
    r = tlv_reader_init(body, h.len);
    while (tlv_next(&r, &tag, &d, &n)) {
        if (tag == GP_T_SEQ)
            tlv_get_u64(d, n, &seq);
        if (tag == GP_T_SOURCE)
            tlv_get_u32(d, n, &source);
        if (tag == GP_T_PARTIAL)
            tlv_get_u32(d, n, &partial);
        if (tag == GP_T_DATA) {
            data = d;
            len = n;
        }
    }
    uint8_t ack[16];
    struct tlv_writer w = tlv_writer_init(ack, sizeof ack);
    tlv_put_u64(&w, GP_T_SEQ, seq);
    if (!write_message(g->log, GP_LOG_ACK, 0, ack, w.len))
        return false;
    if (g->last_seq && seq <= g->last_seq)
        return true; /* sent again after a break */
    g->gaps += g->last_seq && seq != g->last_seq + 1;
    g->last_seq = seq;
    if (g->text_len + len + 4 < sizeof g->text) {
        g->text_len += (size_t)snprintf(g->text + g->text_len, len + 4, "%u %.*s", source,
                                        (int)len, data ? (const char *)data : "");
        g->text[g->text_len++] = partial ? '+' : '\n';
        g->text[g->text_len] = '\0';
    }
    return true;
}

/* Waits for something from anywhere. With an answer to `id` or an event it is noted. */
static bool turn(struct guest *g, uint32_t id, bool *answered)
{
    static uint8_t body[GP_BODY_MAX];
    struct gp_header h;
    struct pollfd p[3] = {{.fd = g->ctl, .events = POLLIN},
                          {.fd = g->hold_logs ? -1 : g->log, .events = POLLIN},
                          {.fd = g->sock, .events = POLLIN}};
    if (poll(p, 3, LIMIT_MS) <= 0) {
        printf("# nothing came within %d ms\n", LIMIT_MS);
        return false;
    }
    if (p[1].revents && !log_message(g)) {
        close(g->log);
        g->log = -1;
    }
    if (p[0].revents) {
        if (!read_message(g->ctl, &h, body)) {
            close(g->ctl);
            g->ctl = -1;
        } else if (h.type == GP_EXITED) {
            parse(&g->exited, body, h.len);
            g->event = true;
        } else if (h.type == GP_REPLY && h.id == id) {
            parse(&g->answer, body, h.len);
            *answered = true;
        }
    }
    return !p[2].revents || vmm_message(g);
}

bool guest_send(struct guest *g, uint16_t type, const struct tlv_writer *w)
{
    return !(w && w->bad) &&
           write_message(g->ctl, type, ++g->id, w ? w->p : NULL, w ? w->len : 0);
}

bool guest_answer(struct guest *g)
{
    bool answered = false;
    while (!answered)
        if (g->ctl < 0 || !turn(g, g->id, &answered))
            return false;
    return true;
}

bool guest_ask(struct guest *g, uint16_t type, const struct tlv_writer *w)
{
    return guest_send(g, type, w) && guest_answer(g);
}

bool guest_ok(struct guest *g, uint16_t type, const struct tlv_writer *w)
{
    if (!guest_ask(g, type, w))
        return false;
    if (g->answer.num)
        printf("# request %u: %s (%u)\n", type, g->answer.text, g->answer.num);
    return g->answer.num == 0;
}

bool guest_line(struct guest *g, size_t from, const char *text)
{
    bool unused = false;
    while (!strstr(g->text + from, text)) {
        if (g->log < 0 || !turn(g, 0, &unused)) {
            printf("# no line \"%s\" in: %.2000s\n", text, g->text + from);
            return false;
        }
    }
    return true;
}

bool guest_exited(struct guest *g)
{
    bool unused = false;
    while (!g->event)
        if (!turn(g, 0, &unused))
            return false;
    return true;
}

/* ---- streams ---- */

int stream_open(struct guest *g, uint16_t type, const struct tlv_writer *w)
{
    int pair[2];
    struct ctl_vsock to = {.port = GP_PORT_STREAM};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    int r = guest_order(g, CTL_VSOCK_OPEN, &to, sizeof to, pair[1]);
    close(pair[1]);
    if (r == 0 && stream_send(pair[0], type, w))
        return pair[0];
    close(pair[0]);
    return -1;
}

bool stream_send(int fd, uint16_t type, const struct tlv_writer *w)
{
    return !(w && w->bad) && write_message(fd, type, 1, w ? w->p : NULL, w ? w->len : 0);
}

uint16_t stream_next(int fd, struct answer *a)
{
    static uint8_t body[GP_BODY_MAX];
    struct gp_header h;
    if (!wait_fd(fd) || !read_message(fd, &h, body))
        return 0;
    parse(a, body, h.len);
    return h.type;
}

bool guest_command(struct guest *m, struct tlv_writer *w, const char *input, char *out,
                   size_t size, struct answer *last)
{
    int fd = stream_open(m, GP_EXEC, w);
    size_t len = 0;
    uint16_t type;
    out[0] = '\0';
    if (fd < 0)
        return false;
    if (input) {
        uint8_t small[4096];
        struct tlv_writer in = tlv_writer_init(small, sizeof small);
        tlv_put_str(&in, GP_T_DATA, input);
        stream_send(fd, GP_STDIN, &in);
        stream_send(fd, GP_STDIN, NULL);
    }
    while ((type = stream_next(fd, last)) != 0 && type != GP_EXIT) {
        if (type == GP_REPLY && last->num)
            break;
        if ((type == GP_STDOUT || type == GP_STDERR) && len + last->data_len < size) {
            memcpy(out + len, last->data, last->data_len);
            out[len += last->data_len] = '\0';
        }
    }
    close(fd);
    return type == GP_EXIT;
}

bool copy_file(const char *from, const char *to)
{
    static char buf[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof buf)) > 0)
        if (fd_write_full(out, buf, (size_t)n) < 0)
            n = -1;
    close(in);
    close(out);
    return n == 0;
}
