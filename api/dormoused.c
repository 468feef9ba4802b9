// SPDX-License-Identifier: Apache-2.0
/*
 * dormoused: reads its settings, then becomes the privileged parent, which
 * starts and supervises the api role (role.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "certs.h"
#include "config.h"
#include "durable.h"
#include "layers.h"
#include "parent.h"
#include "role.h"

#ifndef DORMOUSE_VERSION
#define DORMOUSE_VERSION "unknown"
#endif

#define CERT_RENEW_S (12 * 3600)

static int fail(const struct err *e)
{
    fprintf(stderr, "error: %s\n", e->msg);
    if (e->hint[0])
        fprintf(stderr, "  try:  %s\n", e->hint);
    return 1;
}

static enum log_level level_of(const char *name)
{
    return name[0] == 'e'   ? LOG_ERROR
           : name[0] == 'w' ? LOG_WARN
           : name[0] == 'd' ? LOG_DEBUG
                            : LOG_INFO;
}

/* Connections, files of microVMs and their sockets: take what the system allows. */
static void raise_limits(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = MIN(l.rlim_max, (rlim_t)65536);
        setrlimit(RLIMIT_NOFILE, &l);
    }
    l = (struct rlimit){0, 0};
    setrlimit(RLIMIT_CORE, &l);
}

/* For nftw(), which takes no context: the owner to give, and what stays root's. */
static uid_t owner;
static char kept[600];

static int give(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    size_t n = strlen(kept);
    (void)type;
    (void)ftw;
    if (strncmp(path, kept, n) == 0 && (path[n] == '\0' || path[n] == '/'))
        return 0;
    return st->st_uid == owner ? 0 : lchown(path, owner, owner);
}

static int prepare(const struct config *c, struct err *e)
{
    AUTO_CLOSE int state = -1, run = -1;
    char ready[600];
    struct stat st;
    int r = durable_dir(AT_FDCWD, c->state, &state, e);
    if (r == 0)
        r = durable_dir(AT_FDCWD, c->run, &run, e);
    if (r < 0)
        return r;
    snprintf(ready, sizeof ready, "%s/ready", c->run);
    unlink(ready); /* of an earlier run that did not end in order */
    owner = (uid_t)c->api_uid;
    snprintf(kept, sizeof kept, "%s/ca", c->state);
    if (fstat(state, &st) < 0)
        return err_sys(e, errno, "look at '%s'", c->state);
    if (owner != 0 && st.st_uid != owner && nftw(c->state, give, 32, FTW_PHYS) != 0)
        return err_sys(e, errno, "give '%s' to user %u", c->state, owner);
    if (owner != 0 && fchown(run, owner, owner) < 0)
        return err_sys(e, errno, "give '%s' to user %u", c->run, owner);
    return 0;
}

/* In a process of its own: what later becomes the api role has never held the CA's key. */
static int ensure_certificate(const struct config *c, struct err *e)
{
    struct {
        int r;
        bool renewed;
        struct err e;
    } o = {.r = -EIO, .e = ERR_INIT};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "make certificates");
    pid_t pid = fork();
    if (pid == 0) {
        o.r = certs_ensure(c, &o.renewed, &o.e);
        _exit(write(ends[1], &o, sizeof o) == (ssize_t)sizeof o ? 0 : 1);
    }
    close(ends[1]);
    bool told = pid > 0 && read(ends[0], &o, sizeof o) == (ssize_t)sizeof o;
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (!told)
        return err_set(e, EIO, "the process that makes certificates failed");
    if (o.r < 0)
        *e = o.e;
    else if (o.renewed)
        log_info("made a server certificate; clients trust it through %s/ca.pem", c->state);
    return o.r;
}

/* The api role sees by itself that it has changed. */
static void renew_certificate(void *ctx)
{
    struct err e = ERR_INIT;
    if (ensure_certificate(ctx, &e) < 0)
        log_err(LOG_ERROR, &e, "renew the certificate");
}

static int api_role(void *ctx, int sock)
{
    const struct config *c = ctx;
    log_setup(level_of(c->log_level), "api");
    prctl(PR_SET_NAME, "dormoused-api", 0, 0, 0);
    return role_run(c, sock);
}

int main(int argc, char **argv)
{
    static struct config c;
    static char cert[CERTS_PATH], key[CERTS_PATH];
    struct err e = ERR_INIT;
    enum config_action action;
    if (config_load(&c, argc, argv, &action, &e) < 0) {
        fail(&e);
        return 2;
    }
    if (action == CONFIG_HELP) {
        AUTO_FREE char *text = config_help();
        fputs(text ? text : "", stdout);
        return 0;
    }
    if (action == CONFIG_VERSION) {
        puts("dormoused " DORMOUSE_VERSION);
        return 0;
    }
    umask(077);
    log_setup(level_of(c.log_level), "parent");
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signal(SIGHUP, SIG_IGN); /* the api role sees by itself that a certificate has changed */
    raise_limits();
    if (geteuid() != 0) {
        err_set(&e, EPERM, "dormoused must be started as root");
        err_hint(&e, "its network-facing part gives up all privileges at once");
        return fail(&e);
    }
    struct parent_config pc = {.vmm_path = c.vmm,
                               .nft_path = c.nft,
                               .run_dir = c.run,
                               .files = {[PRIV_TLS_CERT] = cert, [PRIV_TLS_KEY] = key},
                               .refresh = renew_certificate,
                               .refresh_s = CERT_RENEW_S};
    certs_paths(&c, cert, key);
    if (c.tls_client_ca[0])
        pc.files[PRIV_TLS_CLIENT_CA] = c.tls_client_ca;
    layers_allow_huge();
    int r = prepare(&c, &e);
    if (r == 0)
        r = ensure_certificate(&c, &e);
    if (r == 0)
        r = parent_supervise(&pc, api_role, &c, &e);
    return r < 0 ? fail(&e) : 0;
}
