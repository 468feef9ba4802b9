// SPDX-License-Identifier: Apache-2.0
/* The machines of an image build; see build_vm.h. */
#include "build_vm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"

/* Freed pages are zeroed, so that they cost nothing in a snapshot. */
#define CMDLINE                                                                       \
    "console=ttyAMA0 quiet panic=-1 init_on_free=1 swiotlb=noforce coherent_pool=4K " \
    "slab_max_order=1 fw_devlink=off rcupdate.rcu_expedited=1"
#define BOOT_LIMIT_MS   300000  /* hosts that emulate the processor are slow, too */
#define STEP_LIMIT_MS   3600000 /* one instruction of the Dockerfile */
#define START_LIMIT_MS  300000
#define LISTEN_LIMIT_MS 180000 /* without a ready hook: until a port is open */
#define WARM_UP_MS      5000   /* for the one request that is answered for the working set */
#define PROBE_MS        25
#define PROBE_MAX_MS                                                         \
    1000 /* the longer it takes, the less often: a probe costs an idle guest \
          */
#define LISTEN_PORTS 4u
#define CALM_MS      4000 /* under 1/CALM_PART of a CPU for so long: it has settled */
#define CALM_PART    10u
#define REQUEST_MAX  (GP_BODY_MAX - 4096u)

static void on_log(void *ctx, const struct gp_line *line)
{
    struct build *b = ctx;
    buildlog_line(&b->log, line);
}

void build_stop(struct build *b)
{
    struct vmm *v = b->vmm;
    pthread_mutex_lock(&b->f->jlock);
    b->vmm = NULL;
    pthread_mutex_unlock(&b->f->jlock);
    vmm_free(v);
}

void build_cancel_all(struct fleet *f)
{
    for (struct build *b = f->building; b; b = b->next) {
        if (b->vmm)
            vmm_kill(b->vmm);
    }
}

static int take(struct build *b, struct err *e)
{
    bool pooled;
    struct vmm *v;
    int r = pool_take(b->f->pool, b->vcpus, NULL, &v, &pooled, e);
    if (r < 0)
        return r;
    v->on_log = on_log;
    v->ctx = b;
    pthread_mutex_lock(&b->f->jlock);
    bool stop = b->f->stop;
    if (!stop)
        b->vmm = v;
    pthread_mutex_unlock(&b->f->jlock);
    if (stop) {
        vmm_free(v);
        return err_set(e, ECANCELED, "the host was stopped during the build");
    }
    struct io_request q;
    r = fleet_io_address_begin(b->f->io, &q, v->slot, b->ip, e);
    return r < 0 ? r : fleet_io_address_end(b->f->io, &q, e);
}

/* Cold boot with the root disk, and the context disk when there is one. */
static int boot(struct build *b, bool context, struct err *e)
{
    static const uint8_t mac[6] = PRIV_GUEST_MAC;
    int r = take(b, e);
    if (r < 0)
        return r;
    struct ctl_machine m = {
        .version = CTL_VERSION,
        .vcpus = b->vcpus,
        .mem_bytes = b->mem_bytes,
        .has_net = 1,
        .ndisks = context ? 2 : 1,
        .has_vsock = 1,
        .has_rng = 1,
        .has_balloon = FLEET_BALLOON,
        .cmdline = CMDLINE,
    };
    memcpy(m.mac, mac, sizeof m.mac);
    random_fill(m.vmgenid, sizeof m.vmgenid);
    memcpy(m.disks[0].serial, "root", 5);
    int fds[8];
    size_t n = 0;
    fds[n++] = b->f->kernel;
    fds[n++] = b->f->initrd;
    fds[n++] = b->console;
    fds[n++] = b->vmm->tap;
    fds[n++] = b->base;
    fds[n++] = b->disk;
    m.disks[0].nlayers = 2;
    if (context) {
        memcpy(m.disks[1].serial, "context", 8);
        m.disks[1].flags = CTL_DISK_READONLY;
        m.disks[1].nlayers = 1;
        fds[n++] = b->context;
    } else {
        m.disks[0].nlayers = 3;
        fds[n++] = b->boot;
    }
    uint64_t deadline = deadline_ms(BOOT_LIMIT_MS);
    r = vmm_call(b->vmm, CTL_BOOT, &m, sizeof m, fds, n, deadline, NULL, e);
    if (r == 0)
        r = vmm_wait_link(b->vmm, true, deadline, e);
    if (r == -ETIMEDOUT)
        guest_silent(b->f, b->vmm, "boot");
    if (r == 0)
        r = guest_net(b->f, b->vmm, b->ip, "build", e);
    return r;
}

