// SPDX-License-Identifier: Apache-2.0
/* The api role: set-up in order, the signal loop, the end in order; see role.h. */
#include "role.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "artifacts.h"
#include "certs.h"
#include "confine.h"
#include "durable.h"
#include "events.h"
#include "front.h"
#include "keys.h"
#include "metrics.h"
#include "priv.h"
#include "server.h"
#include "throttle.h"

#define STOP_GRACE_MS      5000
#define SILENCE_MS         (15 * 60 * 1000)
#define UPGRADE_SILENCE_MS (60 * 60 * 1000)
#define CERT_CHECK_S       10
#define CGROUP_DIR         "/sys/fs/cgroup/dormouse"
#define READY_FILE         CONFINE_RUN "/ready"
#define PARENT_FD          3
#define MORE_THREADS       512 /* of the fleet */

struct role {
    const struct config *c;
    struct store *store;
    struct artifacts *artifacts;
    struct token_key *tokens;
    struct fleet *fleet;
    struct events *events;
    struct metrics *metrics;
    struct edge *edge;
    struct tls *tls;
    struct server *server;
    struct api api;
    struct throttle throttle;
    struct front front;
    uint16_t public_port;
    struct fleet_host machine;
    int files[PRIV_FILES]; /* of the settings, opened at the start; -1 once taken */
};

static void state_path(char *ret, size_t cap, const char *name)
{
    snprintf(ret, cap, CONFINE_STATE "/%s", name);
}

/* ---- certificates ----------------------------------------------------------------------- */

/* The files were opened before the state directory was all there is; later the parent does it.
 */
static int open_tls_file(void *ctx, enum tls_file which, int *ret_fd, struct err *e)
{
    static const enum priv_file_id ids[] = {
        [TLS_CERT] = PRIV_TLS_CERT,
        [TLS_KEY] = PRIV_TLS_KEY,
        [TLS_CLIENT_CA] = PRIV_TLS_CLIENT_CA,
    };
    struct role *r = ctx;
    *ret_fd = take_fd(&r->files[ids[which]]);
    return *ret_fd >= 0 ? 0 : fleet_file(r->fleet, ids[which], ret_fd, e);
}

/* Users of an application have no certificate of the operator's. */
static bool is_endpoint(void *ctx, const char *name)
{
    const struct role *r = ctx;
    char label[40];
    return front_host_label(name, r->c->region, r->c->domain, label);
}

static int open_tls(struct role *r, struct err *e)
{
    const struct config *c = r->c;
    int n = tls_library_init(e);
    if (n < 0)
        return n;
    const struct tls_source from = {
        .open = open_tls_file,
        .ctx = r,
        .client_ca = c->tls_client_ca[0] != '\0',
        .open_to_all = is_endpoint,
    };
    return tls_open_from(&r->tls, &from, e);
}

/* ---- the first access key -------------------------------------------------------------------
 */

static bool find_admin(void *ctx, const struct store_key *k)
{
    bool *found = ctx;
    *found = *found || strcmp(k->rights, "admin") == 0;
    return !*found;
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
    key_make(&k, "first", "admin");
    snprintf(text, sizeof text,
             "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\nAWS_REGION=%s\n", k.id, k.secret,
             r->c->region);
    /* The file first: after a crash in between there is no key yet, and a new one is made. */
    n = durable_dir(AT_FDCWD, CONFINE_STATE, &dir, e);
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
    static const struct {
        const char *kind;
        enum metric_door door;
    } doors[] = {
        {"api", DOOR_API}, {"s3", DOOR_S3}, {"edge", DOOR_EDGE}, {"health", DOOR_HEALTH}};
    const struct role *r = ctx;
    enum metric_door door = DOOR_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(doors); i++)
        door = strcmp(ev->kind, doors[i].kind) == 0 ? doors[i].door : door;
    metrics_request(r->metrics, door, ev->status, (uint64_t)MAX(ev->took_ms, 0));
    /* An application's paths may hold its users' secrets. */
    const char *path = strcmp(ev->kind, "edge") == 0 ? "-" : ev->path;
    log_line(ev->status >= 500 ? LOG_WARN : LOG_DEBUG, "%s %s %s status=%d took_ms=%lld req=%s",
             ev->kind, ev->method, path, ev->status, (long long)ev->took_ms, ev->id);
}

static int open_state(struct role *r, struct err *e)
{
    char path[600];
    struct artifacts_config ac = {.quota_bytes = r->c->artifact_quota_mib << 20,
                                  .object_bytes = r->c->artifact_max_mib << 20,
                                  .dir = path};
    state_path(path, sizeof path, "artifacts");
    int n = artifacts_open(&r->artifacts, &ac, e);
    if (n < 0)
        return n;
    state_path(path, sizeof path, "token.key");
    n = token_key_open(&r->tokens, path, e);
    if (n < 0)
        return n;
    state_path(path, sizeof path, "dormouse.db");
    n = store_open(&r->store, path, e);
    return n < 0 ? n : bootstrap_key(r, e);
}

