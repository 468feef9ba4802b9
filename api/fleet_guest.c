// SPDX-License-Identifier: Apache-2.0
/*
 * What the fleet says to a machine and its guest: load, save, network, freeze,
 * restored, hooks. All by the VMM's owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "fleet_priv.h"
#include "jsonw.h"

#define HOOK_MARGIN_MS 2000 /* init keeps the time; this is for when it does not */
#define CLOCK_LATE_MS  5    /* the time that a guest is told may come this late */

double realtime_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the machine ---- */

static int read_cgroup(const struct fleet *f, const struct vmm *v, const char *name, char **ret)
{
    char path[200];
    snprintf(path, sizeof path, "%s/vm%u/%s", f->c.cgroup_dir, v->slot, name);
    return fd_read_file(AT_FDCWD, path, 4096, ret, NULL, NULL);
}

uint64_t guest_cpu_usec(const struct fleet *f, const struct vmm *v)
{
    AUTO_FREE char *text = NULL;
    uint64_t usec = 0;
    if (read_cgroup(f, v, "cpu.stat", &text) == 0 && strncmp(text, "usage_usec ", 11) == 0 &&
        parse_u64n(text + 11, strcspn(text + 11, "\n"), 0, UINT64_MAX, &usec))
        return usec;
    return 0;
}

void guest_silent(const struct fleet *f, const struct vmm *v, const char *what)
{
    AUTO_FREE char *cpu = NULL, *memory = NULL;
    bool known = read_cgroup(f, v, "cpu.pressure", &cpu) == 0 &&
                 read_cgroup(f, v, "memory.pressure", &memory) == 0;
    log_warn("the guest of process %u is silent (%s): %.1f s of processor time so far; waited "
             "for a processor: %.*s; for memory: %.*s",
             v->slot, what, (double)guest_cpu_usec(f, v) / 1e6,
             known ? (int)strcspn(cpu, "\n") : 7, known ? cpu : "unknown",
             known ? (int)strcspn(memory, "\n") : 7, known ? memory : "unknown");
}

int guest_load(struct vmm *v, const struct image *img, const struct restore_fds *rf,
               struct err *e)
{
    static const uint8_t mac[6] = PRIV_GUEST_MAC;
    struct ctl_machine m = {
        .version = CTL_VERSION,
        .vcpus = img->vcpus,
        .mem_bytes = img->mem_bytes,
        .has_net = 1,
        .ndisks = 1,
        .has_vsock = 1,
        .has_rng = 1,
        .has_balloon = FLEET_BALLOON,
        .nmem_layers = rf->session_mem >= 0 ? 2 : 1,
        .prepared = v->prepared[0] != '\0',
    };
    m.has_layer = !m.prepared && img->layer;
    m.has_workset = !m.prepared && img->workset >= 0 && img->prefetch && !rf->cold;
    memcpy(m.mac, mac, sizeof m.mac);
    memcpy(m.disks[0].serial, "root", 5);
    m.disks[0].nlayers = 4 + rf->nlayers;
    random_fill(m.vmgenid, sizeof m.vmgenid);
    int fds[12 + DISK_FROZEN_MAX];
    size_t n = 0;
    fds[n++] = rf->console;
    if (!m.prepared)
        fds[n++] = img->mem;
    if (rf->session_mem >= 0)
        fds[n++] = rf->session_mem;
    if (m.has_layer)
        fds[n++] = layer_fd(img->layer);
    if (m.has_workset)
        fds[n++] = img->workset;
    fds[n++] = v->tap;
    fds[n++] = img->base;
    fds[n++] = img->disk;
    fds[n++] = img->boot;
    for (unsigned i = 0; i < rf->nlayers; i++)
        fds[n++] = rf->layers[i];
    fds[n++] = rf->session_disk;
    uint64_t deadline = deadline_ms(RESTORE_LIMIT_MS);
    int r = vmm_call(v, CTL_RESTORE, &m, sizeof m, fds, n, deadline, NULL, e);
    if (r == 0)
        r = vmm_wait_link(v, false, deadline, e);
    return r;
}

int guest_save(struct vmm *v, bool full, int fd, struct ctl_saved *ret, struct err *e)
{
    const struct ctl_save s = {.flags = full ? CTL_SAVE_FULL : 0};
    return vmm_call(v, CTL_SAVE, &s, sizeof s, &fd, 1, deadline_ms(SAVE_LIMIT_MS), ret, e);
}

int guest_save_over(struct vmm *v, const struct layer *l, int fd, struct ctl_saved *ret,
                    struct err *e)
{
    const struct ctl_save s = {.flags = CTL_SAVE_FULL | CTL_SAVE_LAYER};
    const int fds[] = {fd, layer_fd(l)};
    return vmm_call(v, CTL_SAVE, &s, sizeof s, fds, 2, deadline_ms(SAVE_LIMIT_MS), ret, e);
}

