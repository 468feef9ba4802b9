// SPDX-License-Identifier: Apache-2.0
/*
 * Upstreams, a part of guest_drive.c. Their server is a process of its own on
 * the tap's second address, which sends each line back, but a line that begins
 * with "hold" never. A line out of turn, over whatever connection, is answered
 * with "wrong". It is name server for echo.example, too.
 */
#ifndef DORMOUSE_TESTS_GUEST_UPSTREAM_H
#define DORMOUSE_TESTS_GUEST_UPSTREAM_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "guest_host.h"
#include "guest_net.h"

#define UPSTREAM_CLIENTS 64
#define UPSTREAM_STREAMS 8

/* The line "NAME N" follows what this name sent before. */
static inline bool upstream_is_new(const char *line)
{
    static struct {
        char name[32];
        long next;
    } seen[UPSTREAM_STREAMS];
    size_t len = strcspn(line, " ");
    long n = strtol(line + len, NULL, 10);
    for (size_t i = 0; i < UPSTREAM_STREAMS; i++) {
        if (seen[i].name[0] == '\0')
            snprintf(seen[i].name, sizeof seen[i].name, "%.*s", (int)(len < 31 ? len : 31),
                     line);
        if (strlen(seen[i].name) != len || memcmp(seen[i].name, line, len) != 0)
            continue;
        bool ok = n == seen[i].next;
        seen[i].next = n + 1;
        return ok;
    }
    return false;
}

static inline bool upstream_answer(int fd)
{
    char line[256];
    ssize_t n = read(fd, line, sizeof line - 1);
    if (n <= 0)
        return false;
    line[n] = '\0';
    if (strncmp(line, "hold", 4) == 0)
        return true;
    const char *reply = upstream_is_new(line) ? line : "wrong\n";
    return write(fd, reply, strlen(reply)) > 0;
}

/* The address of the tap for every name, behind an alias. */
static inline void upstream_name(int udp)
{
    static const uint8_t tail[] = {0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1,  'x', 0xc0, 12,
                                   0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 9,   0,    253};
    uint8_t msg[600];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(udp, msg, 512, 0, (struct sockaddr *)&from, &len);
    if (n < 12)
        return;
    memcpy(msg + n, tail, sizeof tail);
    msg[2] |= 0x80;
    msg[7] = 2;
    if (sendto(udp, msg, (size_t)n + sizeof tail, 0, (struct sockaddr *)&from, len) < 0)
        perror("# the name server");
}

static inline void upstream_loop(int tcp, int udp)
{
    struct pollfd p[UPSTREAM_CLIENTS + 2] = {{.fd = tcp, .events = POLLIN},
                                             {.fd = udp, .events = POLLIN}};
    nfds_t n = 2;
    while (poll(p, n, -1) > 0) {
        for (nfds_t i = 2; i < n; i++) {
            if (p[i].revents && !upstream_answer(p[i].fd)) {
                close(p[i].fd);
                p[i--] = p[--n];
            }
        }
        if (p[1].revents)
            upstream_name(udp);
        if (p[0].revents && n < UPSTREAM_CLIENTS + 2)
            p[n++] = (struct pollfd){.fd = accept(tcp, NULL, NULL), .events = POLLIN};
    }
}

static inline pid_t upstream_serve(uint16_t port)
{
    int tcp = host_listen(SOCK_STREAM, "10.9.0.253", port);
    int udp = host_listen(SOCK_DGRAM, "10.9.0.254", 53);
    pid_t pid = tcp >= 0 && udp >= 0 ? fork() : -1;
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        upstream_loop(tcp, udp);
        _exit(1);
    }
    close(tcp);
    close(udp);
    return pid;
}

static inline void upstream_end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- tests ---- */

static bool net_up(const uint8_t mac[6])
{
    if (!machine_up(&g))
        return false;
    struct tlv_writer w = fields();
    net_fields(&w, 2, mac);
    return CHECK(guest_ok(&g, GP_NET, &w));
}

