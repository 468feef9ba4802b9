// SPDX-License-Identifier: Apache-2.0
/* The api role: set-up in order, the signal loop, the end in order; see role.h. */
#include "role.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "artifacts.h"
#include "ca.h"
#include "digest.h"
#include "durable.h"
#include "front.h"
#include "server.h"
#include "uuid.h"

#define STOP_GRACE_MS      5000
#define SILENCE_MS         (15 * 60 * 1000)
#define UPGRADE_SILENCE_MS (60 * 60 * 1000)
#define CERT_CHECK_S       10
#define CERT_RENEW_S       (12 * 3600)

struct role {
    const struct config *c;
    struct store *store;
    struct artifacts *artifacts;
    struct token_key *tokens;
    struct fleet *fleet;
    struct edge *edge;
    struct tls *tls;
    struct server *server;
    struct api api;
    struct front front;
    uint16_t public_port;
    char host[256];
    char cert[600], key[600];
    char tls_names[512];
    char ready[600];
};

static void state_path(const struct role *r, char *ret, size_t cap, const char *name)
{
    snprintf(ret, cap, "%s/%s", r->c->state, name);
}

/* ---- certificates ----------------------------------------------------------------------- */

static void add_name(struct ca_config *ca, const char *name)
{
    for (size_t i = 0; i < ca->nnames; i++) {
        if (strcmp(ca->names[i], name) == 0)
            return;
    }
    if (*name && ca->nnames < CA_NAMES_MAX)
        ca->names[ca->nnames++] = name;
}

static int ensure_certificate(struct role *r, bool *ret_renewed, struct err *e)
{
    const struct config *c = r->c;
    char dir[600], export_path[600], wildcard[300], lambda[300], more[sizeof r->tls_names];
    if (c->tls_cert[0]) {
        *ret_renewed = false;
        return 0;
    }
    state_path(r, dir, sizeof dir, "tls");
    state_path(r, export_path, sizeof export_path, "ca.pem");
    struct ca_config ca = {.dir = dir, .export_path = export_path, .now = time(NULL)};
    snprintf(wildcard, sizeof wildcard, "*.lambda-microvm.%s.%s", c->region, c->domain);
    snprintf(lambda, sizeof lambda, "lambda.%s.%s", c->region, c->domain);
    snprintf(more, sizeof more, "%s", c->tls_names);
    add_name(&ca, "localhost");
    add_name(&ca, wildcard);
    add_name(&ca, lambda);
    add_name(&ca, c->domain);
    add_name(&ca, "127.0.0.1");
    add_name(&ca, "::1");
    if (strcmp(c->listen, "0.0.0.0") != 0 && strcmp(c->listen, "::") != 0)
        add_name(&ca, c->listen);
    add_name(&ca, r->host);
    char *rest = more, *name;
    while ((name = strsep(&rest, ", ")))
        add_name(&ca, name);
    return ca_ensure(&ca, ret_renewed, e);
}

static int open_tls(struct role *r, struct err *e)
{
    const struct config *c = r->c;
    bool renewed = false;
    int n = tls_library_init(e);
    if (n == 0)
        n = ensure_certificate(r, &renewed, e);
    if (n < 0)
        return n;
    if (renewed)
        log_info("made a server certificate; clients trust it through %s/ca.pem", c->state);
    if (c->tls_cert[0]) {
        snprintf(r->cert, sizeof r->cert, "%s", c->tls_cert);
        snprintf(r->key, sizeof r->key, "%s", c->tls_key);
    } else {
        state_path(r, r->cert, sizeof r->cert, "tls/server.pem");
        state_path(r, r->key, sizeof r->key, "tls/server.key");
    }
    return tls_open(&r->tls, r->cert, r->key, e);
}

/* ---- the first access key -------------------------------------------------------------------
 */

static bool find_admin(void *ctx, const struct store_key *k)
{
    bool *found = ctx;
    *found = *found || strcmp(k->rights, "admin") == 0;
    return !*found;
}

