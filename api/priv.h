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
    PRIV_DONE = 64, /* answer; PRIV_SPAWN: struct priv_spawned + fds: pidfd, [tap] */
    PRIV_FAIL,      /* answer; struct ctl_fail */
};

struct priv_spawn {
    uint32_t slot; /* < PRIV_SLOTS, chosen by the api role, free */
    uint32_t vcpus;
    uint64_t mem_bytes;
    uint32_t want_tap;
    uint32_t cpu_percent; /* 0: no limit; 100 = one CPU */
};

struct priv_slot {
    uint32_t slot;
};

/* Address plan: guest 10.181.0.0/16, slot s has 10.181.(s/254).(s%254+1); the host side of
 * every tap is 169.254.1.1 with MAC 02:64:6d:00:00:01 (same on all taps; the guest has a
 * permanent neighbour entry, so no ARP is spent after a restore); the guest's MAC is
 * 02:64:6d:00:00:02. A host route 10.181.x.y/32 points at tap "dm<slot>". */
#define PRIV_NET_BASE 0x0ab50000u /* 10.181.0.0 */
#define PRIV_GATEWAY  0xa9fe0101u /* 169.254.1.1 */
#define PRIV_HOST_MAC                      \
    {                                      \
        0x02, 0x64, 0x6d, 0x00, 0x00, 0x01 \
    }
#define PRIV_GUEST_MAC                     \
    {                                      \
        0x02, 0x64, 0x6d, 0x00, 0x00, 0x02 \
    }

static inline uint32_t priv_slot_ip(uint32_t slot)
{
    return PRIV_NET_BASE + ((slot / 254u) << 8) + slot % 254u + 1u;
}

struct priv_spawned {
    int32_t pid;
    uint32_t slot;
};

#endif
