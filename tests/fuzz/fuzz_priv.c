// SPDX-License-Identifier: Apache-2.0
/*
 * A network-facing process that was taken over talks to its root parent. Each record of the
 * input is a message: flags (1: its header comes from the input too, 2..: descriptors with it),
 * length, bytes. What the parent would do to the host is faked; whatever comes, its table stays
 * consistent, only what is in order reaches the host, and no descriptor is lost.
 */
#include <dirent.h>
#include <sys/socket.h>

#include "../../api/parent.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MAGIC 0x444d5331u

static struct {
    bool live[PRIV_SLOTS], tap[PRIV_SLOTS];
} host;

/* ---- the host, faked ---- */

static int null_fd(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void in_range(uint32_t slot)
{
    if (slot >= PRIV_SLOTS)
        abort();
}

int netlink_open(int *ret, struct err *e)
{
    (void)e;
    *ret = null_fd();
    return 0;
}

int tap_open(int netlink, uint32_t slot, int *ret_fd, int *ret_index, struct err *e)
{
    (void)netlink;
    in_range(slot);
    if (slot == 7) /* a host may fail, too */
        return err_set(e, EBUSY, "no tap");
    host.tap[slot] = true;
    *ret_fd = null_fd();
    *ret_index = (int)slot + 1;
    return 0;
}

int tap_address(int netlink, int index, uint32_t ip, struct err *e)
{
    (void)netlink;
    (void)e;
    if (index <= 0 || index > (int)PRIV_SLOTS || !host.tap[index - 1] ||
        !host.live[index - 1] || priv_guest_index(ip) >= PRIV_ADDRESSES)
        abort();
    return 0;
}

int cgroup_open(int *ret, struct err *e)
{
    (void)e;
    *ret = null_fd();
    return 0;
}

int cgroup_make(int top, uint32_t slot, uint64_t mem_bytes, uint32_t cpu_percent, int *ret,
                struct err *e)
{
    (void)top;
    (void)e;
    in_range(slot);
    if (mem_bytes == 0 || mem_bytes > MEM_MAX || cpu_percent > CPU_MAX)
        abort();
    *ret = null_fd();
    return 0;
}

int cgroup_remove(int top, uint32_t slot)
{
    (void)top;
    in_range(slot);
    return 0;
}

int adopt_open(struct parent *p, struct err *e)
{
    (void)p;
    (void)e;
    return 0;
}

int adopt_leftovers(struct parent *p, struct err *e)
{
    (void)p;
    (void)e;
    return 0;
}

int adopt_listen(struct parent *p, uint32_t slot, int *ret, struct err *e)
{
    (void)p;
    (void)e;
    in_range(slot);
    *ret = null_fd();
    return 0;
}

int adopt_connect(struct parent *p, uint32_t slot, int *ret, struct err *e)
{
    (void)p;
    in_range(slot);
    if (slot == 5)
        return err_set(e, ECONNREFUSED, "it has ended");
    *ret = null_fd();
    return 0;
}

void adopt_forget(struct parent *p, uint32_t slot)
{
    (void)p;
    in_range(slot);
    host.live[slot] = host.tap[slot] = false;
}

void adopt_on_ends(struct parent *p, int sock)
{
    (void)p;
    (void)sock;
}

int nft_load(const char *path, struct err *e)
{
    (void)path;
    (void)e;
    return 0;
}

int spawn_vmm(struct spawn_host *h, uint32_t uid, uint32_t vcpus, int ctl, int listener,
              int cgroup, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
    uint32_t slot = uid - PARENT_VMM_UID;
    (void)h;
    in_range(slot);
    if (host.live[slot] || vcpus == 0 || vcpus > CTL_VCPUS_MAX || fcntl(ctl, F_GETFD) < 0 ||
        fcntl(listener, F_GETFD) < 0 || fcntl(cgroup, F_GETFD) < 0)
        abort();
    if (slot == 9)
        return err_set(e, EAGAIN, "no process");
    host.live[slot] = true;
    *ret_pid = 1000000 + (pid_t)slot;
    *ret_pidfd = null_fd();
    return 0;
}

void spawn_renew(struct spawn_host *h)
{
    (void)h;
}

void spawn_close(struct spawn_host *h)
{
    (void)h;
}

void spawn_kill(int pidfd)
{
    if (fcntl(pidfd, F_GETFD) < 0)
        abort();
}

/* ---- one life of a child ---- */

static unsigned open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void drain(int sock)
{
    static struct msg m;
    while (recv(sock, m.body, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) {
        if (msg_recv(sock, &m, NULL) < 0)
            return;
        if (m.type != PRIV_DONE && m.type != PRIV_FAIL)
            abort();
        msg_close_fds(&m);
    }
}

/* Sends one record. Returns its bytes, 0 at the end. */
static size_t send_record(int sock, const uint8_t *p, size_t len)
{
    static uint8_t bytes[MSG_BODY_MAX + 64];
    if (len < 3)
        return 0;
    size_t n = (size_t)p[1] | (size_t)(p[2] & 0x1f) << 8, nfds = p[0] >> 1 & 3, at = 0;
    n = MIN(n, len - 3);
    if (!(p[0] & 1)) { /* a good header around type, id and body */
        uint32_t head[4] = {MAGIC, n > 0 ? p[3] : 0, n > 1 ? p[4] : 0,
                            n > 2 ? (uint32_t)(n - 2) : 0};
        memcpy(bytes, head, sizeof head);
        at = sizeof head;
        if (n > 2)
            memcpy(bytes + at, p + 5, n - 2);
        at += n > 2 ? n - 2 : 0;
    } else {
        memcpy(bytes, p + 3, n);
        at = n;
    }
    char control[CMSG_SPACE(sizeof(int) * 3)] = {0};
    int fds[3] = {0, 1, 2};
    struct iovec iov = {bytes, at};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds) {
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
    return 3 + n;
}

static void check_table(const struct parent *p)
{
    for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
        const struct slot *s = &p->slots[n];
        if ((s->state == SLOT_FREE) != !host.live[n] || (s->state != SLOT_FREE && s->pidfd < 0))
            abort();
        if (s->state == SLOT_FREE && (s->ip || s->release_id || s->tap_index))
            abort();
        for (uint32_t k = 0; s->ip && k < n; k++) {
            if (p->slots[k].ip == s->ip && !p->slots[k].release_id && !s->release_id)
                abort(); /* two machines with one address */
        }
    }
}

static void end(struct parent *p, int sock)
{
    for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
        if (p->slots[n].state == SLOT_LIVE)
            parent_slot_ended(p, sock, n, 0);
        if (p->slots[n].state == SLOT_DEAD)
            slot_free(p, -1, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct parent p;
    static const struct parent_config c = {.files = {[PRIV_TLS_CERT] = "/dev/null"}};
    int pair[2];
    unsigned before = open_files();
    log_setup(LOG_ERROR, "fuzz");
    memset(&p, 0, sizeof p);
    memset(&host, 0, sizeof host);
    p.c = &c;
    p.cgroup = p.netlink = p.sigfd = -1;
    for (size_t i = 0; i < PRIV_SLOTS; i++)
        p.slots[i].pidfd = -1;
    if (msg_pair(pair, NULL) < 0)
        abort();
    struct err e = ERR_INIT;
    int r = 0;
    for (size_t n; r == 0 && (n = send_record(pair[0], data, len)) > 0;) {
        char byte;
        if (recv(pair[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            r = on_message(&p, pair[1], &e);
        check_table(&p);
        drain(pair[0]);
        data += n;
        len -= n;
    }
    if (r < 0 && r != -EPROTO && r != -ECONNRESET)
        abort();
    end(&p, pair[1]);
    drain(pair[0]);
    close(pair[0]);
    close(pair[1]);
    if (open_files() != before)
        abort();
    return 0;
}
