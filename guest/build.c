// SPDX-License-Identifier: Apache-2.0
/*
 * Builder mode: the host reads the Dockerfile and asks for one step at a time.
 * Commands run in a sandbox like the application's, on its writable root; the
 * archive is read in a child of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "copy.h"
#include "init.h"

static void reply_step(struct init *in, const struct fail *f, bool has_status, uint32_t status)
{
    struct reply rp;
    uint32_t id = in->build.id;
    in->build.id = 0;
    reply_init(&rp, f);
    if (has_status)
        tlv_put_u32(&rp.w, GP_T_EXIT_STATUS, status);
    ctl_reply(in, id, &rp);
}

/* ---- steps done by a child of init ---- */

static void on_work_done(struct proc *p, const struct fail *f)
{
    struct init *in = container_of(p, struct init, build.proc);
    in->build.result = *f;
    if (f->num && in->build.checking)
        in->build.size = 0; /* not a context to copy from */
}

/* Only now the child is gone, and the next step may begin. */
static void on_work_gone(struct proc *p, int status)
{
    struct init *in = container_of(p, struct init, build.proc);
    (void)status;
    reply_step(in, &in->build.result, false, 0);
}

static int work(struct init *in, void (*fn)(void *ctx, struct fail *f), void *ctx,
                struct fail *f)
{
    struct build *b = &in->build;
    b->checking = fn == copy_check;
    b->proc.started = on_work_done;
    b->proc.exited = on_work_gone;
    return proc_work(&in->procs, &b->proc, fn, ctx, f);
}

static int step_context(struct init *in, const struct req *r, struct fail *f)
{
    struct build *b = &in->build;
    char path[64];
    if (!req_str(r, GP_T_DISK, b->disk, sizeof(b->disk)) || !req_u64(r, GP_T_SIZE, 0, &b->size))
        return fail_set(f, EINVAL, "the context's DISK or SIZE is malformed");
    int err = disk_find(b->disk, path, sizeof(path), f);
    if (err < 0)
        return err;
    struct copy_job job = {.disk = path, .size = b->size};
    return work(in, copy_check, &job, f);
}

static int step_copy(struct init *in, const struct req *r, struct fail *f)
{
    struct build *b = &in->build;
    char path[64], dst[1024], chown[256];
    if (b->size == 0)
        return fail_set(f, EINVAL, "there is no build context to copy from");
    struct copy_job job = {.disk = path, .size = b->size, .dst = dst, .chown = chown};
    job.has_mode = req_has(r, GP_T_MODE);
    if (!req_str(r, GP_T_DST, dst, sizeof(dst)) ||
        !req_str(r, GP_T_CHOWN, chown, sizeof(chown)) || !req_u32(r, GP_T_MODE, 0, &job.mode) ||
        job.mode > 07777)
        return fail_set(f, EINVAL, "COPY's DST, CHOWN or MODE is malformed");
    int err = disk_find(b->disk, path, sizeof(path), f);
    if (err < 0)
        return err;
    AUTO_FREE char **src = req_list(r, GP_T_SRC, ARG_MAX_COUNT, &job.nsrc, f);
    if (!src)
        return -f->num;
    job.src = src;
    return work(in, copy_run, &job, f); /* the child has its own copy of all this */
}

static int enter_image(struct fail *f)
{
    return chroot(ROOT_DIR) < 0 || chdir("/") < 0 ? fail_sys(f, errno, "enter it") : 0;
}

static void do_workdir(void *ctx, struct fail *f)
{
    const char *dir = ctx;
    if (enter_image(f) < 0)
        return;
    int r = make_dirs(dir, 0755);
    if (r == 0 && chdir(dir) < 0)
        r = -errno;
    if (r < 0)
        fail_sys(f, -r, "make the directory %s", dir);
}

static int step_workdir(struct init *in, const struct req *r, struct fail *f)
{
    char dst[1024];
    if (!req_str(r, GP_T_DST, dst, sizeof(dst)) || dst[0] != '/')
        return fail_set(f, EINVAL, "WORKDIR needs an absolute DST");
    return work(in, do_workdir, dst, f);
}

/* ---- RUN ---- */

static void on_run_started(struct proc *p, const struct fail *f)
{
    struct init *in = container_of(p, struct init, build.proc);
    in->build.result = *f;
}

static void reply_run(void *ctx)
{
    struct init *in = ctx;
    struct build *b = &in->build;
    int status = b->status;
    if (b->result.num) {
        reply_step(in, &b->result, true, b->result.num == ENOENT ? 127 : 126);
        return;
    }
    uint32_t code =
        WIFSIGNALED(status) ? 128u + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
    if (code && oom_count() > b->ooms) {
        struct fail f;
        fail_set(&f, ENOMEM, "the command ran out of memory");
        reply_step(in, &f, true, code);
        return;
    }
    reply_step(in, NULL, true, code);
}

