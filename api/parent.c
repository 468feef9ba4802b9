// SPDX-License-Identifier: Apache-2.0
/*
 * The privileged parent; see parent.h. One loop over the api role's socket and
 * a signalfd. A slot's microVM is LIVE until its process was reaped.
 */
#include "parent_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/ctl.h"
#include "cgroup.h"
#include "netlink.h"
#include "nft.h"

#define MEM_MAX     (64ull << 30)
#define CPU_MAX     6400u
#define PAUSE_MIN   100 /* ms before the api role is started again */
#define PAUSE_MAX   5000
#define REAP_LIMIT  10000 /* ms for killed microVMs to be gone */
#define STABLE_SECS 60
#define QUICK_SECS  2
#define QUICK_MAX   8 /* after so many lives that short the microVMs are ended, too */

static int answer(int sock, uint32_t type, uint32_t id, const void *body, size_t len,
                  const int *fds, size_t nfds)
{
    struct err e = ERR_INIT;
    int r = msg_send(sock, type, id, body, len, fds, nfds, &e);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        log_err(LOG_WARN, &e, "answer the api role");
    return r;
}

static int answer_fail(int sock, uint32_t id, const struct err *e)
{
    struct ctl_fail f = {.num = e->num};
    snprintf(f.msg, sizeof f.msg, "%s", e->msg);
    snprintf(f.hint, sizeof f.hint, "%s", e->hint);
    return answer(sock, PRIV_FAIL, id, &f, sizeof f, NULL, 0);
}

/* ---- slots ---- */

static int do_spawn(struct parent *p, int sock, struct err *e)
{
    const struct priv_spawn *s = msg_body(&p->msg, sizeof *s);
    if (!s || p->msg.nfds != 1 || s->slot >= PRIV_SLOTS || s->vcpus == 0 ||
        s->vcpus > CTL_VCPUS_MAX || s->mem_bytes == 0 || s->mem_bytes > MEM_MAX ||
        s->want_tap > 1 || s->cpu_percent > CPU_MAX || p->slots[s->slot].state != SLOT_FREE)
        return err_set(e, EPROTO, "the api role sent an impossible PRIV_SPAWN");
    struct slot *slot = &p->slots[s->slot];
    struct err why = ERR_INIT;
    AUTO_CLOSE int tap = -1, group = -1, pidfd = -1, listener = -1;
    pid_t pid = 0;
    int index = 0;
    int r = s->want_tap ? tap_open(p->netlink, s->slot, &tap, &index, &why) : 0;
    if (r == 0)
        r = cgroup_make(p->cgroup, s->slot, s->mem_bytes, s->cpu_percent, &group, &why);
    if (r == 0)
        r = adopt_listen(p, s->slot, &listener, &why);
    if (r == 0)
        r = spawn_vmm(&p->host, PARENT_VMM_UID + s->slot, s->vcpus, p->msg.fds[0], listener,
                      group, &pid, &pidfd, &why);
    if (r < 0) {
        adopt_forget(p, s->slot);
        log_err(LOG_WARN, &why, "start a microVM process");
        answer_fail(sock, p->msg.id, &why);
        return 0;
    }
    struct priv_spawned done = {.pid = pid, .slot = s->slot};
    int fds[2] = {pidfd, tap};
    *slot = (struct slot){
        .state = SLOT_LIVE, .pid = pid, .pidfd = take_fd(&pidfd), .tap_index = index};
    answer(sock, PRIV_DONE, p->msg.id, &done, sizeof done, fds, s->want_tap ? 2 : 1);
    spawn_renew(&p->host);
    return 0;
}

static int do_address(struct parent *p, int sock, struct err *e)
{
    const struct priv_address *a = msg_body(&p->msg, sizeof *a);
    if (!a || p->msg.nfds || a->slot >= PRIV_SLOTS || p->msg.id == 0 ||
        p->slots[a->slot].state == SLOT_FREE || !p->slots[a->slot].tap_index ||
        (p->slots[a->slot].ip && p->slots[a->slot].ip != a->ip) ||
        priv_guest_index(a->ip) >= PRIV_ADDRESSES)
        return err_set(e, EPROTO, "the api role sent an impossible PRIV_ADDRESS");
    struct slot *slot = &p->slots[a->slot];
    struct err why = ERR_INIT;
    int r = 0;
    for (uint32_t n = 0; n < PRIV_SLOTS && r == 0; n++) {
        const struct slot *s = &p->slots[n];
        if (s != slot && s->state == SLOT_LIVE && s->ip == a->ip && !s->release_id)
            r = err_set(&why, EADDRINUSE, "another microVM has the address");
    }
    if (r == 0)
        r = tap_address(p->netlink, slot->tap_index, a->ip, &why);
    if (r < 0) {
        answer_fail(sock, p->msg.id, &why);
        return 0;
    }
    slot->ip = a->ip;
    answer(sock, PRIV_DONE, p->msg.id, NULL, 0, NULL, 0);
    return 0;
}

