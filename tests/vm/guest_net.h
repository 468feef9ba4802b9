// SPDX-License-Identifier: Apache-2.0
/* The host's side of guest_drive.c's network: the fields of GP_NET and plain sockets. */
#ifndef DORMOUSE_TESTS_GUEST_NET_H
#define DORMOUSE_TESTS_GUEST_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../guest/abi/tlv.h"

static inline void net_fields(struct tlv_writer *w, uint8_t last_byte, const uint8_t mac[6])
{
    tlv_put_bytes(w, GP_T_IP, ((const uint8_t[]){10, 9, 0, last_byte}), 4);
    tlv_put_u32(w, GP_T_PREFIX, 32);
    tlv_put_bytes(w, GP_T_GATEWAY, ((const uint8_t[]){10, 9, 0, 254}), 4);
    tlv_put_bytes(w, GP_T_HOST_MAC, mac, 6);
    tlv_put_bytes(w, GP_T_DNS, ((const uint8_t[]){10, 9, 0, 254}), 4);
}

static inline int host_socket(int type, const char *ip, uint16_t port, struct sockaddr_in *a)
{
    int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a->sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return fd;
}

static inline int host_listen(int type, const char *ip, uint16_t port)
{
    struct sockaddr_in a;
    int fd = host_socket(type, ip, port, &a);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        (type == SOCK_STREAM && listen(fd, 8) < 0))
        return -1;
    return fd;
}

/* True when the application on 8080 answers at this address within the time. */
static inline bool host_serves(const char *ip, int ms)
{
    static const char ask[] = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    struct sockaddr_in a;
    char reply[128];
    int fd = host_socket(SOCK_STREAM | SOCK_NONBLOCK, ip, 8080, &a);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    bool ok = (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS) &&
              poll(&p, 1, ms) == 1 && write(fd, ask, sizeof ask - 1) > 0;
    p.events = POLLIN;
    ok = ok && poll(&p, 1, ms) == 1 && read(fd, reply, sizeof reply) > 12 &&
         strncmp(reply, "HTTP/1.1 200", 12) == 0;
    close(fd);
    return ok;
}

#endif
