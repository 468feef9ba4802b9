// SPDX-License-Identifier: Apache-2.0
/* Files of the host that the fleet reads, opened while that is still allowed; see fleet.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../snapshot/kerneltext.h"
#include "fleet.h"
#include "layers.h"
#include "seal.h"

/* The guests use the host's name servers; one that listens only inside the host is of no use.
 */
static void read_dns(struct fleet_host *h)
{
    AUTO_FREE char *text = NULL;
    if (fd_read_file(AT_FDCWD, "/etc/resolv.conf", 65536, &text, NULL, NULL) == 0) {
        char *save = NULL;
        for (char *line = strtok_r(text, "\n", &save); line && h->ndns < FLEET_DNS_MAX;
             line = strtok_r(NULL, "\n", &save)) {
            unsigned a, b, c, d;
            if (sscanf(line, " nameserver %3u.%3u.%3u.%3u", &a, &b, &c, &d) == 4 && a < 224 &&
                a != 127 && b < 256 && c < 256 && d < 256)
                h->dns[h->ndns++] = a << 24 | b << 16 | c << 8 | d;
        }
    }
    if (h->ndns == 0)
        log_warn(
            "microVMs get no name server: /etc/resolv.conf names none that they can reach");
}

int fleet_host_open(struct fleet_host *h, const char *kernel, const char *initrd,
                    const char *snapshot_key, struct err *e)
{
    *h = (struct fleet_host){.kernel = -1, .initrd = -1, .meminfo = -1};
    if (snapshot_key && snapshot_key[0]) {
        int r = seal_open(&h->seal, snapshot_key, e);
        if (r < 0)
            return r;
    }
    h->kernel = open(kernel, O_RDONLY | O_CLOEXEC);
    if (h->kernel < 0)
        return err_sys(e, errno, "open the guest kernel '%s'", kernel);
    h->initrd = open(initrd, O_RDONLY | O_CLOEXEC);
    if (h->initrd < 0)
        return err_sys(e, errno, "open the guest's initramfs '%s'", initrd);
    h->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (h->meminfo < 0)
        return err_sys(e, errno, "open /proc/meminfo");
    AUTO_FREE char *boot = NULL;
    int r = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL, NULL);
    if (r < 0)
        return err_sys(e, -r, "read the host's boot id");
    memcpy(h->boot_id, boot, strnlen(boot, sizeof h->boot_id - 1));
    h->kernel_text = kernel_text_len(kernel);
    if (!h->kernel_text)
        log_info("no System.map beside '%s': each image holds its own kernel text", kernel);
    h->huge = layers_have_huge();
    read_dns(h);
    return 0;
}

void fleet_host_close(struct fleet_host *h)
{
    int *const fds[] = {&h->kernel, &h->initrd, &h->meminfo};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0)
            close(take_fd(fds[i]));
    }
    seal_free(h->seal);
    h->seal = NULL;
}