static void slot_free(struct parent *p, int sock, uint32_t n)
{
    struct slot *s = &p->slots[n];
    adopt_forget(p, n);
    if (s->pidfd >= 0)
        close(s->pidfd);
    if (s->release_id && sock >= 0)
        answer(sock, PRIV_DONE, s->release_id, NULL, 0, NULL, 0);
    *s = (struct slot){.state = SLOT_FREE, .pidfd = -1};
}

static int do_slot(struct parent *p, int sock, struct err *e)
{
    const struct priv_slot *b = msg_body(&p->msg, sizeof *b);
    bool release = p->msg.type == PRIV_RELEASE;
    if (!b || p->msg.nfds || b->slot >= PRIV_SLOTS || p->msg.id == 0 ||
        p->slots[b->slot].state == SLOT_FREE || (release && p->slots[b->slot].release_id))
        return err_set(e, EPROTO, "the api role sent an impossible PRIV_%s",
                       release ? "RELEASE" : "KILL");
    struct slot *s = &p->slots[b->slot];
    if (s->state == SLOT_LIVE)
        spawn_kill(s->pidfd);
    if (!release) {
        answer(sock, PRIV_DONE, p->msg.id, NULL, 0, NULL, 0);
        return 0;
    }
    s->release_id = p->msg.id;
    if (s->state == SLOT_DEAD)
        slot_free(p, sock, b->slot);
    return 0;
}

/* One of the files that the settings name, opened anew: the child cannot. */
static int do_file(struct parent *p, int sock, struct err *e)
{
    const struct priv_file *b = msg_body(&p->msg, sizeof *b);
    if (!b || p->msg.nfds || p->msg.id == 0 || b->which >= PRIV_FILES || !p->c->files[b->which])
        return err_set(e, EPROTO, "the api role sent an impossible PRIV_FILE");
    struct err why = ERR_INIT;
    const char *path = p->c->files[b->which];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        err_sys(&why, errno, "open '%s'", path);
        answer_fail(sock, p->msg.id, &why);
    } else {
        answer(sock, PRIV_DONE, p->msg.id, NULL, 0, &fd, 1);
    }
    return 0;
}

/* The next slot that is taken, from the one named on. */
static int do_adopt(struct parent *p, int sock, struct err *e)
{
    const struct priv_slot *b = msg_body(&p->msg, sizeof *b);
    if (!b || p->msg.nfds || b->slot > PRIV_SLOTS || p->msg.id == 0)
        return err_set(e, EPROTO, "the api role sent an impossible PRIV_ADOPT");
    uint32_t n = b->slot;
    while (n < PRIV_SLOTS && p->slots[n].state == SLOT_FREE)
        n++;
    struct priv_spawned found = {.slot = n};
    AUTO_CLOSE int ctl = -1;
    if (n < PRIV_SLOTS && p->slots[n].state == SLOT_LIVE) {
        found.pid = p->slots[n].pid;
        adopt_connect(p, n, &ctl, NULL); /* without one it can only be released */
    }
    int fds[2] = {n < PRIV_SLOTS ? p->slots[n].pidfd : -1, ctl};
    answer(sock, PRIV_DONE, p->msg.id, &found, sizeof found, fds, ctl >= 0 ? 2 : 0);
    return 0;
}

static int on_message(struct parent *p, int sock, struct err *e)
{
    int r = msg_recv(sock, &p->msg, e);
    if (r < 0)
        return r == -EBADMSG ? err_set(e, EPROTO, "the api role sent a malformed message") : r;
    switch (p->msg.type) {
    case PRIV_SPAWN:
        r = do_spawn(p, sock, e);
        break;
    case PRIV_ADDRESS:
        r = do_address(p, sock, e);
        break;
    case PRIV_ADOPT:
        r = do_adopt(p, sock, e);
        break;
    case PRIV_KILL:
    case PRIV_RELEASE:
        r = do_slot(p, sock, e);
        break;
    case PRIV_FILE:
        r = do_file(p, sock, e);
        break;
    default:
        r = err_set(e, EPROTO, "the api role sent an unknown message %u", p->msg.type);
    }
    msg_close_fds(&p->msg);
    return r;
}

