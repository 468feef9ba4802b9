// SPDX-License-Identifier: Apache-2.0
/* The application: its root disk, its start, its end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "init.h"

#define STOP_DEFAULT_MS 10000u
#define QUIET_LIMIT     (3000u * MS)
#define END_LIMIT       (5000u * MS) /* for the host to end the machine after the news */

size_t app_binds(bool build, const struct bind **ret)
{
    static const struct bind binds[] = {
        {RUN_DIR "/resolv.conf", "/etc/resolv.conf", false, false},
        {RUN_DIR "/hosts", "/etc/hosts", false, false},
        {RUN_DIR "/hostname", "/etc/hostname", false, false},
        {RUN_DIR "/machine-id", "/etc/machine-id", true, false},
        {RUN_DIR "/public", "/run/dormouse", true, true},
        {RUN_DIR "/boot-id", "/proc/sys/kernel/random/boot_id", true, false},
    };
    *ret = binds;
    return build ? 2 : ARRAY_LEN(binds);
}

/* ---- the disk ---- */

int disk_find(const char *serial, char *path, size_t size, struct fail *f)
{
    char file[] = "/sys/block/vda/serial", text[32];
    char *letter = &file[sizeof("/sys/block/vd") - 1];
    /* The kernel gives the names in a row. */
    for (ssize_t n; (n = read_file(file, text, sizeof(text))) >= 0; ++*letter) {
        if (n > 0 && text[n - 1] == '\n')
            text[--n] = '\0';
        if (n > 0 && strcmp(text, serial) == 0) {
            text_put(path, size, "/dev/vd%c", *letter);
            return 0;
        }
    }
    return fail_set(f, ENODEV, "this machine has no disk with serial \"%s\"", serial);
}

static int mount_root(struct init *in, const char *serial, struct fail *f)
{
    static const struct {
        const char *type, *options;
        unsigned long flags;
    } kinds[] = {
        {"ext4", "noinit_itable", MS_NOATIME},
        {"ext4", NULL, MS_NOATIME | MS_RDONLY},
        {"erofs", NULL, MS_NOATIME | MS_RDONLY},
    };
    char path[64];
    if (in->app.mounted)
        return fail_set(f, EBUSY, "the root is mounted already");
    int r = disk_find(serial, path, sizeof(path), f), err = 0;
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (mount(path, ROOT_DIR, kinds[i].type, kinds[i].flags, kinds[i].options) == 0) {
            in->app.mounted = true;
            in->app.writable = !(kinds[i].flags & MS_RDONLY);
            return 0;
        }
        if (err == 0 || err == ENODEV)
            err = errno; /* of the first kind the kernel knows */
    }
    return fail_sys(f, err, "mount disk \"%s\" as the root", serial);
}

void app_mount_root(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    if (!req_str(r, GP_T_DISK, in->app.disk, sizeof(in->app.disk)) || !in->app.disk[0])
        fail_set(&f, EINVAL, "DISK must be a serial of 1 to %zu characters",
                 sizeof(in->app.disk) - 1);
    else
        mount_root(in, in->app.disk, &f);
    ctl_fail(in, r->id, &f);
}

int app_unmount(struct init *in, struct fail *f)
{
    if (!in->app.mounted)
        return 0;
    sync();
    if (umount2(ROOT_DIR, 0) < 0)
        return fail_sys(f, errno, "unmount the root");
    in->app.mounted = false;
    return 0;
}

/* ---- start ---- */

uint64_t oom_count(void)
{
    char text[512];
    uint64_t n = 0;
    const char *at = NULL;
    if (read_file(CGROUP_DIR "/memory.events", text, sizeof(text)) > 0)
        at = text_find(text, "oom_kill ");
    if (!at || !parse_u64(at + 9, UINT64_MAX, &n))
        return 0;
    return n;
}

static void on_started(struct proc *p, const struct fail *f)
{
    struct init *in = container_of(p, struct init, app.proc);
    in->app.start_result = *f;
    if (f->num)
        return; /* told when the child is reaped: then it may be tried again */
    in->app.starting = false;
    in->app.running = true;
    ctl_fail(in, in->app.start_id, NULL);
    boot_exec_cgroup(in);
}

static void on_end_limit(struct timer *t)
{
    (void)t;
    power_off();
}

