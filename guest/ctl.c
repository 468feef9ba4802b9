// SPDX-License-Identifier: Apache-2.0
/*
 * The streams to the host: made at start, made again whenever they break, and
 * the table of what the host may ask on the control stream.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "init.h"

#define PAUSE_MIN (5u * MS)
#define PAUSE_MAX (1000u * MS)

void ctl_reply(struct init *in, uint32_t id, const struct reply *rp)
{
    if (id != 0)
        chan_send(&in->ctl, GP_REPLY, id, rp->w.p, rp->w.len);
}

void ctl_fail(struct init *in, uint32_t id, const struct fail *f)
{
    struct reply rp;
    reply_init(&rp, f);
    ctl_reply(in, id, &rp);
}

void ctl_event(struct init *in, uint16_t type, const struct tlv_writer *w)
{
    chan_send(&in->ctl, type, 0, w->p, w->len);
}

static void on_ctl_msg(struct chan *c, const struct gp_header *h, const uint8_t *body)
{
    static const struct {
        uint16_t type;
        void (*fn)(struct init *in, const struct req *r);
    } table[] = {
        {GP_RESTORED, restore_request},  {GP_NET, net_request},
        {GP_MOUNT_ROOT, app_mount_root}, {GP_START, app_start},
        {GP_HOOK, hook_request},         {GP_FREEZE, freeze_request},
        {GP_THAW, thaw_request},         {GP_STOP, app_stop},
        {GP_STATS, app_stats},           {GP_BUILD_STEP, build_step},
        {GP_BUILD_END, build_end},
    };
    struct init *in = container_of(c, struct init, ctl);
    struct req r = {.type = h->type, .id = h->id, .body = body, .len = h->len};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].type == h->type) {
            table[i].fn(in, &r);
            return;
        }
    }
    struct fail f;
    fail_set(&f, EOPNOTSUPP, "this guest does not know request %u", h->type);
    ctl_fail(in, h->id, &f);
}

static void on_log_msg(struct chan *c, const struct gp_header *h, const uint8_t *body)
{
    struct init *in = container_of(c, struct init, log_chan);
    struct req r = {.type = h->type, .id = h->id, .body = body, .len = h->len};
    uint64_t seq;
    if (h->type == GP_LOG_ACK && req_u64(&r, GP_T_SEQ, 0, &seq))
        logs_ack(&in->logs, seq);
}

static void on_log_sent(struct chan *c)
{
    logs_pump(&container_of(c, struct init, log_chan)->logs);
}

static void on_ctl_down(struct chan *c)
{
    struct init *in = container_of(c, struct init, ctl);
    if (in->ending)
        power_off();
    loop_timer(&in->loop, &in->ctl_retry, in->ctl_pause = PAUSE_MIN);
}

static void on_log_down(struct chan *c)
{
    struct init *in = container_of(c, struct init, log_chan);
    loop_timer(&in->loop, &in->log_retry, in->log_pause = PAUSE_MIN);
}

static void hello(struct chan *c, uint32_t stream)
{
    uint8_t body[64];
    struct tlv_writer w = tlv_writer_init(body, sizeof(body));
    tlv_put_u32(&w, GP_T_VERSION, GP_VERSION);
    tlv_put_u64(&w, GP_T_UPTIME_NS, now_ns());
    tlv_put_u32(&w, GP_T_STREAM, stream);
    chan_send(c, GP_HELLO, 0, body, w.len);
}

static int take_ctl(struct init *in, int fd)
{
    int r = chan_open(&in->ctl, &in->loop, fd);
    if (r < 0)
        return r;
    hello(&in->ctl, GP_PORT_CONTROL);
    if (in->ending)
        app_tell_end(in);
    return 0;
}

static int take_log(struct init *in, int fd)
{
    int r = chan_open(&in->log_chan, &in->loop, fd);
    if (r < 0)
        return r;
    hello(&in->log_chan, GP_PORT_LOG);
    logs_stream_up(&in->logs);
    return 0;
}

int init_adopt(struct init *in, int ctl_fd, int log_fd)
{
    int r = take_ctl(in, ctl_fd);
    return r < 0 ? r : take_log(in, log_fd);
}

/* A local transport answers or refuses at once, so this may block: its limit is the one of the
 * kernel's vsock, cut to a second. */
static int dial(uint32_t port)
{
    struct sockaddr_vm host = {
        .svm_family = AF_VSOCK, .svm_cid = GP_HOST_CID, .svm_port = port};
    struct timeval limit = {.tv_sec = 1};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0) {
        int err = errno;
        close(fd);
        return -err;
    }
    return fd;
}

static void try_dial(struct init *in, uint32_t port, int (*take)(struct init *in, int fd),
                     struct timer *retry, uint64_t *pause)
{
    int fd = dial(port);
    if (fd >= 0 && take(in, fd) == 0)
        return;
    if (fd >= 0)
        close(fd);
    loop_timer(&in->loop, retry, *pause);
    *pause = *pause * 2 > PAUSE_MAX ? PAUSE_MAX : *pause * 2;
}

static void on_ctl_retry(struct timer *t)
{
    struct init *in = container_of(t, struct init, ctl_retry);
    try_dial(in, GP_PORT_CONTROL, take_ctl, &in->ctl_retry, &in->ctl_pause);
}

static void on_log_retry(struct timer *t)
{
    struct init *in = container_of(t, struct init, log_retry);
    try_dial(in, GP_PORT_LOG, take_log, &in->log_retry, &in->log_pause);
}

void init_connect(struct init *in)
{
    in->ctl_pause = in->log_pause = PAUSE_MIN;
    int r = session_listen(in);
    if (r < 0)
        complain("listen for streams: %s", strerror(-r));
    on_ctl_retry(&in->ctl_retry);
    on_log_retry(&in->log_retry);
}

int init_setup(struct init *in)
{
    int r = loop_open(&in->loop);
    if (r < 0)
        return r;
    in->ctl = (struct chan){.ev = {.fd = -1}, .on_msg = on_ctl_msg, .on_down = on_ctl_down};
    in->log_chan = (struct chan){
        .ev = {.fd = -1}, .on_msg = on_log_msg, .on_down = on_log_down, .on_sent = on_log_sent};
    in->ctl_retry.fn = on_ctl_retry;
    in->log_retry.fn = on_log_retry;
    in->listener.fd = -1;
    app_init(in);
    freezer_init(in);
    hook_init(in);
    build_init(in);
    upstreams_init(in);
    if ((r = procs_init(&in->procs, &in->loop)) < 0 ||
        (r = logs_init(&in->logs, &in->loop, &in->log_chan)) < 0 || (r = boot_files(in)) < 0 ||
        (r = boot_cgroups(in)) < 0 || (r = net_init(&in->net)) < 0)
        return r;
    write_file("/proc/self/oom_score_adj", "-1000");
    ident_hosts(in);
    return 0;
}