void parent_slot_ended(struct parent *p, int sock, uint32_t n, int status)
{
    struct slot *s = &p->slots[n];
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        log_warn("the process of slot %u was ended by signal %d", n, WTERMSIG(status));
    s->state = SLOT_DEAD;
    if (s->release_id)
        slot_free(p, sock, n);
}

static void on_signal(struct parent *p, int sock)
{
    struct signalfd_siginfo si;
    int status;
    pid_t pid;
    while (read(p->sigfd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo != SIGCHLD) {
            p->stopping = true;
            if (p->api)
                kill(p->api, SIGTERM);
        }
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == p->api) {
            p->api = 0;
            p->api_status = status;
        }
        for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
            if (p->slots[n].state == SLOT_LIVE && !p->slots[n].adopted &&
                p->slots[n].pid == pid)
                parent_slot_ended(p, sock, n, status);
        }
    }
}

/* Ends what is left; waits until every process is reaped, for a limited time. */
static void end_all(struct parent *p)
{
    unsigned left = 0;
    for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
        struct slot *s = &p->slots[n];
        if (s->state == SLOT_LIVE) {
            spawn_kill(s->pidfd);
            left++;
        }
    }
    if (left)
        log_info("ending %u microVM processes the api role left", left);
    for (int waited = 0; left && waited < REAP_LIMIT;) {
        struct pollfd pf[2] = {{.fd = p->sigfd, .events = POLLIN},
                               {.fd = p->ends, .events = POLLIN}};
        if (poll(pf, 2, 100) == 0)
            waited += 100;
        on_signal(p, -1);
        adopt_on_ends(p, -1);
        left = 0;
        for (uint32_t n = 0; n < PRIV_SLOTS; n++)
            left += p->slots[n].state == SLOT_LIVE;
    }
    for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
        if (p->slots[n].state == SLOT_DEAD)
            slot_free(p, -1, n);
    }
    if (left)
        log_error("%u microVM processes do not end", left);
}

/* ---- the role ---- */

static time_t seconds_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

static int serve(struct parent *p, int sock, void *ctx, struct err *e)
{
    const struct parent_config *c = p->c;
    time_t next = seconds_now() + c->refresh_s;
    int r = 0;
    while (r == 0) {
        time_t left = next - seconds_now();
        if (c->refresh && left <= 0) {
            c->refresh(ctx);
            left = c->refresh_s;
            next = seconds_now() + left;
        }
        struct pollfd pf[3] = {{.fd = sock, .events = POLLIN},
                               {.fd = p->sigfd, .events = POLLIN},
                               {.fd = p->ends, .events = POLLIN}};
        if (poll(pf, 3, c->refresh ? (int)left * 1000 : -1) < 0 && errno != EINTR)
            r = err_sys(e, errno, "wait for the api role");
        if (pf[1].revents)
            on_signal(p, sock);
        if (pf[2].revents)
            adopt_on_ends(p, sock);
        if (pf[0].revents)
            r = on_message(p, sock, e);
    }
    return r == -ECONNRESET ? 0 : r;
}

static void parent_close(struct parent *p)
{
    spawn_close(&p->host);
    int *const fds[] = {&p->sigfd,   &p->cgroup, &p->netlink,  &p->host.kvm,
                        &p->sockets, &p->ends,   &p->host.null};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
    }
    sigprocmask(SIG_SETMASK, &p->old_mask, NULL);
    free(p);
}

