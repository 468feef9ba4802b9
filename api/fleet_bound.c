// SPDX-License-Identifier: Apache-2.0
/*
 * Connections that requests have into a microVM. When its machine goes, or goes
 * back in time, nobody at the other end knows of them any more: they end here,
 * so that clients learn it at once.
 */
#include <sys/socket.h>

#include "fleet_take.h"

void fleet_bind(struct fleet_target *t, int fd)
{
    struct fvm *vm = t->priv;
    pthread_mutex_lock(&vm->lock);
    t->fd = fd;
    t->next = vm->bound;
    vm->bound = t;
    if (t->passage != vm->passage) /* it was connected to the machine before */
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&vm->lock);
}

void fleet_unbind(struct fleet_target *t)
{
    struct fvm *vm = t->priv;
    pthread_mutex_lock(&vm->lock);
    for (struct fleet_target **at = &vm->bound; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    pthread_mutex_unlock(&vm->lock);
}

void fleet_cut(struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->passage++;
    for (struct fleet_target *t = vm->bound; t; t = t->next)
        shutdown(t->fd, SHUT_RDWR);
    pthread_mutex_unlock(&vm->lock);
}