/* ---- requests to init ---- */

/* The guest's own refusal becomes the error. */
static int ask(struct vmm *v, uint16_t type, const struct tlv_writer *w, uint64_t ms,
               const char *what, struct err *e)
{
    struct gp_reply reply;
    int r = vmm_guest(v, type, w, deadline_ms(ms), &reply, e);
    if (r < 0)
        return err_wrap(e, "%s", what);
    if (reply.num)
        return err_set(e, (int)MIN(reply.num, 4095u), "%s: %s", what,
                       reply.text[0] ? reply.text : "the guest refused");
    return 0;
}

static void put_ip(struct tlv_writer *w, uint16_t tag, uint32_t ip)
{
    uint32_t be = __builtin_bswap32(ip);
    tlv_put_bytes(w, tag, &be, sizeof be);
}

static void put_net(struct tlv_writer *w, const struct fleet *f, uint32_t ip,
                    const char *hostname)
{
    static const uint8_t mac[6] = PRIV_HOST_MAC;
    put_ip(w, GP_T_IP, ip);
    tlv_put_u32(w, GP_T_PREFIX, 32);
    put_ip(w, GP_T_GATEWAY, PRIV_GATEWAY);
    tlv_put_bytes(w, GP_T_HOST_MAC, mac, sizeof mac);
    for (unsigned i = 0; i < f->ndns; i++)
        put_ip(w, GP_T_DNS, f->dns[i]);
    if (hostname)
        tlv_put_str(w, GP_T_HOSTNAME, hostname);
}

int guest_net(struct fleet *f, struct vmm *v, uint32_t ip, const char *hostname, struct err *e)
{
    uint8_t space[512];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    put_net(&w, f, ip, hostname);
    return ask(v, GP_NET, &w, RESTORE_LIMIT_MS, "configure the guest's network", e);
}

int guest_freeze(struct vmm *v, bool image, struct err *e)
{
    uint8_t space[32];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    if (image) {
        tlv_put_u32(&w, GP_T_TRIM, 1);
        tlv_put_u32(&w, GP_T_DROP_IDS, 1);
    }
    int r = ask(v, GP_FREEZE, &w, FREEZE_LIMIT_MS, "freeze the guest", e);
    if (r == 0)
        r = vmm_call(v, CTL_PAUSE, NULL, 0, NULL, 0, deadline_ms(FREEZE_LIMIT_MS), NULL, e);
    return r;
}