/* A request whose refusal by the guest is the error. */
static int ask(struct build *b, uint16_t type, const struct tlv_writer *w, uint64_t ms,
               struct gp_reply *reply, struct err *e)
{
    int r = vmm_guest(b->vmm, type, w, deadline_ms(ms), reply, e);
    if (r == 0 && reply->num && reply->exit_status == 0)
        r = err_set(e, (int)MIN(reply->num, 4095u), "%s",
                    reply->text[0] ? reply->text : "the guest refused");
    return r;
}

static int mount_root(struct build *b, struct err *e)
{
    uint8_t space[32];
    struct gp_reply reply;
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_str(&w, GP_T_DISK, "root");
    int r = ask(b, GP_MOUNT_ROOT, &w, BOOT_LIMIT_MS, &reply, e);
    return r < 0 ? err_wrap(e, "mount the disk") : 0;
}

/* ---- the Dockerfile ---- */

static void put_list(struct tlv_writer *w, uint16_t tag, const struct df_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        tlv_put_str(w, tag, l->v[i]);
}

static void put_step(struct build *b, const struct df_step *s, struct tlv_writer *w)
{
    static const uint32_t ops[] = {
        [DF_RUN] = GP_BUILD_RUN, [DF_COPY] = GP_BUILD_COPY, [DF_WORKDIR] = GP_BUILD_WORKDIR};
    tlv_put_u32(w, GP_T_OP, ops[s->op]);
    switch (s->op) {
    case DF_RUN:
        put_list(w, GP_T_ARG, &s->argv);
        put_list(w, GP_T_ENV, &s->env);
        tlv_put_str(w, GP_T_USER, s->user);
        tlv_put_str(w, GP_T_WORKDIR, s->workdir);
        tlv_put_u32(w, GP_T_CAPS_ALL, b->config.caps_all);
        break;
    case DF_COPY:
        put_list(w, GP_T_SRC, &s->src);
        tlv_put_str(w, GP_T_DST, s->dst);
        if (s->chown)
            tlv_put_str(w, GP_T_CHOWN, s->chown);
        if (s->has_mode)
            tlv_put_u32(w, GP_T_MODE, s->mode);
        break;
    case DF_WORKDIR:
        tlv_put_str(w, GP_T_DST, s->dst);
        break;
    }
}

static int step(struct build *b, const struct df_step *s, uint8_t *space, struct err *e)
{
    struct gp_reply reply;
    struct tlv_writer w = tlv_writer_init(space, REQUEST_MAX);
    put_step(b, s, &w);
    buildlog_step(&b->log, "[%u/%u] %s", ++b->step, b->steps, s->text);
    int r = ask(b, GP_BUILD_STEP, &w, STEP_LIMIT_MS, &reply, e);
    if (r == 0 && reply.exit_status) {
        r = err_set(
            e, ECHILD,
            "Dockerfile line %u: process \"%.120s\" did not complete successfully: exit "
            "code: %u%s%s%s%.160s",
            s->line, s->argv.v[s->argv.n - 1], reply.exit_status, reply.text[0] ? " (" : "",
            reply.text, reply.text[0] ? ")" : "", b->log.last[0] ? ": " : "");
        if (b->log.last[0] && e)
            strncat(e->msg, b->log.last, sizeof e->msg - strlen(e->msg) - 1);
    } else if (r < 0 && !b->vmm->dead) {
        r = err_wrap(e, "Dockerfile line %u", s->line);
    }
    if (r < 0)
        buildlog_failed(&b->log, e->msg);
    else
        buildlog_done(&b->log);
    return r;
}