static int open_fleet(struct role *r, int sock, struct err *e)
{
    const struct config *c = r->c;
    struct fleet_config fc = {
        .state_dir = CONFINE_STATE,
        .bases_dir = CONFINE_BASES,
        .cgroup_dir = CONFINE_CGROUP,
        .worksets = (enum fleet_worksets)c->working_sets,
        .host = &r->machine,
        .domain = c->domain,
        .region = c->region,
        .account = c->account,
        .public_port = r->public_port,
        .max_running = (unsigned)c->max_running,
        .disk_layers = c->disk_layers,
        .drift_percent = c->drift_percent,
        .checkpoints = {.per_vm = (uint32_t)c->checkpoint_max,
                        .vm_bytes = c->checkpoint_vm_mib << 20,
                        .all_bytes = c->checkpoint_quota_mib << 20},
        .parent_sock = sock,
    };
    unsigned operations;
    const char *const *names = api_operations(&operations);
    r->events = events_new();
    r->metrics = metrics_new(names, operations);
    if (!r->events || !r->metrics)
        return err_sys(e, ENOMEM, "start counting");
    fc.events = r->events;
    fc.metrics = r->metrics;
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
    throttle_init(&r->throttle, (uint32_t)c->api_rate, (uint32_t)c->api_operations);
    r->api = (struct api){
        .store = r->store,
        .fleet = r->fleet,
        .tokens = r->tokens,
        .region = c->region,
        .account = c->account,
        .domain = c->domain,
        .public_port = r->public_port,
        .throttle = &r->throttle,
        .events = r->events,
        .metrics = r->metrics,
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

/* Whatever needs the host's file system or privileges, then neither is left. */
static int give_up(struct role *r, struct err *e)
{
    const struct config *c = r->c;
    char cert[CERTS_PATH], key[CERTS_PATH];
    const char *const paths[PRIV_FILES] = {cert, key, c->tls_client_ca};
    certs_paths(c, cert, key);
    struct server_config sc = {
        .address = c->listen,
        .port = (uint16_t)c->port,
        .max_conns = (unsigned)c->max_conns,
        .serve = front_serve,
        .ctx = &r->front,
    };
    struct confine walls = {
        .uid = (uint32_t)c->api_uid,
        .state = c->state,
        .run = c->run,
        .bases = c->bases,
        .cgroup = CGROUP_DIR,
        .threads = c->max_conns + MORE_THREADS,
    };
    int n = fleet_host_open(&r->machine, c->kernel, c->initrd, c->snapshot_key, e);
    for (size_t i = 0; i < PRIV_FILES; i++) {
        r->files[i] = -1;
        if (n == 0 && paths[i][0] &&
            (r->files[i] = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
            n = err_sys(e, errno, "open '%s'", paths[i]);
    }
    if (n == 0)
        n = server_open(&r->server, &sc, e);
    return n < 0 ? n : confine_enter(&walls, e);
}

static int role_open(struct role *r, int sock, struct err *e)
{
    const struct config *c = r->c;
    r->public_port = (uint16_t)(c->public_port ? c->public_port : c->port);
    int n = give_up(r, e);
    if (n == 0)
        n = open_tls(r, e);
    if (n < 0)
        return n;
    server_set_tls(r->server, r->tls);
    n = open_state(r, e);
    if (n == 0)
        n = open_fleet(r, sock, e);
    if (n < 0)
        return n;
    join_parts(r);
    __atomic_store_n(&r->front.ready, true, __ATOMIC_RELAXED);
    return server_start(r->server, e);
}

static int tell_ready(struct err *e)
{
    AUTO_CLOSE int fd = open(READY_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 ? err_sys(e, errno, "create the file 'ready'") : 0;
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
    events_free(r->events);
    metrics_free(r->metrics);
    return true;
}

/* ---- serving ------------------------------------------------------------------------------
 */

static void refresh_certificate(struct role *r, bool now)
{
    struct err e = ERR_INIT;
    bool reloaded = false;
    int n = now ? tls_reload(r->tls, &e) : tls_reload_if_changed(r->tls, &reloaded, &e);
    if (n < 0)
        log_err(LOG_ERROR, &e, "reload the certificate");
    else if (now || reloaded)
        log_info("reloaded the certificate");
}

static void serve_until_stopped(struct role *r, const sigset_t *signals)
{
    struct timespec wait = {.tv_sec = CERT_CHECK_S};
    for (;;) {
        int sig = sigtimedwait(signals, NULL, &wait);
        if (sig == SIGTERM || sig == SIGINT)
            return;
        if (sig == SIGHUP || (sig < 0 && errno == EAGAIN))
            refresh_certificate(r, sig == SIGHUP);
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
    /* Nothing else of the parent's stays open here. */
    if (sock != PARENT_FD && (sock = dup3(sock, PARENT_FD, O_CLOEXEC)) < 0)
        return 1;
    close_range(PARENT_FD + 1, ~0u, 0);
    int n = role_open(r, sock, &e);
    if (n == 0)
        n = tell_ready(&e);
    if (n < 0) {
        log_err(LOG_ERROR, &e, "start");
        _exit(1); /* threads of parts that did start may be at work */
    }
    log_info("serving on %s port %u, endpoints at *.lambda-microvm.%s.%s:%u", c->listen,
             server_port(r->server), c->region, c->domain, r->public_port);
    serve_until_stopped(r, &signals);
    log_info("stopping");
    __atomic_store_n(&r->front.ready, false, __ATOMIC_RELAXED);
    unlink(READY_FILE);
    bool clean = role_close(r);
    log_info("stopped");
    if (!clean)
        _exit(0);
    free(r);
    return 0;
}