TEST(upstream_declarations)
{
    struct tlv_writer w = fields();
    if (!machine_up(&g))
        return;
    args(&w, ARGS("sleep"));
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_DB=http://db");
    CHECK(guest_ask(&g, GP_START, &w) && g.answer.num == EINVAL);
    CHECK_STR(g.answer.text, "DORMOUSE_UPSTREAM_DB must be "
                             "tcp:HOST:PORT[,listen=PORT][,wait=SECONDS][,oneway]");
    w = fields();
    args(&w, ARGS("sh", "-c", "ls /run/dormouse/upstream ; ask 7300 0"));
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_DB=tcp:10.1.2.3:1,listen=7300,wait=1");
    CHECK(guest_ok(&g, GP_START, &w)); /* after a failed start, too */
    CHECK(guest_line(&g, 0, "7300 ended after 0: Connection reset by peer\n"));
    CHECK(has("1 140666 0:0 0 ") && has(" db\n"));
    CHECK(guest_exited(&g) && guest_kill(&g));
}

/* The number of the last answer that the application saw from this upstream. */
static bool answers(const char *target, size_t from)
{
    char what[64];
    snprintf(what, sizeof what, "1 %s answered ", target);
    return CHECK(guest_line(&g, from, what));
}

TEST(upstreams)
{
    uint8_t mac[6];
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    arg.s.tap = make_tap(mac);
    pid_t server = upstream_serve(7001);
    if (!CHECK(arg.s.tap > 0) || !CHECK(server > 0) || !net_up(mac))
        return;
    struct tlv_writer w = fields();
    args(&w, ARGS("sh", "-c",
                  "ask unix:echo 5 & ask 7300 5 & ask unix:named 5 & ask 7301 0 & "
                  "ask unix:gone 0 & tick 50 0"));
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_ECHO=tcp:10.9.0.253:7001,listen=7300");
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_NAMED=tcp:echo.example:7001,wait=2");
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_HOLD=tcp:10.9.0.253:7001,listen=7301");
    tlv_put_str(&w, GP_T_ENV, "DORMOUSE_UPSTREAM_GONE=tcp:10.9.0.253:7009,wait=1");
    if (!CHECK(guest_ok(&g, GP_START, &w)))
        return;
    CHECK(answers("unix:echo", 0) && answers("7300", 0) && answers("unix:named", 0));
    CHECK(guest_line(&g, 0, "1 unix:gone ended after 0: end of stream\n"));
    freeze(&g, 1);
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    CHECK(!strstr(g.text, "7301 ended")); /* before the restore nothing is wrong with it */

    /* twice the same address, then another: each time the application's connections go on,
     * and the last time the server is gone for good */
    char path[2][300];
    const char *session = NULL;
    for (uint64_t i = 1; i <= 4; i++) {
        CHECK(guest_kill(&g));
        if (i == 4)
            upstream_end(server);
        if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, session)))
            return;
        w = restore_fields(i == 3, i, "again");
        net_fields(&w, i >= 3 ? 3 : 2, mac);
        size_t from = g.text_len;
        CHECK(guest_ok(&g, GP_RESTORED, &w));
        if (i == 4)
            break;
        CHECK(answers("unix:echo", from) && answers("7300", from) &&
              answers("unix:named", from));
        CHECK(i > 1 ||
              guest_line(&g, from, "1 7301 ended after 0: Connection reset by peer\n"));
        CHECK(!strstr(g.text, "echo ended") && !strstr(g.text, "7300 ended") &&
              !strstr(g.text, "named ended"));
        snprintf(path[i % 2], sizeof path[0], "%s.%u", arg.session, (unsigned)(i % 2));
        session = path[i % 2];
        freeze(&g, 0);
        CHECK(guest_save(&g, session, 0, &saved));
    }
    CHECK(guest_line(&g, 0, "1 unix:named ended after "));
    CHECK(guest_kill(&g));
    close(arg.s.tap);
    arg.s.tap = 0;
}

#endif