/* The pid namespace is gone and with it everything the command left running, so its output
 * ends; the reply comes after the host has it all. */
static void on_run_exited(struct proc *p, int status)
{
    struct init *in = container_of(p, struct init, build.proc);
    in->build.status = status;
    logs_when_quiet(&in->logs, reply_run, in);
}

static int step_run(struct init *in, const struct req *r, struct fail *f)
{
    struct build *b = &in->build;
    char user[256], workdir[1024];
    uint32_t shell, all;
    size_t argc;
    if (!req_str(r, GP_T_USER, user, sizeof(user)) ||
        !req_str(r, GP_T_WORKDIR, workdir, sizeof(workdir)) ||
        !req_u32(r, GP_T_SHELL, 0, &shell) || !req_u32(r, GP_T_CAPS_ALL, 0, &all))
        return fail_set(f, EINVAL, "a field of RUN is malformed");
    AUTO_FREE char **argv = req_list(r, GP_T_ARG, ARG_MAX_COUNT, &argc, f);
    AUTO_FREE char **env = argv ? req_list(r, GP_T_ENV, ENV_MAX, NULL, f) : NULL;
    if (!env)
        return -f->num;
    char sh[] = "/bin/sh", dash_c[] = "-c";
    char *by_shell[] = {sh, dash_c, argv[0], NULL};
    if (argc == 0 || (shell && argc != 1))
        return fail_set(f, EINVAL, "RUN needs a command, and one text for the shell form");
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return fail_sys(f, errno, "make a pipe");
    AUTO_CLOSE int out = fds[1];
    int err = logs_attach(&in->logs, fds[0], LOG_BUILD);
    if (err < 0)
        return fail_sys(f, -err, "read the command's output");
    struct plan plan = {
        .kind = PLAN_NEW,
        .argv = shell ? by_shell : argv,
        .env = env,
        .user = user,
        .workdir = workdir,
        .hostname = in->hostname,
        .caps_all = all != 0,
        .make_workdir = true,
        .fds = {-1, out, out},
        .cgroup = in->freezer.main_dir,
    };
    plan.nbinds = app_binds(true, &plan.binds);
    b->ooms = oom_count();
    b->proc.started = on_run_started;
    b->proc.exited = on_run_exited;
    return proc_start(&in->procs, &b->proc, &plan, f);
}

/* ---- the end ---- */

/* The places of what every application is shown: made once here, not by each of its starts. */
static void do_places(void *ctx, struct fail *f)
{
    const struct bind *binds;
    size_t n = app_binds(false, &binds);
    (void)ctx;
    if (enter_image(f) < 0)
        return;
    for (size_t i = 0; i + 1 < n; i++) /* the last is in /proc */
        sandbox_place(&binds[i]);      /* the start tries again */
}

static void on_end_gone(struct proc *p, int status)
{
    struct init *in = container_of(p, struct init, build.proc);
    struct fail f = in->build.result;
    uint32_t id = in->build.id;
    (void)status;
    in->build.id = 0;
    trim_disk();
    app_unmount(in, &f);
    ctl_fail(in, id, &f);
}

/* ---- requests ---- */

void build_step(struct init *in, const struct req *r)
{
    struct build *b = &in->build;
    struct fail f = {.num = 0};
    uint32_t op;
    if (!req_u32(r, GP_T_OP, 0, &op))
        op = 0;
    if (b->id)
        fail_set(&f, EBUSY, "a build step is under way already");
    else if (!in->app.mounted || !in->app.writable)
        fail_set(&f, EROFS, "a build needs a writable root (GP_MOUNT_ROOT comes first)");
    else if (in->app.starting || in->app.running)
        fail_set(&f, EBUSY, "the application runs: it is too late to build");
    else if (op == GP_BUILD_CONTEXT)
        step_context(in, r, &f);
    else if (op == GP_BUILD_RUN)
        step_run(in, r, &f);
    else if (op == GP_BUILD_COPY)
        step_copy(in, r, &f);
    else if (op == GP_BUILD_WORKDIR)
        step_workdir(in, r, &f);
    else
        fail_set(&f, EOPNOTSUPP, "this guest does not know build step %u", op);
    if (f.num)
        ctl_fail(in, r->id, &f);
    else
        b->id = r->id;
}

void build_end(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    if (in->build.id || in->app.running) {
        fail_set(&f, EBUSY, "something still runs on the root");
    } else if (in->app.mounted && work(in, do_places, NULL, &f) == 0) {
        in->build.id = r->id;
        in->build.proc.exited = on_end_gone;
        return;
    }
    ctl_fail(in, r->id, &f);
}

void build_init(struct init *in)
{
    in->build = (struct build){.id = 0};
    in->build.proc.err.fd = -1;
}