int build_execute(struct build *b, struct err *e)
{
    AUTO_FREE uint8_t *space = malloc(REQUEST_MAX);
    struct gp_reply reply;
    if (!space)
        return err_sys(e, ENOMEM, "build the image");
    buildlog_step(&b->log, "[internal] starting the builder microVM");
    int r = boot(b, true, e);
    if (r == 0)
        r = mount_root(b, e);
    if (r < 0)
        return r;
    buildlog_done(&b->log);
    struct tlv_writer w = tlv_writer_init(space, REQUEST_MAX);
    tlv_put_u32(&w, GP_T_OP, GP_BUILD_CONTEXT);
    tlv_put_str(&w, GP_T_DISK, "context");
    tlv_put_u64(&w, GP_T_SIZE, b->context_size);
    b->code = "ARCHIVE_INVALID";
    if ((r = ask(b, GP_BUILD_STEP, &w, START_LIMIT_MS, &reply, e)) < 0)
        return r;
    b->code = "CONTAINER_BUILD_FAILED";
    for (size_t i = 0; i < b->df.nsteps; i++) {
        if ((r = step(b, &b->df.steps[i], space, e)) < 0)
            return r;
    }
    buildlog_step(&b->log, "exporting the disk layer");
    r = ask(b, GP_BUILD_END, NULL, STEP_LIMIT_MS, &reply, e);
    if (r == 0) /* the layer's index is written when nothing moves any more */
        r = vmm_call(b->vmm, CTL_PAUSE, NULL, 0, NULL, 0, deadline_ms(START_LIMIT_MS), NULL, e);
    build_stop(b);
    if (r == 0 && fsync(b->disk) < 0)
        r = err_sys(e, errno, "make the disk layer durable");
    if (r == 0)
        buildlog_done(&b->log);
    return r;
}

/* ---- the application ---- */

static void put_env(struct tlv_writer *w, const char *key, const char *value)
{
    size_t klen = strlen(key), vlen = strlen(value);
    uint8_t *at = tlv_reserve(w, GP_T_ENV, klen + 1 + vlen);
    if (at) {
        memcpy(at, key, klen);
        at[klen] = '=';
        memcpy(at + klen + 1, value, vlen);
    }
}

static bool configured(const struct image_config *c, const char *env)
{
    size_t len = strcspn(env, "=");
    for (size_t i = 0; i < c->nenv; i++) {
        if (strlen(c->env[i].key) == len && strncmp(c->env[i].key, env, len) == 0)
            return true;
    }
    return false;
}

static uint32_t signal_number(const char *name)
{
    static const struct {
        const char *name;
        uint32_t n;
    } known[] = {{"HUP", 1},   {"INT", 2},   {"QUIT", 3},  {"KILL", 9},
                 {"USR1", 10}, {"USR2", 12}, {"TERM", 15}, {"WINCH", 28}};
    if (!name)
        return 15;
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, name) == 0)
            return known[i].n;
    }
    int n = atoi(name);
    return n > 0 && n < 65 ? (uint32_t)n : 15;
}

static int start_app(struct build *b, struct err *e)
{
    AUTO_FREE uint8_t *space = malloc(GP_BODY_MAX);
    struct gp_reply reply;
    char text[ARN_CAP + NAME_CAP];
    if (!space)
        return err_sys(e, ENOMEM, "start the application");
    struct tlv_writer w = tlv_writer_init(space, GP_BODY_MAX);
    const struct fleet_config *fc = &b->f->c;
    put_list(&w, GP_T_ARG, &b->df.argv);
    /* Later sources win: the image's ENV, the configuration's variables, the platform's. */
    for (size_t i = 0; i < b->df.env.n; i++) {
        if (!configured(&b->config, b->df.env.v[i]))
            tlv_put_str(&w, GP_T_ENV, b->df.env.v[i]);
    }
    for (size_t i = 0; i < b->config.nenv; i++)
        put_env(&w, b->config.env[i].key, b->config.env[i].value);
    snprintf(text, sizeof text, "arn:aws:lambda:%s:%s:microvm-image:%s", fc->region,
             fc->account, b->v.image);
    put_env(&w, "AWS_LAMBDA_MICROVM_IMAGE_ARN", text);
    put_env(&w, "AWS_LAMBDA_MICROVM_IMAGE_NAME", b->v.image);
    snprintf(text, sizeof text, "%u.0", b->v.major);
    put_env(&w, "AWS_LAMBDA_MICROVM_IMAGE_VERSION", text);
    put_env(&w, "AWS_REGION", fc->region);
    tlv_put_str(&w, GP_T_USER, b->df.user);
    tlv_put_str(&w, GP_T_WORKDIR, b->df.workdir);
    tlv_put_u32(&w, GP_T_SIGNAL, signal_number(b->df.stop_signal));
    tlv_put_u32(&w, GP_T_CAPS_ALL, b->config.caps_all);
    int r = ask(b, GP_START, &w, START_LIMIT_MS, &reply, e);
    return r < 0 ? err_wrap(e, "The application could not be started") : 0;
}