static int parent_open(struct parent **ret, const struct parent_config *c, struct err *e)
{
    struct parent *p = calloc(1, sizeof *p);
    if (!p)
        return err_sys(e, ENOMEM, "start the parent role");
    p->c = c;
    p->host =
        (struct spawn_host){.vmm_path = c->vmm_path, .kvm = -1, .null = -1, .nursery = -1};
    p->sigfd = p->cgroup = p->netlink = p->sockets = p->ends = -1;
    for (size_t i = 0; i < PRIV_SLOTS; i++)
        p->slots[i].pidfd = -1;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, &p->old_mask);
    int r = 0;
    p->sigfd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    p->host.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (p->sigfd < 0 || p->host.null < 0)
        r = err_sys(e, errno, "start the parent role");
    if (r == 0 && (p->host.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) {
        err_sys(e, errno, "open /dev/kvm");
        r = err_hint(e, "the host needs KVM: bare metal, or virtualization with EL2");
    }
    if (r == 0 && access(c->vmm_path, X_OK) < 0)
        r = err_sys(e, errno, "find the program '%s'", c->vmm_path);
    if (r == 0)
        r = netlink_open(&p->netlink, e);
    if (r == 0)
        r = cgroup_open(&p->cgroup, e);
    if (r == 0)
        r = adopt_open(p, e);
    if (r == 0)
        r = adopt_leftovers(p, e);
    if (r == 0) {
        r = nft_load(c->nft_path ? c->nft_path : "/usr/sbin/nft", e);
    }
    if (r < 0) {
        parent_close(p);
        return r;
    }
    *ret = p;
    return 0;
}

/* In the child, which gives up its privileges by itself as soon as it has what needs them. */
static void become_api(struct parent *p, pid_t parent, int sock,
                       int (*role)(void *ctx, int sock), void *ctx)
{
    /* Not in order: that would end the microVMs, which the next daemon takes over. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(1);
    if (p->host.nursery >= 0) { /* the parent's to end */
        close(take_fd(&p->host.nursery));
        close(p->host.nursery_pidfd);
    }
    parent_close(p);
    exit(role(ctx, sock));
}

static int one_life(struct parent *p, int (*role)(void *ctx, int sock), void *ctx,
                    struct err *e)
{
    int pair[2];
    int r = msg_pair(pair, e);
    if (r < 0)
        return r;
    AUTO_CLOSE int ours = pair[0], theirs = pair[1];
    pid_t self = getpid(), pid = fork();
    if (pid < 0)
        return err_sys(e, errno, "start the api role");
    if (pid == 0) {
        close(ours);
        become_api(p, self, take_fd(&theirs), role, ctx);
    }
    p->api = pid;
    close(take_fd(&theirs));
    spawn_renew(&p->host);
    r = serve(p, ours, ctx, e);
    if (r < 0) {
        log_err(LOG_ERROR, e, "the api role is ended");
        if (p->api)
            kill(p->api, SIGKILL);
    }
    close(take_fd(&ours));
    while (p->api) {
        struct pollfd pf = {.fd = p->sigfd, .events = POLLIN};
        poll(&pf, 1, -1);
        on_signal(p, -1);
    }
    return r;
}

int parent_supervise(const struct parent_config *c, int (*role)(void *ctx, int sock), void *ctx,
                     struct err *e)
{
    struct parent *p = NULL;
    unsigned quick = 0;
    int pause_ms = PAUSE_MIN, r = parent_open(&p, c, e);
    if (r < 0)
        return r;
    for (;;) {
        struct timespec begin, now;
        struct err why = ERR_INIT;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        r = one_life(p, role, ctx, &why);
        if (p->stopping || (WIFEXITED(p->api_status) && WEXITSTATUS(p->api_status) == 0))
            break;
        clock_gettime(CLOCK_MONOTONIC, &now);
        quick = now.tv_sec - begin.tv_sec <= QUICK_SECS ? quick + 1 : 0;
        if (now.tv_sec - begin.tv_sec >= STABLE_SECS)
            pause_ms = PAUSE_MIN;
        /* If it is one of them that it stumbles over: */
        if (quick == QUICK_MAX)
            end_all(p);
        for (uint32_t n = 0; n < PRIV_SLOTS; n++)
            p->slots[n].release_id = 0; /* the next one releases what it does not take */
        log_error("the api role ended (status 0x%x), starting it again in %d ms",
                  (unsigned)p->api_status, pause_ms);
        struct pollfd pf = {.fd = p->sigfd, .events = POLLIN};
        poll(&pf, 1, pause_ms);
        on_signal(p, -1);
        if (p->stopping)
            break;
        pause_ms = MIN(pause_ms * 2, PAUSE_MAX);
    }
    end_all(p);
    for (uint32_t n = 0; n < PRIV_SLOTS; n++)
        cgroup_remove(p->cgroup, n);
    parent_close(p);
    return 0;
}