static void make_key(struct store_key *k)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t raw[30];
    memset(k, 0, sizeof *k);
    random_fill(raw, sizeof raw);
    memcpy(k->id, "AKDM", 4);
    for (size_t i = 0; i < 16; i++)
        k->id[4 + i] = letters[raw[i] & 31];
    random_fill(raw, sizeof raw);
    base64url_encode(raw, sizeof raw, k->secret);
    explicit_bzero(raw, sizeof raw);
    snprintf(k->name, sizeof k->name, "first");
    snprintf(k->rights, sizeof k->rights, "admin");
    k->created_at = (double)time(NULL);
}

static int bootstrap_key(struct role *r, struct err *e)
{
    bool found = false;
    char text[512];
    struct store_key k;
    AUTO_CLOSE int dir = -1;
    int n = store_key_each(r->store, find_admin, &found, e);
    if (n < 0 || found)
        return n;
    make_key(&k);
    snprintf(text, sizeof text,
             "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\nAWS_REGION=%s\n", k.id, k.secret,
             r->c->region);
    /* The file first: after a crash in between there is no key yet, and a new one is made. */
    n = durable_dir(AT_FDCWD, r->c->state, &dir, e);
    if (n == 0)
        n = durable_write(dir, "bootstrap.env", text, strlen(text), 0600, e);
    if (n == 0)
        n = store_key_add(r->store, &k, e);
    explicit_bzero(text, sizeof text);
    explicit_bzero(&k, sizeof k);
    if (n == 0)
        log_info("made the first access key; it is in %s/bootstrap.env", r->c->state);
    return n;
}

/* ---- set-up -------------------------------------------------------------------------------
 */

static void on_done(void *ctx, const struct front_event *ev)
{
    (void)ctx;
    /* An application's paths may hold its users' secrets. */
    const char *path = strcmp(ev->kind, "edge") == 0 ? "-" : ev->path;
    log_line(ev->status >= 500 ? LOG_WARN : LOG_DEBUG, "%s %s %s status=%d took_ms=%lld req=%s",
             ev->kind, ev->method, path, ev->status, (long long)ev->took_ms, ev->id);
}

/* What root may do and this process need not. The port is bound by now. */
static int drop_capabilities(struct err *e)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_capset, &h, none) < 0)
        return err_sys(e, errno, "drop capabilities");
    return 0;
}

static int open_state(struct role *r, struct err *e)
{
    char path[600];
    struct artifacts_config ac = {.quota_bytes = r->c->artifact_quota_mib << 20,
                                  .object_bytes = r->c->artifact_max_mib << 20,
                                  .dir = path};
    state_path(r, path, sizeof path, "artifacts");
    int n = artifacts_open(&r->artifacts, &ac, e);
    if (n < 0)
        return n;
    state_path(r, path, sizeof path, "token.key");
    n = token_key_open(&r->tokens, path, e);
    if (n < 0)
        return n;
    state_path(r, path, sizeof path, "dormouse.db");
    n = store_open(&r->store, path, e);
    return n < 0 ? n : bootstrap_key(r, e);
}

static int open_fleet(struct role *r, int sock, struct err *e)
{
    const struct config *c = r->c;
    struct fleet_config fc = {
        .state_dir = c->state,
        .bases_dir = c->bases,
        .snapshot_key = c->snapshot_key,
        .kernel = c->kernel,
        .initrd = c->initrd,
        .domain = c->domain,
        .region = c->region,
        .account = c->account,
        .public_port = r->public_port,
        .parent_sock = sock,
    };
    int n = fleet_open(&r->fleet, &fc, r->store, r->artifacts, e);
    if (n < 0)
        return n;
    struct edge_config ec = {
        .store = r->store,
        .fleet = r->fleet,
        .tokens = r->tokens,
        .per_vm = (unsigned)c->vm_requests,
        .silence_ms = SILENCE_MS,
        .upgrade_silence_ms = UPGRADE_SILENCE_MS,
    };
    return edge_open(&r->edge, &ec, e);
}

static void join_parts(struct role *r)
{
    const struct config *c = r->c;
    r->api = (struct api){
        .store = r->store,
        .fleet = r->fleet,
        .tokens = r->tokens,
        .region = c->region,
        .account = c->account,
        .domain = c->domain,
        .public_port = r->public_port,
        .max_duration_s = c->max_duration_s ? (uint32_t)c->max_duration_s : UINT32_MAX,
    };
    r->front = (struct front){
        .api = &r->api,
        .s3 = {.artifacts = r->artifacts, .store = r->store, .region = c->region},
        .edge = r->edge,
        .region = c->region,
        .domain = c->domain,
        .done = on_done,
        .ctx = r,
    };
}

