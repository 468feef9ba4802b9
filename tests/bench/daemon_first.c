// SPDX-License-Identifier: Apache-2.0
/* First bytes of new and of woken microVMs, and what a request through the proxy costs. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "daemon.h"

#define REQUESTS 20
/* Until processes that ended are gone and the pool is full again: with one CPU their work would
 * lie between a request and its answer. */
#define SETTLE_US 200000
#define PEER      "localhost:9443"

/* ---- first bytes ---- */

static const char *const tls_names[] = {"established", "new"};

/* "off" when the daemon was told to do without working sets; as it comes, params do not say. */
static const char *worksets(void)
{
    return getenv("WORKSETS");
}

static void rec_first(const char *name, bool fresh, const char *phase, uint64_t ns)
{
    char params[128];
    int n = snprintf(params, sizeof params, "{\"tls\":\"%s\"", tls_names[fresh]);
    if (worksets())
        n += snprintf(params + n, sizeof params - (size_t)n, ",\"workset\":\"%s\"", worksets());
    if (phase)
        n += snprintf(params + n, sizeof params - (size_t)n, ",\"phase\":\"%s\"", phase);
    snprintf(params + n, sizeof params - (size_t)n, "}");
    rec(name, params, "time", "ms", WHO, MS(ns));
}

/* RunMicrovm to the application's answer. `fresh`: over a connection of its own, made for it,
 * else over the one that carried the call: a connection made for the host's name carries
 * requests for any of its microVMs. */
static bool first(struct bench *b, struct vm *vm, bool fresh, bool keep)
{
    uint64_t t[4];
    usleep(SETTLE_US);
    bool ok = vm_run(b, vm);
    t[0] = last_written(); /* not signed and put into records: that it was asked */
    t[1] = now_ns();
    ok = ok && vm_token(b, vm);
    t[2] = now_ns();
    ok = ok && vm_dial(b, vm) && vm_ask(fresh ? &vm->hc : &b->c.api, vm, "/");
    t[3] = now_ns();
    if (!ok || !keep)
        return ok;
    rec_first("run-first-byte", fresh, NULL, t[3] - t[0]);
    rec_first("run-first-byte-phase", fresh, "api", t[1] - t[0]);
    rec_first("run-first-byte-phase", fresh, "token", t[2] - t[1]);
    rec_first("run-first-byte-phase", fresh, "request", t[3] - t[2]);
    return true;
}

static bool woken(struct bench *b, struct vm *vm, bool fresh, bool keep)
{
    bool ok = vm_suspend(b, vm->id);
    if (fresh)
        http_client_close(&vm->hc);
    usleep(SETTLE_US);
    uint64_t begin = now_ns();
    ok = ok && vm_ask(&vm->hc, vm, "/");
    if (ok && keep)
        rec_first("autoresume-first-byte", fresh, NULL, now_ns() - begin);
    return ok;
}

static bool once(struct bench *b, bool fresh, bool keep)
{
    static struct vm vm;
    memset(&vm, 0, sizeof vm);
    bool ok = first(b, &vm, fresh, keep);
    ok = ok && vm_ask(&vm.hc, &vm, "/"); /* the connection is there from now on */
    uint64_t begin = now_ns();
    for (unsigned i = 0; ok && i < REQUESTS; i++)
        ok = vm_ask(&vm.hc, &vm, "/");
    if (ok && keep && !worksets())
        rec("endpoint-request", "{\"connection\":\"kept\"}", "time", "ms", WHO,
            MS(now_ns() - begin) / REQUESTS);
    ok = ok && woken(b, &vm, fresh, keep);
    http_client_close(&vm.hc);
    return vm.id[0] && vm_end(b, vm.id) && ok;
}

static const char *const steps[] = {"embryo", "load", "guest", "hook", "end"};

/* "<id> started in 1.23 ms (embryo 0.10, load 0.42, guest 0.60, hook 0.00, end 0.11)" */
static void note_log(const struct bench *b)
{
    char line[1024], params[64];
    unsigned seen[2] = {0, 0};
    AUTO_FCLOSE FILE *f = fopen(b->log, "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *started = strstr(line, " started in "), *at = started;
        if (!at && !(at = strstr(line, " resumed in ")))
            continue;
        if (seen[started != NULL]++ == 0)
            continue; /* the first one is not counted */
        const char *name = started ? "daemon-start" : "daemon-resume";
        rec(name, "{\"step\":\"total\"}", "time", "ms", WHO, strtod(at + 12, NULL));
        for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
            snprintf(params, sizeof params, "{\"step\":\"%s\"}", steps[i]);
            rec(name, params, "time", "ms", WHO, number_after(at, steps[i]));
        }
    }
}

void daemon_first(struct bench *b)
{
    for (unsigned fresh = 0; fresh < 2; fresh++) {
        for (unsigned i = 0; i < b->runs; i++) {
            if (!once(b, fresh, i > 0)) {
                complain("no first byte: %s", b->c.fail.e.msg);
                return;
            }
        }
    }
    if (!worksets())
        note_log(b);
}

