// SPDX-License-Identifier: Apache-2.0
/*
 * The application stands still before a snapshot: cgroup v2 freezer, awaited
 * by event. With TRIM memory that need not be saved is given back first.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "init.h"

#define FREEZE_LIMIT (10000u * MS)
#define SETTLE_LIMIT (2000u * MS)

static bool is_frozen(struct freezer *fr)
{
    char text[128];
    if (read_fd(fr->events_fd, text, sizeof(text)) < 0)
        return false;
    return text_find(text, "frozen 1") != NULL;
}

int thaw(struct init *in)
{
    in->freezer.frozen = false;
    upstreams_go_on(in);
    return pwrite(in->freezer.freeze, "0", 1, 0) == 1 ? 0 : -errno;
}

void cgroup_kill(struct init *in)
{
    if (pwrite(in->freezer.kill, "1", 1, 0) != 1)
        complain("cannot kill the application: %s", strerror(errno));
}

void trim_disk(void)
{
    AUTO_CLOSE int root = open(ROOT_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fstrim_range all = {.len = UINT64_MAX};
    if (root >= 0 && do_ioctl(root, FITRIM, &all) < 0 && errno != EOPNOTSUPP && errno != EROFS)
        complain("trim the root file system: %s", strerror(errno));
}

static void fail_freeze(struct init *in, const struct fail *f)
{
    struct freezer *fr = &in->freezer;
    uint32_t id = fr->id;
    loop_untimer(&in->loop, &fr->limit);
    loop_del(&in->loop, &fr->events);
    fr->id = 0;
    thaw(in);
    ctl_fail(in, id, f);
}

/* Nothing is on its way to the host any more, so no message is cut in two by the snapshot. */
static void on_settled(void *ctx)
{
    struct init *in = ctx;
    struct freezer *fr = &in->freezer;
    uint32_t id = fr->id;
    loop_untimer(&in->loop, &fr->limit);
    in->logs.settled = NULL;
    fr->id = 0;
    tcp_list(&in->net); /* without the list the restore makes it */
    sync();
    if (fr->trim) {
        trim_disk();
        write_file("/proc/sys/vm/drop_caches", "3");
        logs_trim(&in->logs);
    }
    ctl_fail(in, id, NULL);
}

/* The last lines, when the application's upstreams have answered. */
static void on_answered(void *ctx)
{
    struct init *in = ctx;
    logs_settle(&in->logs, on_settled, in);
}

static void on_frozen(struct init *in)
{
    struct freezer *fr = &in->freezer;
    loop_del(&in->loop, &fr->events);
    fr->frozen = true;
    loop_timer(&in->loop, &fr->limit, SETTLE_LIMIT);
    upstreams_settle(in, on_answered, in);
}

static void on_events(struct ev *ev, uint32_t events)
{
    struct init *in = container_of(ev, struct init, freezer.events);
    (void)events;
    if (is_frozen(&in->freezer))
        on_frozen(in);
}

static void on_limit(struct timer *t)
{
    struct init *in = container_of(t, struct init, freezer.limit);
    struct fail f;
    if (in->freezer.frozen) { /* a host that takes no lines gets them after the restore */
        on_settled(in);
        return;
    }
    fail_set(&f, ETIMEDOUT, "the application could not be frozen within %llu s",
             FREEZE_LIMIT / (1000u * MS));
    fail_freeze(in, &f);
}

void freeze_request(struct init *in, const struct req *r)
{
    struct freezer *fr = &in->freezer;
    struct fail f = {.num = 0};
    uint32_t trim;
    if (!req_u32(r, GP_T_TRIM, 0, &trim))
        fail_set(&f, EINVAL, "TRIM has the wrong length");
    else if (fr->id)
        fail_set(&f, EBUSY, "a freeze is under way already");
    if (f.num) {
        ctl_fail(in, r->id, &f);
        return;
    }
    fr->id = r->id;
    fr->trim = trim != 0;
    if (pwrite(fr->freeze, "1", 1, 0) != 1) {
        fail_sys(&f, errno, "freeze the application");
        fail_freeze(in, &f);
        return;
    }
    int err = loop_add(&in->loop, &fr->events, fr->events_fd, EPOLLPRI);
    if (is_frozen(fr)) {
        on_frozen(in);
        return;
    }
    if (err < 0) {
        fail_sys(&f, -err, "watch the application freeze");
        fail_freeze(in, &f);
        return;
    }
    loop_timer(&in->loop, &fr->limit, FREEZE_LIMIT);
}

void thaw_request(struct init *in, const struct req *r)
{
    struct freezer *fr = &in->freezer;
    struct fail f = {.num = 0};
    if (fr->id) { /* whoever asked for the freeze is gone */
        loop_untimer(&in->loop, &fr->limit);
        loop_del(&in->loop, &fr->events);
        in->logs.settled = NULL;
        fr->id = 0;
    }
    tcp_forget(&in->net);
    step_clock(r, &f); /* absent: as it is */
    int err = thaw(in);
    if (err < 0)
        fail_sys(&f, -err, "thaw the application");
    ctl_fail(in, r->id, &f);
}

void freezer_init(struct init *in)
{
    in->freezer.events = (struct ev){.fd = -1, .fn = on_events};
    in->freezer.limit = (struct timer){.fn = on_limit};
}