static int role_open(struct role *r, int sock, struct err *e)
{
    const struct config *c = r->c;
    r->public_port = (uint16_t)(c->public_port ? c->public_port : c->port);
    snprintf(r->ready, sizeof r->ready, "%s/ready", c->run);
    if (gethostname(r->host, sizeof r->host - 1) < 0)
        r->host[0] = '\0';
    int n = open_tls(r, e);
    if (n < 0)
        return n;
    struct server_config sc = {
        .address = c->listen,
        .port = (uint16_t)c->port,
        .max_conns = (unsigned)c->max_conns,
        .tls = r->tls,
        .serve = front_serve,
        .ctx = &r->front,
    };
    n = server_open(&r->server, &sc, e);
    if (n == 0)
        n = drop_capabilities(e);
    if (n == 0)
        n = open_state(r, e);
    if (n == 0)
        n = open_fleet(r, sock, e);
    if (n < 0)
        return n;
    join_parts(r);
    __atomic_store_n(&r->front.ready, true, __ATOMIC_RELAXED);
    return server_start(r->server, e);
}

static int tell_ready(const struct role *r, struct err *e)
{
    AUTO_CLOSE int fd = open(r->ready, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 ? err_sys(e, errno, "create '%s'", r->ready) : 0;
}

/* False: a thread hangs, so nothing may be freed. */
static bool role_close(struct role *r)
{
    bool all = server_stop(r->server, STOP_GRACE_MS);
    fleet_close(r->fleet);
    if (!all)
        return false;
    edge_close(r->edge);
    store_close(r->store);
    token_key_free(r->tokens);
    artifacts_close(r->artifacts);
    tls_close(r->tls);
    return true;
}

/* ---- serving ------------------------------------------------------------------------------
 */

static void refresh_certificate(struct role *r, bool now, time_t *renew_at)
{
    struct err e = ERR_INIT;
    bool renewed = false, reloaded = false;
    if (now || time(NULL) >= *renew_at) {
        *renew_at = time(NULL) + CERT_RENEW_S;
        if (ensure_certificate(r, &renewed, &e) < 0)
            log_err(LOG_ERROR, &e, "renew the certificate");
    }
    int n = now ? tls_reload(r->tls, &e) : tls_reload_if_changed(r->tls, &reloaded, &e);
    if (n < 0)
        log_err(LOG_ERROR, &e, "reload the certificate");
    else if (now || reloaded)
        log_info("reloaded the certificate");
}

static void serve_until_stopped(struct role *r, const sigset_t *signals)
{
    time_t renew_at = time(NULL) + CERT_RENEW_S;
    struct timespec wait = {.tv_sec = CERT_CHECK_S};
    for (;;) {
        int sig = sigtimedwait(signals, NULL, &wait);
        if (sig == SIGTERM || sig == SIGINT)
            return;
        if (sig == SIGHUP || (sig < 0 && errno == EAGAIN))
            refresh_certificate(r, sig == SIGHUP, &renew_at);
    }
}

int role_run(const struct config *c, int sock)
{
    struct role *r = calloc(1, sizeof *r);
    struct err e = ERR_INIT;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread exists */
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX,
            4); /* many threads, each with little: one heap per thread would idle */
    if (!r)
        return 1;
    r->c = c;
    int n = role_open(r, sock, &e);
    if (n == 0)
        n = tell_ready(r, &e);
    if (n < 0) {
        log_err(LOG_ERROR, &e, "start");
        _exit(1); /* threads of parts that did start may be at work */
    }
    log_info("serving on %s port %u, endpoints at *.lambda-microvm.%s.%s:%u", c->listen,
             server_port(r->server), c->region, c->domain, r->public_port);
    serve_until_stopped(r, &signals);
    log_info("stopping");
    __atomic_store_n(&r->front.ready, false, __ATOMIC_RELAXED);
    unlink(r->ready);
    bool clean = role_close(r);
    log_info("stopped");
    if (!clean)
        _exit(0);
    free(r);
    return 0;
}
