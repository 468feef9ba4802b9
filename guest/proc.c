// SPDX-License-Identifier: Apache-2.0
/* See proc.h. */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- in the child ---- */

static const char *env_get(char *const *env, const char *name)
{
    size_t len = strlen(name);
    for (; env && *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* Like the shell and Docker: a name with a slash as it is, another along PATH. */
static int exec_found(char *const *argv, char *const *env, struct fail *f)
{
    const char *name = argv[0];
    if (strchr(name, '/')) {
        execve(name, argv, env);
    } else {
        const char *path = env_get(env, "PATH");
        int seen = ENOENT;
        for (path = path ? path : PATH_DEFAULT; *path;) {
            char full[4096];
            size_t len = strcspn(path, ":");
            int n = text_put(full, sizeof(full), "%.*s/%s", (int)len, len ? path : ".", name);
            path += len + (path[len] == ':');
            if (n < 0 || (size_t)n >= sizeof(full))
                continue;
            execve(full, argv, env);
            if (errno != ENOENT && errno != ENOTDIR) {
                seen = errno;
                if (errno != EACCES)
                    break;
            }
        }
        if (seen == ENOENT)
            return fail_set(f, ENOENT, "exec: \"%s\": executable file not found in $PATH",
                            name);
        errno = seen;
    }
    int err = errno;
    if (err == ENOEXEC)
        return fail_set(f, err,
                        "exec: \"%s\": exec format error (not an arm64 program, or a "
                        "script without #! line)",
                        name);
    if (err == ENOENT && access(name, F_OK) == 0)
        return fail_set(f, err,
                        "exec: \"%s\": its interpreter or loader does not exist in the "
                        "image",
                        name);
    return fail_sys(f, err, "exec: \"%s\"", name);
}

static int set_fds(const struct plan *plan, struct fail *f)
{
    for (int i = 0; i < 3; i++) {
        int fd = plan->fds[i];
        if (fd < 0)
            fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return fail_sys(f, errno, "open /dev/null");
        /* fds of plans are above 2: init holds 0 to 2 itself */
        if (dup2(fd, i) < 0)
            return fail_sys(f, errno, "dup2");
    }
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;
    signal(SIGPIPE, SIG_DFL); /* the only one that is ignored; exec() sees to handlers */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void set_limits(void)
{
    struct rlimit files = {1024, 1048576}, all = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit core = {0, RLIM_INFINITY};
    const struct {
        int what;
        const struct rlimit *to;
    } limits[] = {{RLIMIT_NOFILE, &files}, {RLIMIT_NPROC, &all}, {RLIMIT_CORE, &core}};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) /* not setrlimit(): see creds.c */
        syscall(SYS_prlimit64, 0, limits[i].what, limits[i].to, NULL);
}

/* The environment with HOME and PATH when they are missing. */
static char **full_env(char *const *env, const char *home)
{
    size_t n = 0;
    while (env && env[n])
        n++;
    char **list = calloc(n + 3, sizeof(*list));
    char *text = list ? malloc(strlen(home) + 6) : NULL;
    if (!text)
        return NULL;
    for (size_t i = 0; i < n; i++)
        list[i] = env[i];
    if (!env_get(env, "PATH"))
        list[n++] = (char *)(uintptr_t)("PATH=" PATH_DEFAULT);
    if (!env_get(env, "HOME")) {
        strcpy(text, "HOME=");
        strcat(text, home);
        list[n] = text;
    }
    return list;
}

static int enter_workdir(const struct plan *plan, struct fail *f)
{
    const char *dir = plan->workdir && *plan->workdir ? plan->workdir : "/";
    if (*dir != '/')
        return fail_set(f, EINVAL, "the working directory \"%s\" is not an absolute path", dir);
    int r = plan->make_workdir ? make_dirs(dir, 0755) : 0;
    if (r < 0 && r != -EROFS)
        return fail_sys(f, -r, "create the working directory \"%s\"", dir);
    return 0;
}

void plan_exec(const struct plan *plan, struct fail *f)
{
    char home[256];
    if (!plan->argv || !plan->argv[0] || !plan->argv[0][0]) {
        fail_set(f, EINVAL, "no command specified");
        return;
    }
    write_file("/proc/self/oom_score_adj", "0");
    reset_signals();
    setsid();
    if (plan->kind == PLAN_JOIN &&
        syscall(SYS_setns, plan->join_pidfd,
                CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP) < 0) {
        fail_sys(f, errno, "enter the application's namespaces");
        return;
    }
    if (plan->kind == PLAN_NEW && sandbox_enter(plan, f) < 0)
        return;
    umask(022);
    if (set_fds(plan, f) < 0 || enter_workdir(plan, f) < 0)
        return;
    if (plan->tty && ioctl(0, TIOCSCTTY, 0) < 0) {
        fail_sys(f, errno, "take the terminal");
        return;
    }
    set_limits();
    if (creds_apply(plan, home, sizeof(home), f) < 0)
        return;
    const char *dir = plan->workdir && *plan->workdir ? plan->workdir : "/";
    if (chdir(dir) < 0) {
        fail_sys(f, errno, "change to the working directory \"%s\"", dir);
        return;
    }
    char **env = full_env(plan->env, home);
    if (!env) {
        fail_set(f, ENOMEM, "out of memory");
        return;
    }
    exec_found(plan->argv, env, f);
}

/* ---- in init ---- */

static void finish_start(struct proc *p)
{
    loop_del(p->procs->loop, &p->err);
    if (p->got == 0 && !p->work)
        p->fail.num = 0;
    else if (p->got != sizeof(p->fail))
        fail_set(&p->fail, EIO, "a process of init died before its work was done");
    p->fail.text[sizeof(p->fail.text) - 1] = '\0';
    if (p->started)
        p->started(p, &p->fail);
}

/* True at the end of the pipe. */
static bool read_result(struct proc *p)
{
    for (;;) {
        ssize_t n = read(p->err.fd, (char *)&p->fail + p->got, sizeof(p->fail) - p->got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            return true;
        p->got += (size_t)n;
    }
}

static void on_result(struct ev *ev, uint32_t events)
{
    struct proc *p = container_of(ev, struct proc, err);
    int fd = ev->fd;
    (void)events;
    if (read_result(p)) {
        finish_start(p);
        close(fd);
    }
}

static void forget(struct proc *p)
{
    for (struct proc **at = &p->procs->list; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    p->pid = 0;
    close_fd(&p->pidfd);
}

static void on_child(struct ev *ev, uint32_t events)
{
    struct procs *ps = container_of(ev, struct procs, sig);
    struct signalfd_siginfo info;
    (void)events;
    /* signals merge, so the count of events says nothing: reap all there are */
    if (read(ev->fd, &info, sizeof(info)) < 0 && errno != EAGAIN)
        complain("read signals: %s", strerror(errno));
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct proc *p = ps->list;
        while (p && p->pid != pid)
            p = p->next;
        if (!p)
            continue; /* an orphan that was given to init */
        if (p->err.fd >= 0) {
            int fd = p->err.fd;
            read_result(p);
            finish_start(p);
            close(fd);
        }
        forget(p);
        if (p->exited)
            p->exited(p, status);
    }
}

int procs_init(struct procs *ps, struct loop *l)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    *ps = (struct procs){.loop = l, .sig = {.fd = -1, .fn = on_child}};
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : loop_add(l, &ps->sig, fd, EPOLLIN);
}

static pid_t do_clone(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
    };
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)cgroup;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Forks with the result pipe in place. Returns 0 in the child, with *err_fd its end. */
static pid_t start(struct procs *ps, struct proc *p, uint64_t flags, int cgroup, int *err_fd,
                   struct fail *f)
{
    int pipe_fds[2];
    p->procs = ps;
    p->got = 0;
    p->pidfd = -1;
    p->err.fn = on_result;
    p->err.fd = -1;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return fail_sys(f, errno, "make a pipe");
    pid_t pid = do_clone(flags, cgroup, &p->pidfd);
    if (pid == 0) {
        *err_fd = pipe_fds[1];
        return 0;
    }
    int err = errno;
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        return fail_sys(f, err, "start a process");
    }
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    p->pid = pid;
    p->next = ps->list;
    ps->list = p;
    int r = loop_add(ps->loop, &p->err, pipe_fds[0], EPOLLIN);
    if (r < 0) {
        close(pipe_fds[0]);
        kill(pid, SIGKILL);
    }
    return pid;
}

int proc_start(struct procs *ps, struct proc *p, const struct plan *plan, struct fail *f)
{
    int err_fd = -1;
    p->work = false;
    pid_t pid = start(ps, p, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC,
                      plan->cgroup, &err_fd, f);
    if (pid != 0)
        return pid < 0 ? (int)pid : 0;
    struct fail why = {.num = 0};
    plan_exec(plan, &why);
    write_full(err_fd, &why, sizeof(why));
    _exit(127);
}

int proc_work(struct procs *ps, struct proc *p, void (*fn)(void *ctx, struct fail *f),
              void *ctx, struct fail *f)
{
    int err_fd = -1;
    p->work = true;
    pid_t pid = start(ps, p, 0, -1, &err_fd, f);
    if (pid != 0)
        return pid < 0 ? (int)pid : 0;
    struct fail result = {.num = 0};
    fn(ctx, &result);
    write_full(err_fd, &result, sizeof(result));
    _exit(0);
}
