// SPDX-License-Identifier: Apache-2.0
/* Part of guest_drive.c: a name whose addresses do not fit a datagram, so that the C library in
 * the guest asks again over TCP. */
#ifndef DORMOUSE_TESTS_GUEST_DNS_H
#define DORMOUSE_TESTS_GUEST_DNS_H

#include <signal.h>
#include <sys/wait.h>

#include "guest_host.h"
#include "guest_net.h"

#define DNS_ADDRESSES 60u /* 16 bytes each: more than the 512 of a datagram */
#define DNS_ROOM      2048u
#define DNS_HEAD      12u

/* The answer to a question of n bytes in p, which has DNS_ROOM: whole, or, over UDP, cut off
 * before its first address. Its length. Other questions than for IPv4 get none. */
static inline size_t dns_reply(uint8_t *p, size_t n, bool udp)
{
    p[2] |= udp ? 0x82 : 0x80; /* an answer; cut off */
    p[3] = 0x80;
    p[7] = p[10] = p[11] = 0;
    size_t name = DNS_HEAD;
    while (name < n && p[name])
        name += p[name] + 1u;
    n = name + 5; /* nothing behind the question */
    if (udp || p[name + 2] != 1)
        return n;
    p[7] = DNS_ADDRESSES;
    for (uint8_t i = 0; i < DNS_ADDRESSES; i++, n += 16)
        memcpy(p + n,
               ((const uint8_t[16]){0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 7, 0, i}), 16);
    return n;
}

static inline void dns_by_udp(int udp)
{
    uint8_t p[DNS_ROOM];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(udp, p, 512, 0, (struct sockaddr *)&from, &len);
    if (n > (ssize_t)DNS_HEAD &&
        sendto(udp, p, dns_reply(p, (size_t)n, true), 0, (struct sockaddr *)&from, len) < 0)
        perror("# the name server");
}

/* Each message has its length before it. */
static inline void dns_by_tcp(int fd)
{
    uint8_t p[2 + DNS_ROOM];
    ssize_t n;
    while ((n = recv(fd, p, 2, MSG_WAITALL)) == 2 && p[0] < 2 &&
           (n = recv(fd, p + 2, (size_t)p[0] << 8 | p[1], MSG_WAITALL)) > (ssize_t)DNS_HEAD) {
        size_t len = dns_reply(p + 2, (size_t)n, false);
        p[0] = (uint8_t)(len >> 8);
        p[1] = (uint8_t)len;
        if (write(fd, p, len + 2) < 0)
            perror("# the name server");
    }
    close(fd);
}

/* A name server at the gateway's address; `udp_only` refuses connections. */
static inline pid_t dns_serve(bool udp_only)
{
    int udp = host_listen(SOCK_DGRAM, "10.9.0.254", 53);
    int tcp = udp_only ? -1 : host_listen(SOCK_STREAM, "10.9.0.254", 53);
    pid_t pid = udp >= 0 && (udp_only || tcp >= 0) ? fork() : -1;
    if (pid == 0) {
        struct pollfd p[2] = {{.fd = udp, .events = POLLIN}, {.fd = tcp, .events = POLLIN}};
        signal(SIGPIPE, SIG_IGN);
        while (poll(p, 2, -1) > 0) {
            if (p[0].revents)
                dns_by_udp(udp);
            if (p[1].revents)
                dns_by_tcp(accept(tcp, NULL, NULL));
        }
        _exit(1);
    }
    close(udp);
    if (tcp >= 0)
        close(tcp);
    return pid;
}

static inline void dns_end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(dns_over_tcp)
{
    uint8_t mac[6];
    arg.s.tap = make_tap(mac);
    if (!CHECK(arg.s.tap > 0) || !machine_up(&g))
        return;
    struct tlv_writer w = fields();
    net_fields(&w, 2, mac);
    CHECK(guest_ok(&g, GP_NET, &w));
    if (!start(&g, ARGS("sh", "-c", "sleep")))
        return;
    pid_t server = dns_serve(false);
    CHECK(server > 0);
    CHECK(run_in(&g, ARGS("payload", "resolve", "many.example")));
    /* the C library takes 48 at most */
    CHECK(strstr(out, "10.7.0.0 to 10.7.0.47, 48 addresses\n"));
    dns_end(server);
    /* so they did not come over UDP */
    server = dns_serve(true);
    CHECK(!run_in(&g, ARGS("payload", "resolve", "many.example")));
    dns_end(server);
    CHECK(guest_kill(&g));
    close(arg.s.tap);
    arg.s.tap = 0;
}

#endif
