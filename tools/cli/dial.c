// SPDX-License-Identifier: Apache-2.0
/* TCP connections; see dial.h. */
#include "dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../api/conn.h"
#include "../../hypervisor/base/mem.h"

bool name_is_local(const char *host)
{
    static const char tail[] = ".localhost";
    size_t len = strlen(host), n = strlen(tail);
    return strcasecmp(host, "localhost") == 0 ||
           (len > n && strcasecmp(host + len - n, tail) == 0);
}

/* 0, or -errno of this address. */
static int connect_to(const struct sockaddr *sa, socklen_t len, int64_t deadline, int *ret_fd)
{
    static const int one = 1;
    AUTO_CLOSE int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, sa, len) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        int64_t left = deadline - clock_ms();
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n = left > 0 ? poll(&p, 1, left > 3600000 ? 3600000 : (int)left) : 0;
        if (n <= 0)
            return n == 0 ? -ETIMEDOUT : -errno;
        int num = 0;
        socklen_t size = sizeof num;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &num, &size) < 0)
            return -errno;
        if (num)
            return -num;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

static int dial_local(uint16_t port, int64_t deadline, int *ret_fd)
{
    const struct sockaddr_in v4 = {.sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int r = connect_to((const struct sockaddr *)&v4, sizeof v4, deadline, ret_fd);
    if (r == -ECONNREFUSED &&
        connect_to((const struct sockaddr *)&v6, sizeof v6, deadline, ret_fd) == 0)
        r = 0;
    return r;
}

static int dial_name(const char *host, uint16_t port, int64_t deadline, int *ret_fd,
                     struct err *e)
{
    const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int g = getaddrinfo(host, service, &want, &list);
    if (g != 0) {
        err_set(e, EHOSTUNREACH, "the name '%.200s' is not known: %s", host,
                g == EAI_SYSTEM ? strerror(errno) : gai_strerror(g));
        return err_hint(e, "check the host name in DORMOUSE_URL");
    }
    int r = -EHOSTUNREACH;
    for (const struct addrinfo *a = list; a && r < 0; a = a->ai_next)
        r = connect_to(a->ai_addr, a->ai_addrlen, deadline, ret_fd);
    freeaddrinfo(list);
    return r < 0 ? err_sys(e, -r, "connect to %.200s:%u", host, port) : 0;
}

int dial(const char *host, uint16_t port, int64_t deadline, int *ret_fd, struct err *e)
{
    if (!name_is_local(host))
        return dial_name(host, port, deadline, ret_fd, e);
    int r = dial_local(port, deadline, ret_fd);
    if (r == 0)
        return 0;
    err_sys(e, -r, "connect to %.200s:%u", host, port);
    return err_hint(e, "start a host with: make up   (or see whether it runs: tools/host.sh "
                       "status)");
}