/* The news must reach the host before the machine is gone: it closes the stream or stops
 * the machine; else the limit does. */
static void end_soon(struct init *in)
{
    in->ending = true;
    in->power_timer.fn = on_end_limit;
    loop_timer(&in->loop, &in->power_timer, END_LIMIT);
}

void app_tell_end(struct init *in)
{
    struct app *a = &in->app;
    struct reply rp;
    in->logs.quiet = NULL;
    if (a->stop_id) {
        reply_init(&rp, NULL);
        ctl_reply(in, a->stop_id, &rp);
        a->stop_id = 0;
        end_soon(in);
        return;
    }
    bool killed = WIFSIGNALED(a->status);
    char text[96];
    if (killed)
        text_put(text, sizeof(text), "the application was ended by signal %d%s",
                 WTERMSIG(a->status), a->oom ? " (out of memory)" : "");
    else
        text_put(text, sizeof(text), "the application exited with status %d",
                 WEXITSTATUS(a->status));
    rp.w = tlv_writer_init(rp.buf, sizeof(rp.buf));
    tlv_put_u32(&rp.w, killed ? GP_T_SIGNAL : GP_T_EXIT_STATUS,
                (uint32_t)(killed ? WTERMSIG(a->status) : WEXITSTATUS(a->status)));
    tlv_put_str(&rp.w, GP_T_TEXT, text);
    tlv_put_u32(&rp.w, GP_T_OOM, a->oom);
    ctl_event(in, GP_EXITED, &rp.w);
    end_soon(in);
}

static void on_quiet(void *ctx)
{
    app_tell_end(ctx);
}

static void on_quiet_limit(struct timer *t)
{
    app_tell_end(container_of(t, struct init, power_timer));
}

/* The last lines first. Who asked for the stop does not wait for them for ever; an end by
 * itself is told when the host is there again. */
static void end_begin(struct init *in)
{
    if (in->app.stop_id) {
        in->power_timer.fn = on_quiet_limit;
        loop_timer(&in->loop, &in->power_timer, QUIET_LIMIT);
    }
    logs_when_quiet(&in->logs, on_quiet, in);
}

static void on_exited(struct proc *p, int status)
{
    struct init *in = container_of(p, struct init, app.proc);
    struct app *a = &in->app;
    if (a->starting) {
        a->starting = false;
        close_fd(&a->uts);
        ctl_fail(in, a->start_id, &a->start_result);
        return;
    }
    a->running = false;
    a->exited = true;
    a->status = status;
    a->oom = oom_count() > a->ooms;
    loop_untimer(&in->loop, &a->stop_timer);
    cgroup_kill(in); /* commands run beside it */
    end_begin(in);
}

/* Two pipes: their write ends for the child, their read ends for the log. */
static int open_logs(struct init *in, int ret[3], uint32_t out, uint32_t err, struct fail *f)
{
    ret[0] = -1;
    for (int i = 1; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return fail_sys(f, errno, "make a pipe");
        ret[i] = fds[1];
        int r = logs_attach(&in->logs, fds[0], i == 1 ? out : err);
        if (r < 0)
            return fail_sys(f, -r, "read the application's output");
    }
    return 0;
}

