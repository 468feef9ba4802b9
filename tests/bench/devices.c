// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's disk, network and vsock: the guest measures (guest.c), and here is what it talks
 * to, the same for every monitor. A connection begins with one byte: 'e' everything comes back,
 * 's' everything is taken, and one byte says so at the end, 'r' BYTES bytes are sent.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "bench.h"

#define PORT     9000
#define BYTES    (16u << 20)
#define CHUNK    (64u << 10)
#define LIMIT_MS 120000

/* ---- the other end ---- */

static void serve(int fd)
{
    static uint8_t data[CHUNK];
    char what = 0;
    ssize_t n;
    if (read(fd, &what, 1) != 1)
        return;
    if (what == 'r') {
        for (unsigned i = 0; i < BYTES / CHUNK; i++) {
            if (fd_write_full(fd, data, CHUNK) < 0)
                return;
        }
        return;
    }
    while ((n = read(fd, data, sizeof data)) > 0) {
        if (what == 'e' && fd_write_full(fd, data, (size_t)n) < 0)
            return;
    }
    if (what == 's' && fd_write_full(fd, "!", 1) < 0)
        return;
}

/* A process for each connection, which ends with it. */
static void serve_apart(int fd)
{
    pid_t pid = fork();
    if (pid == 0) {
        serve(fd);
        _exit(0);
    }
    close(fd);
}

static pid_t listener(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 8) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGCHLD, SIG_IGN);
        for (int c; (c = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
            serve_apart(c);
        _exit(0);
    }
    close(fd);
    return pid;
}

/* ---- what the guest found ---- */

static void lines(const struct target *t, const char *name, const char *text)
{
    for (const char *p = text; (p = strstr(p, "result ")); p++) {
        char what[16], unit[16], params[96];
        unsigned long long amount, ns;
        if (sscanf(p, "result %15s %llu %15s in %llu ns", what, &amount, unit, &ns) != 4 ||
            strcmp(what, "warm-up") == 0)
            continue;
        snprintf(params, sizeof params, "{\"op\":\"%s\",\"%s\":%llu}", what, unit, amount);
        rec(name, params, "time", "ms", t->name, MS(ns));
        if (strcmp(unit, "bytes") == 0 && ns > 0)
            rec(name, params, "bytes-per-us", "B/us", t->name,
                (double)amount / ((double)ns / 1e3));
    }
}

static void guest_case(const struct target *t, const char *name, const char *cmdline,
                       bool (*until)(struct inst *in))
{
    static struct inst in;
    struct spec s = spec_for(t, cmdline);
    uint64_t ready;
    s.address = true;
    if (t->boot(&in, &s, &ready) && until(&in))
        lines(t, name, in.text);
    else
        complain("%s: no figures of %s: %s", t->name, name, in.text);
    t->stop(&in);
}

static bool finished(struct inst *in)
{
    return console_shows(in, "finished");
}

/* Connections to the host come over the control socket. */
static bool finished_vsock(struct inst *in)
{
    in->len = 0;
    for (;;) {
        struct pollfd p[2] = {{.fd = in->console, .events = POLLIN},
                              {.fd = in->ctl, .events = POLLIN}};
        if (poll(p, 2, LIMIT_MS) <= 0)
            return false;
        int fd = p[1].revents ? dormouse_stream(in) : -1;
        if (fd >= 0)
            serve_apart(fd);
        if (p[1].revents && fd < 0)
            return false;
        if (p[0].revents && !console_more(in))
            return false;
        if (strstr(in->text, "finished"))
            return true;
    }
}

void cases_devices(const struct plan *p)
{
    if (wanted(p, "block")) {
        rec_compared("block");
        for (unsigned k = 0; k < p->ntargets; k++)
            guest_case(p->targets[k], "block", "bench=disk", finished);
    }
    if (wanted(p, "net")) {
        pid_t pid = listener();
        rec_compared("net");
        for (unsigned k = 0; pid > 0 && k < p->ntargets; k++)
            guest_case(p->targets[k], "net", "bench=net", finished);
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
    }
    if (wanted(p, "vsock")) {
        guest_case(&target_dormouse, "vsock", "bench=vsock", finished_vsock);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
