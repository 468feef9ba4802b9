// SPDX-License-Identifier: Apache-2.0
/* Streams into a guest: to its init, and through it to an application; see fleet.h. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "fleet_priv.h"

#define FORWARD_LIMIT_MS 5000

int fleet_stream(struct fleet *f, struct fleet_target *t, int *ret_fd, struct err *e)
{
    (void)f;
    struct fvm *vm = t->priv;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, errno, "open a stream to the guest");
    AUTO_CLOSE int ours = pair[0], theirs = pair[1];
    const struct ctl_vsock open = {.port = GP_PORT_STREAM};
    /* The process must not go while its socket is used: ownership keeps it. */
    pthread_mutex_lock(&vm->lock);
    while (vm->busy)
        pthread_cond_wait(&vm->cond, &vm->lock);
    int r = vm->state == VM_RUNNING && vm->vmm
                ? 0
                : err_set(e, EHOSTDOWN, "the microVM is not running");
    if (r == 0)
        vm->busy = true;
    pthread_mutex_unlock(&vm->lock);
    if (r < 0)
        return r;
    r = vmm_call(vm->vmm, CTL_VSOCK_OPEN, &open, sizeof open, &theirs, 1,
                 deadline_ms(FORWARD_LIMIT_MS), NULL, e);
    fleet_end(vm);
    if (r == 0)
        *ret_fd = take_fd(&ours);
    return r;
}

int fleet_forward(struct fleet *f, struct fleet_target *t, uint16_t port, int *ret_fd,
                  struct err *e)
{
    AUTO_CLOSE int fd = -1;
    int r = fleet_stream(f, t, &fd, e);
    if (r < 0)
        return r;
    struct glink g = {.fd = take_fd(&fd)};
    uint8_t space[16];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_PORT, port);
    r = guest_stream_begin(&g, GP_FORWARD, &w, deadline_ms(FORWARD_LIMIT_MS), e);
    if (r == 0) {
        *ret_fd = g.fd;
        g.fd = -1;
    }
    glink_close(&g);
    return r;
}
