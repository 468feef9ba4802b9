// SPDX-License-Identifier: Apache-2.0
/* What all monitors need: a console to read, a tap, a disk, an end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define LIMIT_MS   120000
#define VNET_HDR   12
#define HOST_IP    "198.18.0.1" /* the guest knows it */
#define DISK_BYTES (64ll << 20)

struct bench_setup setup;

bool console_open(struct inst *in, int *ret_theirs)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    in->console = fds[0];
    in->len = 0;
    *ret_theirs = fds[1];
    return true;
}

bool console_more(struct inst *in)
{
    if (in->len == sizeof in->text - 1)
        in->len = 0;
    ssize_t n = read(in->console, in->text + in->len, sizeof in->text - 1 - in->len);
    if (n <= 0)
        return false;
    in->len += (size_t)n;
    in->text[in->len] = '\0';
    return true;
}

bool console_shows(struct inst *in, const char *what)
{
    in->len = 0;
    for (;;) {
        struct pollfd p = {.fd = in->console, .events = POLLIN};
        if (poll(&p, 1, LIMIT_MS) != 1 || !console_more(in))
            return false;
        if (strstr(in->text, what))
            return true;
    }
}

/* The host's side of the guest's network. */
static bool give_address(int sock, const char *name)
{
    struct ifreq ifr = {.ifr_flags = 0};
    struct sockaddr_in at = {.sin_family = AF_INET};
    memcpy(ifr.ifr_name, name, sizeof ifr.ifr_name);
    inet_pton(AF_INET, HOST_IP, &at.sin_addr);
    memcpy(&ifr.ifr_addr, &at, sizeof at);
    if (ioctl(sock, SIOCSIFADDR, &ifr) < 0)
        return false;
    inet_pton(AF_INET, "255.255.255.0", &at.sin_addr);
    memcpy(&ifr.ifr_netmask, &at, sizeof at);
    return ioctl(sock, SIOCSIFNETMASK, &ifr) == 0;
}

bool tap_up(const char *name, bool address)
{
    struct ifreq up = {.ifr_flags = (short)(address ? IFF_UP : IFF_UP | IFF_NOARP)};
    snprintf(up.ifr_name, sizeof up.ifr_name, "%s", name);
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return false;
    bool ok =
        (!address || give_address(sock, up.ifr_name)) && ioctl(sock, SIOCSIFFLAGS, &up) == 0;
    close(sock);
    return ok;
}

/* Removed with its last descriptor. */
static int tap_new(const struct spec *s)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), size = VNET_HDR;
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "bench%d", setup.tap_seq++ % 10000);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ||
        !tap_up(ifr.ifr_name, s->address)) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* The host's network device is no part of a monitor's start. */
static int spare = -1;
static bool spare_address;

void tap_prepare(const struct spec *s)
{
    if (!s->net || spare >= 0)
        return;
    spare = tap_new(s);
    spare_address = s->address;
}

int tap_make(const struct spec *s)
{
    int fd = spare_address == s->address ? spare : -1;
    if (fd < 0)
        return tap_new(s);
    spare = -1;
    return fd;
}

const char *disk_path(void)
{
    static char path[256];
    if (path[0])
        return path;
    snprintf(path, sizeof path, "%s/bench.disk", setup.dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0)
        complain("cannot make %s", path);
    if (fd >= 0)
        close(fd);
    return path;
}

bool reap(struct inst *in)
{
    int status = 0;
    int *const fds[] = {&in->ctl, &in->console, &in->tap, &in->pidfd};
    pid_t r = waitpid(in->pid, &status, 0);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    return r == in->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
