// SPDX-License-Identifier: Apache-2.0
/*
 * Who this machine is: the small files that applications see as /etc/hostname,
 * /etc/hosts, /etc/resolv.conf, /etc/machine-id, the boot id and /run/dormouse.
 * They live in init's memory file system and are bind-mounted into the
 * application's view, so a restore rewrites them without touching the disk.
 */
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "init.h"

void ident_put(struct init *in, enum ident_file which, const char *text)
{
    rewrite_fd(in->ident[which], text, strlen(text));
}

static void put_hex(char *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[data[i] >> 4];
        out[2 * i + 1] = digits[data[i] & 15];
    }
    out[2 * len] = '\0';
}

void ident_fresh(struct init *in)
{
    uint8_t bytes[32];
    char hex[65], text[48];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return;
    for (size_t at = 0; at < sizeof(bytes); at += 16) { /* both are version 4 UUIDs */
        bytes[at + 6] = (uint8_t)((bytes[at + 6] & 0x0f) | 0x40);
        bytes[at + 8] = (uint8_t)((bytes[at + 8] & 0x3f) | 0x80);
    }
    put_hex(hex, bytes, sizeof(bytes));
    text_put(text, sizeof(text), "%.32s\n", hex);
    ident_put(in, IDENT_MACHINE_ID, text);
    text_put(text, sizeof(text), "%.8s-%.4s-%.4s-%.4s-%.12s\n", hex + 32, hex + 40, hex + 44,
             hex + 48, hex + 52);
    ident_put(in, IDENT_BOOT_ID, text);
}

void ident_hosts(struct init *in)
{
    char text[320];
    const uint8_t *ip = in->net.ip;
    int n = text_put(text, sizeof(text),
                     "127.0.0.1\tlocalhost\n"
                     "::1\tlocalhost ip6-localhost ip6-loopback\n");
    if (in->hostname[0])
        text_put(text + n, sizeof(text) - (size_t)n, "%u.%u.%u.%u\t%s\n",
                 in->net.up ? ip[0] : 127u, ip[1], ip[2], in->net.up ? ip[3] : 1u,
                 in->hostname);
    ident_put(in, IDENT_HOSTS, text);
}

void ident_resolv(struct init *in)
{
    char text[DNS_MAX * 32] = "";
    size_t len = 0;
    for (size_t i = 0; i < in->ndns; i++) {
        const uint8_t *d = in->dns[i];
        len += (size_t)text_put(text + len, sizeof(text) - len, "nameserver %u.%u.%u.%u\n",
                                d[0], d[1], d[2], d[3]);
    }
    ident_put(in, IDENT_RESOLV, text);
}

void ident_hostname(struct init *in, const char *name)
{
    char text[72];
    text_put(in->hostname, sizeof(in->hostname), "%s", name);
    text_put(text, sizeof(text), "%s\n", name);
    ident_put(in, IDENT_HOSTNAME, text);
    /* init itself moves into the application's UTS namespace once it has one */
    if (in->app.uts >= 0 && syscall(SYS_setns, in->app.uts, CLONE_NEWUTS) == 0)
        close_fd(&in->app.uts);
    if (sethostname(name, strlen(name)) < 0)
        complain("cannot set the hostname");
}
