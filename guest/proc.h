// SPDX-License-Identifier: Apache-2.0
/*
 * Child processes of init: started from a plan, followed through a pipe that
 * tells why the start failed (it closes at exec), and reaped.
 */
#ifndef DORMOUSE_GUEST_PROC_H
#define DORMOUSE_GUEST_PROC_H

#include <sys/types.h>

#include "loop.h"
#include "util.h"

#define ROOT_DIR "/app" /* where init mounts the application's root */

/* One file or directory of init's, shown to the application. */
struct bind {
    const char *from, *to;
    bool read_only, dir;
};

enum plan_kind {
    PLAN_NEW,  /* in fresh namespaces, with the application's disk as root */
    PLAN_JOIN, /* in the namespaces of the process `join_pidfd` */
};

/* What the child is to become. Everything is read in the child only. */
struct plan {
    enum plan_kind kind;
    char *const *argv, *const *env;
    const char *user, *workdir, *hostname;
    bool caps_all, no_new_privs;
    bool make_workdir;
    int fds[3];     /* stdin, stdout, stderr; -1: /dev/null */
    bool tty;       /* fds[0] becomes the controlling terminal */
    int join_pidfd; /* PLAN_JOIN */
    int cgroup;     /* directory fd the child is born in, or -1 */
    const struct bind *binds;
    size_t nbinds;
};

struct procs;

struct proc {
    struct proc *next;
    struct procs *procs;
    pid_t pid; /* 0: not running */
    int pidfd;
    struct ev err; /* the pipe; -1 once it closed */
    bool work;     /* a proc_work() child: the pipe always carries a result */
    size_t got;    /* bytes of `fail` that came */
    struct fail fail;
    void (*started)(struct proc *p, const struct fail *f); /* f->num 0: exec succeeded */
    void (*exited)(struct proc *p, int status);            /* as from waitpid() */
};

struct procs {
    struct loop *loop;
    struct ev sig;
    struct proc *list;
};

int procs_init(struct procs *ps, struct loop *l);
/* Starts the plan. 0, or -errno with f set and no callback to come. */
int proc_start(struct procs *ps, struct proc *p, const struct plan *plan, struct fail *f);
/* Runs fn in a child of init's own kind. What fn leaves in `f` is the result that
 * started() gets, when the child is done. */
int proc_work(struct procs *ps, struct proc *p, void (*fn)(void *ctx, struct fail *f),
              void *ctx, struct fail *f);
/* In a child: becomes the plan; returns only on failure, with f set. */
void plan_exec(const struct plan *plan, struct fail *f);
/* Mounts, hostname and so on for PLAN_NEW (sandbox.c). */
int sandbox_enter(const struct plan *plan, struct fail *f);
/* Makes the place that `b` is to appear at, in this process's root. */
bool sandbox_place(const struct bind *b);
/* User, groups, capabilities (creds.c); `home` is where HOME comes from. */
int creds_apply(const struct plan *plan, char *home, size_t size, struct fail *f);

#endif
