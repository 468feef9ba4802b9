// SPDX-License-Identifier: Apache-2.0
/* The host's packet filter; see nft.h. */
#include "nft.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"

/*
 * Order matters: what a guest may not do is dropped before anything is accepted. "fib saddr .
 * iif oif missing" is true when the route back to the source does not lead to the interface
 * the packet came from: a guest can only send with the address of its own tap.
 */
const char nft_rules[] =
    "add table inet dormouse\n"
    "delete table inet dormouse\n"
    "table inet dormouse {\n"
    "  chain spoof {\n"
    "    type filter hook prerouting priority -300; policy accept;\n"
    "    iifname \"dm*\" meta nfproto ipv6 drop\n"
    "    iifname \"dm*\" fib saddr . iif oif missing drop\n"
    "  }\n"
    "  chain input {\n"
    "    type filter hook input priority -10; policy accept;\n"
    "    iifname \"dm*\" ct state established accept\n"
    "    iifname \"dm*\" drop\n"
    "  }\n"
    "  chain forward {\n"
    "    type filter hook forward priority -10; policy accept;\n"
    "    iifname \"dm*\" oifname \"dm*\" drop\n"
    "    iifname \"dm*\" ip daddr { 127.0.0.0/8, 169.254.0.0/16, 10.181.0.0/16 } drop\n"
    "    iifname \"dm*\" accept\n"
    "    oifname \"dm*\" ct state established,related accept\n"
    "    oifname \"dm*\" drop\n"
    "  }\n"
    "  chain leave {\n"
    "    type nat hook postrouting priority 100; policy accept;\n"
    "    ip saddr 10.181.0.0/16 oifname != \"dm*\" masquerade\n"
    "  }\n"
    "}\n";

int nft_load(const char *nft, struct err *e)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return err_sys(e, errno, "run %s", nft);
    AUTO_CLOSE int rd = in[0], wr = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(e, errno, "run %s", nft);
    AUTO_CLOSE int erd = out[0], ewr = out[1];
    pid_t pid = fork();
    if (pid < 0)
        return err_sys(e, errno, "run %s", nft);
    if (pid == 0) {
        char *const argv[] = {(char *)(uintptr_t)nft, (char *)(uintptr_t) "-f",
                              (char *)(uintptr_t) "-", NULL};
        char *const envp[] = {NULL};
        if (dup2(rd, 0) >= 0 && dup2(ewr, 1) >= 0 && dup2(ewr, 2) >= 0)
            execve(nft, argv, envp);
        _exit(127);
    }
    close(take_fd(&rd));
    close(take_fd(&ewr));
    /* The rules fit into the pipe's buffer, so neither side can wait for the other. */
    int r = fd_write_full(wr, nft_rules, strlen(nft_rules));
    close(take_fd(&wr));
    char said[200] = "";
    size_t n = 0;
    ssize_t got;
    while (n < sizeof said - 1 && (got = read(erd, said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return err_sys(e, errno, "wait for %s", nft);
    }
    if (r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    err_set(e, EIO, "%s did not load the packet filter rules: %s", nft,
            n ? said : "it could not be run");
    return err_hint(e,
                    "install nftables and load the modules nf_tables, nft_masq, nft_fib_inet");
}