/* ---- the proxy beside nginx ---- */

/* The address of the one microVM that runs: the host route to its tap. */
static uint32_t guest_address(void)
{
    char line[256], name[32];
    unsigned to;
    AUTO_FCLOSE FILE *f = fopen("/proc/net/route", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%31s %x", name, &to) == 2 && strncmp(name, "dm", 2) == 0)
            return to;
    }
    return 0;
}

/* The same request without any proxy. */
static bool ask_directly(uint32_t ip)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr = {.s_addr = ip}};
    char reply[512];
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t n = -1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
        fd_write_full(fd, text, sizeof text - 1) < 0)
        return false;
    n = read(fd, reply, sizeof reply);
    return n > 12 && memcmp(reply + 9, "200", 3) == 0;
}

static bool write_conf(const struct bench *b, uint32_t ip)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr a = {.s_addr = ip};
    AUTO_FCLOSE FILE *f = fopen("/run/nginx.conf", "we");
    if (!f || !inet_ntop(AF_INET, &a, address, sizeof address))
        return false;
    fprintf(f,
            "daemon on; worker_processes 1; user root; pid /run/nginx.pid;\n"
            "error_log /run/nginx.log;\n"
            "events {}\n"
            "http { access_log off; server_tokens off;\n"
            "server { listen 127.0.0.1:9443 ssl; ssl_certificate %s/ca/server.pem;\n"
            "ssl_certificate_key %s/ca/server.key;\n"
            "location / { proxy_http_version 1.1; proxy_set_header Host $host;\n"
            "proxy_pass http://%s:8080; } } }\n",
            b->state, b->state, address);
    return true;
}

/* What peers.sh took out of Debian's package, with the loader that belongs to it. */
static bool nginx_start(const struct bench *b, uint32_t ip)
{
    const char *dir = getenv("NGINX_DIR");
    char text[512];
    if (!dir || !write_conf(b, ip))
        return false;
    snprintf(text, sizeof text,
             "test -x %s/nginx && mkdir -p /var/log/nginx /var/lib/nginx && %s/"
             "ld-linux-aarch64.so.1 --library-path %s %s/nginx -p /run -e /run/nginx.log "
             "-c /run/nginx.conf </dev/null >/run/nginx.out 2>&1",
             dir, dir, dir, dir);
    return system(text) == 0;
}

static void nginx_stop(void)
{
    if (system("kill -TERM $(cat /run/nginx.pid)") != 0)
        complain("nginx does not end");
}

static void note_request(const char *who, const char *params, uint64_t ns, unsigned n)
{
    rec("proxy", params, "time", "ms", who, MS(ns) / n);
    rec("proxy", params, "rate", "1/s", who, n / ((double)ns / 1e9));
}

static void requests(struct bench *b, struct vm *vm, const char *who, struct http_client *hc)
{
    const char *params = "{\"connection\":\"kept\"}";
    bool ok = vm_ask(hc, vm, "/");
    for (unsigned i = 0; i < b->runs && ok; i++) {
        uint64_t begin = now_ns();
        for (unsigned k = 0; k < REQUESTS && ok; k++)
            ok = vm_ask(hc, vm, "/");
        if (ok && i > 0)
            note_request(who, params, now_ns() - begin, REQUESTS);
    }
    params = "{\"connection\":\"new\"}";
    for (unsigned i = 0; i < b->runs && ok; i++) {
        http_client_close(hc);
        uint64_t begin = now_ns();
        ok = vm_ask(hc, vm, "/");
        if (ok && i > 0)
            note_request(who, params, now_ns() - begin, 1);
    }
    http_client_close(hc);
    if (!ok)
        complain("%s: a request failed", who);
}

void daemon_proxy(struct bench *b)
{
    static struct vm vm;
    struct http_client hc;
    struct err e = ERR_INIT;
    rec_compared("proxy");
    if (!vm_run(b, &vm) || !vm_token(b, &vm) || !vm_dial(b, &vm)) {
        complain("no microVM for the proxy: %s", b->c.fail.e.msg);
        return;
    }
    requests(b, &vm, WHO, &vm.hc);
    uint32_t ip = guest_address();
    bool ok = ip != 0;
    for (unsigned i = 0; i < b->runs && ok; i++) {
        uint64_t begin = now_ns();
        for (unsigned k = 0; k < REQUESTS && ok; k++)
            ok = ask_directly(ip);
        if (ok && i > 0)
            rec("endpoint-request", "{\"connection\":\"without-proxy\"}", "time", "ms", WHO,
                MS(now_ns() - begin) / REQUESTS);
    }
    if (!ok)
        complain("the application does not answer without the proxy");
    if (nginx_start(b, ip) && http_client_init(&hc, b->c.tls, PEER, &e) == 0) {
        requests(b, &vm, "nginx", &hc);
        nginx_stop();
    } else {
        printf("# nginx is not here, or does not start: it shows as missing\n");
    }
    vm_end(b, vm.id);
}