int guest_thaw(struct vmm *v, struct err *e)
{
    uint8_t space[32];
    struct timespec ts;
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    clock_gettime(CLOCK_REALTIME, &ts);
    tlv_put_u64(&w, GP_T_REALTIME_NS, (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec);
    return ask(v, GP_THAW, &w, RESTORE_LIMIT_MS, "let the guest go on", e);
}

int guest_restored(struct fleet *f, struct vmm *v, const struct fvm *vm, uint32_t ip,
                   bool fresh, const char *name, struct err *e)
{
    uint8_t space[1024], entropy[64];
    char endpoint[300], hostname[64];
    struct timespec ts;
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    random_fill(entropy, sizeof entropy);
    tlv_put_bytes(&w, GP_T_ENTROPY, entropy, sizeof entropy);
    uint64_t told = now_ns();
    clock_gettime(CLOCK_REALTIME, &ts);
    tlv_put_u64(&w, GP_T_REALTIME_NS, (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec);
    tlv_put_u32(&w, GP_T_FRESH, fresh);
    tlv_put_u32(&w, GP_T_CUT, vm && vm->cut);
    tlv_put_u64(&w, GP_T_GENERATION, vm ? vm->row.generation : 1);
    if (vm) {
        tlv_put_str(&w, GP_T_VM_ID, vm->row.id);
        int n = snprintf(endpoint, sizeof endpoint, "%s.lambda-microvm.%s.%s", vm->row.label,
                         f->c.region, f->c.domain);
        if (f->c.public_port && f->c.public_port != 443 && n > 0 && (size_t)n < sizeof endpoint)
            snprintf(endpoint + n, sizeof endpoint - (size_t)n, ":%u", f->c.public_port);
        tlv_put_str(&w, GP_T_ENDPOINT, endpoint);
    }
    /* A resumed session keeps the name it has; a host name has at most 63 characters. */
    snprintf(hostname, sizeof hostname, "%.63s", name);
    put_net(&w, f, ip, fresh ? hostname : NULL);
    int r = ask(v, GP_RESTORED, &w, RESTORE_LIMIT_MS, "continue in the guest", e);
    if (r == -ETIMEDOUT)
        guest_silent(f, v, "restored");
    /* On a busy host the time may have waited; by now the way to init is short. */
    if (r == 0 && now_ns() - told > CLOCK_LATE_MS * NS_PER_MS)
        r = guest_thaw(v, e);
    explicit_bzero(entropy, sizeof entropy);
    explicit_bzero(space, sizeof space);
    return r;
}

static int recv_exact(int fd, uint8_t *p, size_t len, uint64_t deadline)
{
    while (len > 0) {
        ssize_t n = recv(fd, p, len, MSG_DONTWAIT);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return -ECONNRESET;
        uint64_t now = now_ns();
        struct pollfd pf = {.fd = fd, .events = POLLIN};
        if (now >= deadline)
            return -ETIMEDOUT;
        poll(&pf, 1, (int)((deadline - now) / NS_PER_MS % 60000) + 1);
    }
    return 0;
}

int guest_stream_begin(struct glink *g, uint16_t type, const struct tlv_writer *w,
                       uint64_t deadline, struct err *e)
{
    uint8_t head[GP_HEADER_SIZE], body[1024];
    struct gp_header h;
    struct gp_reply reply;
    int r = glink_send(g, type, 1, w->p, w->len, deadline);
    if (r == 0)
        r = recv_exact(g->fd, head, sizeof head, deadline);
    if (r == 0 && (!gp_header_get(head, &h) || h.type != GP_REPLY || h.len > sizeof body))
        r = -EBADMSG;
    if (r == 0)
        r = recv_exact(g->fd, body, h.len, deadline);
    if (r == 0 && !gp_reply_parse(body, h.len, &reply))
        r = -EBADMSG;
    if (r < 0)
        return err_sys(e, -r, "open a stream to the guest");
    if (reply.num)
        return err_set(e, (int)MIN(reply.num, 4095u), "%s",
                       reply.text[0] ? reply.text : "the guest refused the stream");
    return 0;
}

/* ---- hooks ---- */

void iso_duration(uint32_t s, char *ret, size_t cap)
{
    char h[16] = "", m[16] = "", sec[16] = "";
    if (s / 3600)
        snprintf(h, sizeof h, "%uH", s / 3600);
    if (s % 3600 / 60)
        snprintf(m, sizeof m, "%uM", s % 3600 / 60);
    if (s % 60 || s == 0)
        snprintf(sec, sizeof sec, "%uS", s % 60);
    snprintf(ret, cap, "PT%s%s%s", h, m, sec);
}

static int hook_failed(enum image_hook_id hook, const struct image_config *c,
                       const struct gp_reply *r, struct err *e)
{
    static const char *const names[IMAGE_HOOKS] = {"Ready",  "Validate", "Run",
                                                   "Resume", "Suspend",  "Terminate"};
    bool build = hook == IMAGE_HOOK_READY || hook == IMAGE_HOOK_VALIDATE;
    char limit[40];
    iso_duration(c->hooks[hook].timeout_s, limit, sizeof limit);
    if (r->outcome == GP_HOOK_HTTP && build)
        return err_set(e, EPROTO,
                       "%s hook check failed: the application returned a %s error (HTTP %u) "
                       "response",
                       names[hook], r->status >= 500 ? "server" : "client", r->status);
    if (r->outcome == GP_HOOK_HTTP)
        return err_set(e, EPROTO,
                       "%s lifecycle hook returned HTTP status %u. Please check your hook "
                       "endpoint and application logs for more details.",
                       names[hook], r->status);
    if (r->outcome == GP_HOOK_TIMEOUT || r->outcome == GP_HOOK_REFUSED)
        return err_set(e, ETIMEDOUT, "%s%s hook invocation timed out after %s%s", names[hook],
                       build ? "" : " lifecycle", limit,
                       r->outcome == GP_HOOK_REFUSED ? " (nothing listens on the hook port)"
                                                     : "");
    return err_set(e, EPROTO, "%s%s hook failed: %s", names[hook], build ? "" : " lifecycle",
                   r->text[0] ? r->text : "the answer was not HTTP");
}

int guest_hook(struct vmm *v, const struct image_config *c, enum image_hook_id hook,
               const char *vm_id, const char *payload, const char *env, struct err *e)
{
    const struct image_hook *h = &c->hooks[hook];
    if (!h->enabled)
        return 0;
    struct buf json = BUF_INIT;
    size_t cap = 1024;
    if (hook == IMAGE_HOOK_RUN) {
        struct jsonw jw;
        jsonw_init(&jw, &json);
        jsonw_open(&jw, '{');
        jsonw_kstr(&jw, "microvmId", vm_id);
        if (payload)
            jsonw_kstr(&jw, "runHookPayload", payload);
        if (env) {
            jsonw_key(&jw, "environmentVariables");
            jsonw_raw(&jw, env);
        }
        jsonw_close(&jw, '}');
        cap += json.len;
    }
    AUTO_FREE uint8_t *space = malloc(cap);
    if (!space || json.bad) {
        buf_free(&json);
        return err_sys(e, ENOMEM, "call a hook");
    }
    struct tlv_writer w = tlv_writer_init(space, cap);
    tlv_put_str(&w, GP_T_NAME, image_hook_names[hook]);
    tlv_put_u32(&w, GP_T_PORT, c->hook_port);
    tlv_put_u32(&w, GP_T_TIMEOUT_MS, h->timeout_s * 1000);
    if (hook == IMAGE_HOOK_READY || hook == IMAGE_HOOK_VALIDATE)
        tlv_put_u32(&w, GP_T_RETRY, 1);
    if (json.len) {
        tlv_put_str(&w, GP_T_CONTENT_TYPE, "application/json");
        tlv_put_bytes(&w, GP_T_PAYLOAD, json.data, json.len);
    }
    struct gp_reply reply;
    uint64_t deadline = deadline_ms((uint64_t)h->timeout_s * 1000 + HOOK_MARGIN_MS);
    int r = vmm_guest(v, GP_HOOK, &w, deadline, &reply, e);
    if (json.len)
        explicit_bzero(json.data, json.len); /* the payload may be a secret */
    buf_free(&json);
    if (r == -ETIMEDOUT) {
        reply = (struct gp_reply){.outcome = GP_HOOK_TIMEOUT};
        return hook_failed(hook, c, &reply, e);
    }
    if (r < 0)
        return err_wrap(e, "call the %s hook", image_hook_names[hook]);
    if (reply.num == 0 && reply.outcome == GP_HOOK_OK)
        return 0;
    if (reply.num && reply.outcome == GP_HOOK_OK)
        reply.outcome = GP_HOOK_PROTOCOL;
    return hook_failed(hook, c, &reply, e);
}

/* ---- the environment of one microVM ---- */

/* For a shell: KEY='value', quotes in it as '\''. */
static void add_variable(struct buf *b, const char *key, const char *value)
{
    buf_printf(b, "%s='", key);
    for (; *value; value++) {
        if (*value == '\'')
            buf_str(b, "'\\''");
        else
            buf_add(b, value, 1);
    }
    buf_str(b, "'\n");
}

static int put_file(struct glink *g, const char *path, const struct buf *text,
                    uint64_t deadline, struct err *e)
{
    uint8_t space[4096 + 64];
    struct tlv_writer w = tlv_writer_init(space, 512);
    tlv_put_str(&w, GP_T_PATH, path);
    tlv_put_u32(&w, GP_T_MODE, 0644);
    int r = glink_send(g, GP_FILE_WRITE, 1, w.p, w.len, deadline);
    for (size_t at = 0; r == 0 && at < text->len; at += 4096) {
        w = tlv_writer_init(space, sizeof space);
        tlv_put_bytes(&w, GP_T_DATA, text->data + at, MIN(text->len - at, 4096u));
        r = glink_send(g, GP_STDIN, 1, w.p, w.len, deadline);
    }
    explicit_bzero(space, sizeof space);
    w = tlv_writer_init(space, sizeof space);
    if (r < 0)
        return err_sys(e, -r, "write '%s' in the guest", path);
    r = guest_stream_begin(g, GP_STDIN, &w, deadline, e); /* the end, and its answer */
    return r < 0 ? err_wrap(e, "write '%s' in the guest", path) : 0;
}

int guest_environment(struct vmm *v, const char *env, struct err *e)
{
    AUTO_CLOSE int ours = -1, theirs = -1;
    AUTO(buf_free) struct buf text = BUF_INIT;
    const struct ctl_vsock open = {.port = GP_PORT_STREAM};
    uint64_t deadline = deadline_ms(RESTORE_LIMIT_MS);
    const char *key;
    json_t *value, *all = json_loads(env, 0, NULL);
    json_object_foreach(all, key, value) add_variable(&text, key, json_string_value(value));
    json_decref(all);
    int pair[2];
    if (!all || text.bad)
        return err_set(e, EINVAL, "the microVM's environment cannot be read");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, errno, "open a stream to the guest");
    ours = pair[0];
    theirs = pair[1];
    int r = vmm_call(v, CTL_VSOCK_OPEN, &open, sizeof open, &theirs, 1, deadline, NULL, e);
    struct glink g = {.fd = ours};
    if (r == 0)
        r = put_file(&g, "/run/environment", &text, deadline, e);
    explicit_bzero(text.data, text.len);
    free(g.in);
    return r;
}
