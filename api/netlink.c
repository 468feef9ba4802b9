// SPDX-License-Identifier: Apache-2.0
/* Taps and rtnetlink; see netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "priv.h"

#define VNET_HDR 12 /* struct virtio_net_hdr_v1 */

/* Several requests in one send; the kernel answers each. */
struct batch {
    _Alignas(8) uint8_t data[1024];
    size_t len;
    struct nlmsghdr *cur;
    unsigned count;
};

static void *begin(struct batch *b, uint16_t type, uint16_t flags, size_t body)
{
    b->cur = (struct nlmsghdr *)(void *)(b->data + b->len);
    memset(b->cur, 0, NLMSG_SPACE(body));
    b->cur->nlmsg_type = type;
    b->cur->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    b->cur->nlmsg_seq = ++b->count;
    b->cur->nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    b->len += NLMSG_SPACE(body);
    return NLMSG_DATA(b->cur);
}

static void attr(struct batch *b, uint16_t type, const void *data, size_t len)
{
    struct rtattr *a = (struct rtattr *)(void *)(b->data + b->len);
    memset(a, 0, RTA_SPACE(len));
    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(len);
    memcpy(RTA_DATA(a), data, len);
    b->len += RTA_SPACE(len);
    b->cur->nlmsg_len = (uint32_t)(b->data + b->len - (uint8_t *)b->cur);
}

static void attr_ip(struct batch *b, uint16_t type, uint32_t ip)
{
    uint32_t be = __builtin_bswap32(ip);
    attr(b, type, &be, sizeof be);
}

static int run(int netlink, struct batch *b, const char *what, struct err *e)
{
    if (send(netlink, b->data, b->len, MSG_NOSIGNAL) < 0)
        return err_sys(e, errno, "%s", what);
    int first = 0;
    for (unsigned answered = 0; answered < b->count;) {
        _Alignas(8) uint8_t in[8192];
        ssize_t n = recv(netlink, in, sizeof in, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "%s", what);
        size_t left = (size_t)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)in; NLMSG_OK(h, left);
             h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type != NLMSG_ERROR)
                continue;
            const struct nlmsgerr *ne = NLMSG_DATA(h);
            if (ne->error && !first)
                first = -ne->error;
            answered++;
        }
    }
    return first ? err_sys(e, first, "%s", what) : 0;
}

int netlink_open(int *ret_fd, struct err *e)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return err_sys(e, errno, "open a routing socket");
    int one = 1;
    /* Answers need not repeat the request. */
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    *ret_fd = fd;
    return 0;
}

static void set_sysctl(const char *family, uint32_t slot, const char *name, const char *value)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/sys/net/%s/conf/dm%u/%s", family, slot, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* a kernel without IPv6 has nothing to switch off */
    if (write(fd, value, 1) != 1) {
        /* The packet filter drops IPv6 and foreign sources on "dm*" all the same. */
    }
    close(fd);
}

static int configure(int netlink, uint32_t slot, int *ret_index, struct err *e)
{
    char name[IFNAMSIZ], what[64];
    snprintf(name, sizeof name, "dm%u", slot);
    snprintf(what, sizeof what, "configure the network device '%s'", name);
    int index = (int)if_nametoindex(name);
    if (index == 0)
        return err_sys(e, errno, "%s", what);
    set_sysctl("ipv6", slot, "disable_ipv6", "1");
    set_sysctl("ipv4", slot, "rp_filter", "1");

    static const uint8_t host_mac[6] = PRIV_HOST_MAC;
    struct batch b = {.len = 0};
    struct ifinfomsg *link = begin(&b, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    attr(&b, IFLA_ADDRESS, host_mac, sizeof host_mac);

    struct ifaddrmsg *addr = begin(&b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof *addr);
    addr->ifa_family = AF_INET;
    addr->ifa_prefixlen = 32;
    addr->ifa_scope = RT_SCOPE_LINK;
    addr->ifa_index = (uint32_t)index;
    attr_ip(&b, IFA_LOCAL, PRIV_GATEWAY);
    *ret_index = index;
    return run(netlink, &b, what, e);
}

int tap_address(int netlink, int index, uint32_t ip, struct err *e)
{
    static const uint8_t guest_mac[6] = PRIV_GUEST_MAC;
    struct batch b = {.len = 0};
    /* Replaces the route through the tap the guest ran on before, which is being removed. */
    struct rtmsg *rt = begin(&b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof *rt);
    rt->rtm_family = AF_INET;
    rt->rtm_dst_len = 32;
    rt->rtm_table = RT_TABLE_MAIN;
    rt->rtm_protocol = RTPROT_STATIC;
    rt->rtm_scope = RT_SCOPE_LINK;
    rt->rtm_type = RTN_UNICAST;
    attr_ip(&b, RTA_DST, ip);
    attr_ip(&b, RTA_PREFSRC, PRIV_GATEWAY);
    attr(&b, RTA_OIF, &index, sizeof index);

    struct ndmsg *nd = begin(&b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof *nd);
    nd->ndm_family = AF_INET;
    nd->ndm_ifindex = index;
    nd->ndm_state = NUD_PERMANENT;
    attr_ip(&b, NDA_DST, ip);
    attr(&b, NDA_LLADDR, guest_mac, sizeof guest_mac);
    return run(netlink, &b, "route a guest's address", e);
}

int tap_open(int netlink, uint32_t slot, int *ret_fd, int *ret_index, struct err *e)
{
    AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        err_sys(e, errno, "open /dev/net/tun");
        return err_hint(e, "load the kernel module tun");
    }
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "dm%u", slot);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        return err_sys(e, errno, "make the network device 'dm%u'", slot);
    int size = VNET_HDR;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
        return err_sys(e, errno, "set up the network device 'dm%u'", slot);
    int r = configure(netlink, slot, ret_index, e);
    if (r < 0)
        return r;
    *ret_fd = take_fd(&fd);
    return 0;
}

int tap_remove(int netlink, uint32_t slot)
{
    char name[IFNAMSIZ];
    snprintf(name, sizeof name, "dm%u", slot);
    int index = (int)if_nametoindex(name);
    if (index == 0)
        return -ENOENT;
    struct batch b = {.len = 0};
    struct ifinfomsg *link = begin(&b, RTM_DELLINK, 0, sizeof *link);
    link->ifi_index = index;
    return run(netlink, &b, "remove a network device", NULL);
}