static int start(struct init *in, const struct req *r, struct fail *f)
{
    struct app *a = &in->app;
    char user[256], workdir[1024], hostname[65];
    uint32_t sig, all;
    if (!a->mounted)
        return fail_set(f, EINVAL, "no root is mounted yet (GP_MOUNT_ROOT comes first)");
    if (a->starting || a->running || a->exited)
        return fail_set(f, EBUSY, "the application was started already");
    if (!req_str(r, GP_T_USER, user, sizeof(user)) ||
        !req_str(r, GP_T_WORKDIR, workdir, sizeof(workdir)) ||
        !req_str(r, GP_T_HOSTNAME, hostname, sizeof(hostname)) ||
        !req_u32(r, GP_T_SIGNAL, SIGTERM, &sig) || !req_u32(r, GP_T_CAPS_ALL, 0, &all))
        return fail_set(f, EINVAL, "a field of the start request is malformed");
    AUTO_FREE char **argv = req_list(r, GP_T_ARG, ARG_MAX_COUNT, NULL, f);
    AUTO_FREE char **env = argv ? req_list(r, GP_T_ENV, ENV_MAX, NULL, f) : NULL;
    if (!env)
        return -f->num;
    if (hostname[0]) {
        ident_hostname(in, hostname);
        ident_hosts(in);
    }
    int err = upstreams_start(in, env, f);
    if (err < 0)
        return err;
    a->stop_signal = sig > 0 && sig < 65 ? (int)sig : SIGTERM;
    struct plan plan = {
        .kind = PLAN_NEW,
        .argv = argv,
        .env = env,
        .user = user,
        .workdir = workdir,
        .hostname = in->hostname,
        .caps_all = all != 0,
        .no_new_privs = true,
        .make_workdir = true,
        .cgroup = in->freezer.main_dir,
    };
    plan.nbinds = app_binds(false, &plan.binds);
    a->ooms = oom_count();
    err = open_logs(in, plan.fds, LOG_STDOUT, LOG_STDERR, f);
    if (err == 0) {
        a->proc.started = on_started;
        a->proc.exited = on_exited;
        err = proc_start(&in->procs, &a->proc, &plan, f);
    }
    close_fd(&plan.fds[1]);
    close_fd(&plan.fds[2]);
    if (err < 0)
        return err;
    a->starting = true;
    a->start_id = r->id;
    char path[48];
    text_put(path, sizeof(path), "/proc/%d/ns/uts", a->proc.pid);
    a->uts = open(path, O_RDONLY | O_CLOEXEC);
    return 0;
}

void app_start(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    if (start(in, r, &f) < 0)
        ctl_fail(in, r->id, &f);
}

/* ---- stop ---- */

static void on_stop_limit(struct timer *t)
{
    struct init *in = container_of(t, struct init, app.stop_timer);
    cgroup_kill(in);
}

void app_stop(struct init *in, const struct req *r)
{
    struct app *a = &in->app;
    uint32_t sig, ms;
    struct fail f = {.num = 0};
    if (!req_u32(r, GP_T_SIGNAL, (uint32_t)a->stop_signal, &sig) || sig == 0 || sig > 64 ||
        !req_u32(r, GP_T_TIMEOUT_MS, STOP_DEFAULT_MS, &ms)) {
        fail_set(&f, EINVAL, "SIGNAL must be 1 to 64 and TIMEOUT_MS a number");
        ctl_fail(in, r->id, &f);
        return;
    }
    a->stop_id = r->id;
    if (!a->running) {
        end_begin(in);
        return;
    }
    thaw(in);
    kill(a->proc.pid, (int)sig);
    if (ms == 0)
        cgroup_kill(in);
    else
        loop_timer(&in->loop, &a->stop_timer, ms * MS);
}

/* ---- statistics ---- */

static uint64_t meminfo(const char *text, const char *name)
{
    const char *at = text_find(text, name);
    uint64_t kib;
    if (!at)
        return 0;
    at += strlen(name);
    at += strspn(at, ": ");
    return parse_u64(at, UINT64_MAX / 1024, &kib) ? kib * 1024 : 0;
}

void app_stats(struct init *in, const struct req *r)
{
    char text[2048];
    struct reply rp;
    uint64_t procs = 0;
    if (read_file("/proc/meminfo", text, sizeof(text)) < 0) {
        struct fail f;
        fail_sys(&f, errno, "read the statistics");
        ctl_fail(in, r->id, &f);
        return;
    }
    reply_init(&rp, NULL);
    tlv_put_u64(&rp.w, GP_T_MEM_TOTAL, meminfo(text, "MemTotal"));
    tlv_put_u64(&rp.w, GP_T_MEM_AVAILABLE, meminfo(text, "MemAvailable"));
    tlv_put_u64(&rp.w, GP_T_MEM_FREE, meminfo(text, "MemFree"));
    if (read_file(CGROUP_DIR "/pids.current", text, sizeof(text)) > 0)
        parse_u64(text, UINT32_MAX, &procs);
    tlv_put_u32(&rp.w, GP_T_PROCS, (uint32_t)procs);
    tlv_put_u64(&rp.w, GP_T_UPTIME_NS, now_ns());
    ctl_reply(in, r->id, &rp);
}

void app_init(struct init *in)
{
    in->app = (struct app){.uts = -1, .stop_signal = SIGTERM};
    in->app.proc.err.fd = -1;
    in->app.stop_timer.fn = on_stop_limit;
}