/* True when a TCP connection is accepted. The answer of a guest is there at once or never. */
static bool listens(struct build *b, uint16_t port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(b->ip)};
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return true;
    struct pollfd pf = {.fd = fd, .events = POLLOUT};
    int err = EIO;
    socklen_t len = sizeof err;
    if (errno != EINPROGRESS || poll(&pf, 1, PROBE_MS) <= 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        return false;
    return err == 0;
}

static int app_gone(struct build *b, struct err *e)
{
    return err_set(e, ECHILD, "%s before the snapshot was taken%s%s", b->vmm->reason,
                   b->log.last[0] ? "; its last line: " : "", b->log.last);
}

struct calm { /* a machine that does nothing for a while has nothing left to start */
    uint64_t since, usec;
};

static bool is_calm(struct calm *c, const struct fleet *f, const struct vmm *v)
{
    uint64_t now = now_ns();
    if (c->since && now - c->since < CALM_MS * NS_PER_MS)
        return false;
    uint64_t usec = guest_cpu_usec(f, v), used = usec - c->usec;
    bool calm = c->since && usec && used * 1000 * CALM_PART < now - c->since;
    *c = (struct calm){now, usec};
    return calm;
}

/* Without a ready hook: until one of its ports is open. */
static int wait_listen(struct build *b, struct err *e)
{
    static const uint16_t usual[] = {8080};
    const uint16_t *ports = b->df.nports ? b->df.ports : usual;
    size_t n = b->df.nports ? MIN(b->df.nports, LISTEN_PORTS) : 1;
    uint64_t begin = now_ns(), end = deadline_ms(LISTEN_LIMIT_MS);
    struct calm calm = {.since = 0};
    while (now_ns() < end && !is_calm(&calm, b->f, b->vmm)) {
        for (size_t i = 0; i < n; i++) {
            if (listens(b, ports[i])) {
                buildlog_say(&b->log, "the application listens on port %u", ports[i]);
                return 0;
            }
        }
        /* The machine's own news are served meanwhile. */
        uint64_t waited = (now_ns() - begin) / NS_PER_MS;
        uint64_t pause = deadline_ms(MIN(PROBE_MS + waited / 20, PROBE_MAX_MS));
        int r = 0;
        while (r == 0 && !b->vmm->app_ended)
            r = vmm_pump(b->vmm, pause, e);
        if (b->vmm->dead || b->vmm->app_ended)
            return app_gone(b, e);
    }
    buildlog_say(
        &b->log,
        "nothing listens on port %u and the application %s: the snapshot is taken as it "
        "is. Enable the ready hook to choose the moment.",
        ports[0], now_ns() < end ? "is idle" : "took long enough");
    return 0;
}

/* Without a layer the image holds everything itself. */
static void choose_layer(struct build *b, bool fresh)
{
    struct err e = ERR_INIT;
    layer_put(b->f->layers, b->layer);
    if (layer_choose(b->f->layers, b->vmm, fresh, &b->layer, &e) < 0)
        log_err(LOG_WARN, &e, "save an image without a memory layer");
}

static int save_image(void *ctx, int fd, struct err *e)
{
    struct build *b = ctx;
    choose_layer(b, false);
    for (bool again = false; b->layer; again = true) {
        int r = guest_save_over(b->vmm, b->layer, fd, &b->saved, e);
        if (r < 0 || again ||
            !layer_unlike(b->layer, b->saved.layer_same, b->saved.layer_other))
            return r;
        /* The host's CPUs or something else in the kernel's text has changed. */
        choose_layer(b, true);
        if (ftruncate(fd, 0) < 0)
            return err_sys(e, errno, "empty the snapshot file");
    }
    return guest_save(b->vmm, true, fd, &b->saved, e);
}

