// SPDX-License-Identifier: Apache-2.0
/*
 * The network of the guest: loopback, and eth0 with one static address, a
 * default route and a permanent neighbour entry for the gateway. Re-addressing
 * after a restore is one batch of netlink messages.
 */
#include <errno.h>
#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/ioctl.h>

#include "init.h"
#include "netlink.h"

static void put_link_up(struct net *n, struct nl_batch *b, int index)
{
    struct ifinfomsg up = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    nl_msg(b, RTM_NEWLINK, 0, ++n->seq, &up, sizeof(up));
}

static void put_address(struct net *n, struct nl_batch *b, uint16_t type, const uint8_t ip[4],
                        uint32_t prefix)
{
    struct ifaddrmsg a = {.ifa_family = AF_INET,
                          .ifa_prefixlen = (uint8_t)prefix,
                          .ifa_index = (uint32_t)n->index};
    uint16_t flags = type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0;
    nl_msg(b, type, flags, ++n->seq, &a, sizeof(a));
    nl_attr(b, IFA_LOCAL, ip, 4);
    nl_attr(b, IFA_ADDRESS, ip, 4);
}

static void put_route(struct net *n, struct nl_batch *b, const uint8_t gateway[4])
{
    struct rtmsg r = {.rtm_family = AF_INET,
                      .rtm_table = RT_TABLE_MAIN,
                      .rtm_protocol = RTPROT_STATIC,
                      .rtm_scope = RT_SCOPE_UNIVERSE,
                      .rtm_type = RTN_UNICAST,
                      .rtm_flags = RTNH_F_ONLINK};
    nl_msg(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, ++n->seq, &r, sizeof(r));
    nl_attr(b, RTA_GATEWAY, gateway, 4);
    nl_attr(b, RTA_OIF, &n->index, sizeof(n->index));
}

static void put_neighbour(struct net *n, struct nl_batch *b, uint16_t type,
                          const uint8_t gateway[4], const uint8_t mac[6])
{
    struct ndmsg d = {
        .ndm_family = AF_INET, .ndm_ifindex = n->index, .ndm_state = NUD_PERMANENT};
    uint16_t flags = type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0;
    nl_msg(b, type, flags, ++n->seq, &d, sizeof(d));
    nl_attr(b, NDA_DST, gateway, 4);
    if (type == RTM_NEWNEIGH)
        nl_attr(b, NDA_LLADDR, mac, 6);
}

static int find_eth0(void)
{
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {.ifr_name = "eth0"};
    if (fd < 0 || do_ioctl(fd, SIOCGIFINDEX, &req) < 0)
        return 0;
    return req.ifr_ifindex;
}

int net_init(struct net *n)
{
    *n = (struct net){.rtnl = nl_open(NETLINK_ROUTE), .diag = nl_open(NETLINK_SOCK_DIAG)};
    if (n->rtnl < 0)
        return n->rtnl;
    struct nl_batch b = {.len = 0};
    put_link_up(n, &b, 1);
    /* as Docker has it: any user may listen on port 80 and send pings */
    write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    write_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    return nl_talk(n->rtnl, &b);
}

static bool get_bytes(const struct req *r, uint16_t tag, uint8_t *ret, size_t want, bool *has)
{
    const uint8_t *d;
    size_t len;
    *has = req_find(r, tag, &d, &len);
    if (*has && len == want)
        memcpy(ret, d, want);
    return !*has || len == want;
}

static int read_dns(struct init *in, const struct req *r, struct fail *f)
{
    struct tlv_reader t = tlv_reader_init(r->body, r->len);
    uint16_t tag;
    const uint8_t *d;
    size_t len, count = 0;
    uint8_t dns[DNS_MAX][4];
    while (tlv_next(&t, &tag, &d, &len)) {
        if (tag != GP_T_DNS)
            continue;
        if (len != 4)
            return fail_set(f, EINVAL, "DNS must be 4 bytes");
        if (count < DNS_MAX)
            memcpy(dns[count++], d, 4);
    }
    if (count > 0 && (count != in->ndns || memcmp(dns, in->dns, count * 4) != 0)) {
        memcpy(in->dns, dns, count * 4);
        in->ndns = count;
        ident_resolv(in);
    }
    return 0;
}

int net_apply(struct init *in, const struct req *r, struct fail *f)
{
    struct net *n = &in->net;
    struct net next = *n;
    bool has_ip, has_gateway, has_mac;
    char hostname[65];
    uint32_t prefix;
    if (!get_bytes(r, GP_T_IP, next.ip, 4, &has_ip) ||
        !get_bytes(r, GP_T_GATEWAY, next.gateway, 4, &has_gateway) ||
        !get_bytes(r, GP_T_HOST_MAC, next.mac, 6, &has_mac) ||
        !req_u32(r, GP_T_PREFIX, 32, &prefix) || prefix > 32 ||
        !req_str(r, GP_T_HOSTNAME, hostname, sizeof(hostname)))
        return fail_set(f, EINVAL, "a network field is malformed");
    next.has_mac = n->has_mac || has_mac;
    next.prefix = prefix;
    int err = read_dns(in, r, f);
    if (err < 0)
        return err;
    bool renamed = hostname[0] && strcmp(hostname, in->hostname) != 0;
    if (renamed)
        ident_hostname(in, hostname);
    bool same = n->up && memcmp(n->ip, next.ip, 4) == 0 && n->prefix == prefix &&
                memcmp(n->gateway, next.gateway, 4) == 0 && memcmp(n->mac, next.mac, 6) == 0;
    if (!has_ip || same) {
        if (renamed)
            ident_hosts(in);
        return 0;
    }
    if (n->index == 0) {
        n->index = next.index = find_eth0();
        write_file("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
    }
    if (n->index == 0)
        return fail_set(f, ENODEV, "this machine has no network device (eth0)");
    struct nl_batch b = {.len = 0};
    if (!n->up)
        put_link_up(n, &b, n->index);
    /* the new address comes before the old one goes: routes live as long as one is left */
    put_address(n, &b, RTM_NEWADDR, next.ip, prefix);
    if (n->up && (memcmp(n->ip, next.ip, 4) != 0 || n->prefix != prefix))
        put_address(n, &b, RTM_DELADDR, n->ip, n->prefix);
    if (n->up && n->has_mac && memcmp(n->gateway, next.gateway, 4) != 0)
        put_neighbour(n, &b, RTM_DELNEIGH, n->gateway, n->mac);
    if (has_gateway)
        put_route(n, &b, next.gateway);
    if (has_gateway && next.has_mac)
        put_neighbour(n, &b, RTM_NEWNEIGH, next.gateway, next.mac);
    err = nl_talk(n->rtnl, &b);
    if (err < 0)
        return fail_sys(f, -err, "configure eth0");
    next.seq = n->seq;
    next.up = true;
    *n = next;
    ident_hosts(in);
    return 0;
}

void net_request(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    net_apply(in, r, &f);
    ctl_fail(in, r->id, &f);
}
