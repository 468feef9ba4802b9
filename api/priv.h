// SPDX-License-Identifier: Apache-2.0
/*
 * Messages from the api role to the privileged parent (base/msg.h). The parent
 * is root, parses nothing from outside, checks every field, and ends the child
 * on nonsense.
 */
#ifndef DORMOUSE_API_PRIV_H
#define DORMOUSE_API_PRIV_H

#include <stdint.h>

#define PRIV_SLOTS 1024u /* microVMs at once; a slot names uid, tap and address */

enum priv_type {
    PRIV_SPAWN = 1, /* struct priv_spawn + fd: the VMM's end of its control socket */
    PRIV_KILL,      /* struct priv_slot: SIGKILL the VMM of a slot */
    PRIV_RELEASE,   /* struct priv_slot: remove tap, cgroup; the process is gone */
    PRIV_ADDRESS,   /* struct priv_address: route a guest address to the slot's tap; for good */
    PRIV_FILE,      /* struct priv_file: a file of the settings, opened for reading */
    PRIV_ADOPT,     /* struct priv_slot: the next slot in use from this one on; at start */
    PRIV_DONE = 64, /* answer; PRIV_SPAWN: struct priv_spawned + fds: pidfd, [tap];
                     * PRIV_FILE: fd: the file;
                     * PRIV_ADOPT: struct priv_spawned, slot PRIV_SLOTS when there is none,
                     * + fds: pidfd, a new control socket; no fds: it has ended */
    PRIV_FAIL,      /* answer; struct ctl_fail */
};

struct priv_spawn {
    uint32_t slot; /* < PRIV_SLOTS, chosen by the api role, free */
    uint32_t vcpus;
    uint64_t mem_bytes;
    uint32_t want_tap;
    uint32_t cpu_percent; /* 0: no limit; 100 = one CPU */
};

/* The child names files only by number; which they are is in the settings. */
enum priv_file_id { PRIV_TLS_CERT, PRIV_TLS_KEY, PRIV_TLS_CLIENT_CA, PRIV_FILES };

struct priv_file {
    uint32_t which; /* enum priv_file_id */
};

struct priv_slot {
    uint32_t slot;
};

struct priv_address {
    uint32_t slot; /* live */
    uint32_t ip;   /* host order; one of priv_guest_ip() */
};

/* Address plan: a microVM has one address of 10.181.0.0/16 for life, whatever slot runs it; the
 * host side of every tap is 169.254.1.1 with MAC 02:64:6d:00:00:01 (same on all taps; the guest
 * has a permanent neighbour entry, so no ARP is spent after a restore); the guest's MAC is
 * 02:64:6d:00:00:02. A host route 10.181.x.y/32 points at tap "dm<slot>" that runs it. */
#define PRIV_NET_BASE  0x0ab50000u /* 10.181.0.0 */
#define PRIV_ADDRESSES (256u * 254u)
#define PRIV_GATEWAY   0xa9fe0101u /* 169.254.1.1 */
#define PRIV_HOST_MAC                      \
    {                                      \
        0x02, 0x64, 0x6d, 0x00, 0x00, 0x01 \
    }
#define PRIV_GUEST_MAC                     \
    {                                      \
        0x02, 0x64, 0x6d, 0x00, 0x00, 0x02 \
    }

/* The n-th address, n < PRIV_ADDRESSES: no byte of the last is 0 or 255. */
static inline uint32_t priv_guest_ip(uint32_t n)
{
    return PRIV_NET_BASE + ((n / 254u) << 8) + n % 254u + 1u;
}

/* Its number, or PRIV_ADDRESSES for an address that is none. */
static inline uint32_t priv_guest_index(uint32_t ip)
{
    uint32_t low = ip & 255u;
    if ((ip & 0xffff0000u) != PRIV_NET_BASE || low == 0 || low == 255u)
        return PRIV_ADDRESSES;
    return ((ip >> 8) & 255u) * 254u + low - 1u;
}

struct priv_spawned {
    int32_t pid;
    uint32_t slot;
};

#endif