int build_snapshot(struct build *b, struct err *e)
{
    buildlog_step(&b->log, "[internal] starting the application");
    b->code = "INTERNAL_PLATFORM_ERROR";
    int r = boot(b, false, e);
    if (r == 0)
        r = mount_root(b, e);
    b->code = NULL;
    if (r == 0)
        r = start_app(b, e);
    if (r == 0)
        r = b->config.hooks[IMAGE_HOOK_READY].enabled
                ? guest_hook(b->vmm, &b->config, IMAGE_HOOK_READY, NULL, NULL, NULL, e)
                : wait_listen(b, e);
    if (r < 0 && b->vmm && b->vmm->app_ended)
        r = app_gone(b, e);
    if (r < 0)
        return r;
    buildlog_done(&b->log);
    buildlog_step(&b->log, "[internal] taking the snapshot");
    b->code = "INTERNAL_PLATFORM_ERROR";
    r = guest_freeze(b->vmm, true, e);
    if (r == 0 && b->vmm->app_ended)
        r = app_gone(b, e);
    const struct snapfiles_steps steps = {.save = save_image, .ctx = b};
    if (r == 0)
        r = snapfiles_write(&snap_io_host, b->f->seal, b->dir, "mem.snap", &steps,
                            &b->saved.file_bytes, e);
    build_stop(b);
    if (r == 0 && fsync(b->boot) < 0)
        r = err_sys(e, errno, "make the disk layer durable");
    if (r < 0)
        return r;
    buildlog_say(&b->log, "memory %.1f MiB of %llu MiB", (double)b->saved.file_bytes / 1048576,
                 (unsigned long long)(b->mem_bytes >> 20));
    buildlog_done(&b->log);
    return 0;
}

/* One request, as a client's first will be: what it touches belongs to the working set. The
 * answer does not matter. */
static void warm_up(struct build *b)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char answer[4096];
    uint16_t port = b->df.nports ? b->df.ports[0] : 8080;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(b->ip)}};
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    uint64_t deadline = deadline_ms(WARM_UP_MS);
    struct pollfd pf = {.fd = fd, .events = POLLOUT};
    if (fd < 0 ||
        (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) ||
        poll(&pf, 1, WARM_UP_MS) != 1 ||
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
        return;
    for (pf.events = POLLIN; now_ns() < deadline && poll(&pf, 1, WARM_UP_MS) == 1;) {
        if (recv(fd, answer, sizeof answer, 0) <= 0)
            return;
    }
}

/* Without it microVMs of the image only start a little later. */
static void record_workset(struct build *b)
{
    struct err e = ERR_INIT;
    unlinkat(b->dir, "workset.tmp", 0);
    AUTO_CLOSE int fd =
        openat(b->dir, "workset.tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = fd < 0 ? err_sys(&e, errno, "make the file of the working set") : 0;
    if (r == 0)
        r = vmm_call(b->vmm, CTL_WORKSET, NULL, 0, &fd, 1, deadline_ms(BOOT_LIMIT_MS), NULL,
                     &e);
    /* Its name becomes durable with that of `meta`. */
    if (r == 0 && (fsync(fd) < 0 || renameat(b->dir, "workset.tmp", b->dir, "workset") < 0))
        r = err_sys(&e, errno, "publish the working set");
    if (r < 0) {
        unlinkat(b->dir, "workset.tmp", 0);
        log_err(LOG_WARN, &e, "no working set for an image");
    }
}

int build_validate(struct build *b, struct err *e)
{
    bool hook = b->config.hooks[IMAGE_HOOK_VALIDATE].enabled;
    buildlog_step(&b->log, hook ? "[internal] validating the snapshot"
                                : "[internal] trying the snapshot");
    b->code = "INTERNAL_PLATFORM_ERROR";
    AUTO_CLOSE int session = -1;
    AUTO_CLOSE int mem = openat(b->dir, "mem.snap", O_RDONLY | O_CLOEXEC);
    int r = mem < 0 ? err_sys(e, errno, "open the snapshot")
                    : overlay_make(b->dir, "validate.ovl", b->disk_size, &session, e);
    if (r < 0)
        return r;
    unlinkat(b->dir, "validate.ovl", 0);
    const struct image img = {.vcpus = b->vcpus,
                              .mem_bytes = b->mem_bytes,
                              .base = b->base,
                              .disk = b->disk,
                              .boot = b->boot,
                              .mem = mem,
                              .layer = b->layer,
                              .workset = -1};
    const struct restore_fds rf = {
        .console = b->console, .session_mem = -1, .session_disk = session};
    r = take(b, e);
    if (r == 0)
        r = guest_load(b->vmm, &img, &rf, e);
    if (r == 0)
        r = guest_restored(b->f, b->vmm, NULL, b->ip, true, "validate", e);
    b->code = NULL;
    if (r == 0)
        r = guest_hook(b->vmm, &b->config, IMAGE_HOOK_VALIDATE, NULL, NULL, NULL, e);
    if (r == 0 && !hook)
        warm_up(b);
    if (r < 0 && b->vmm && b->vmm->app_ended)
        r = app_gone(b, e);
    if (r == 0)
        record_workset(b);
    build_stop(b);
    if (r == 0)
        buildlog_done(&b->log);
    return r;
}
