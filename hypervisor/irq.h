// SPDX-License-Identifier: Apache-2.0
/* Interrupt lines, and doorbells as eventfds registered with KVM. */
#ifndef DORMOUSE_IRQ_H
#define DORMOUSE_IRQ_H

#include <stdint.h>

#include "dev.h"

int irq_open(struct irq *irq, int vm_fd, unsigned spi, struct err *e);
/* Any thread. Pending before this returns: a vCPU that is entered next takes it first. */
void irq_raise(struct irq *irq);
void irq_close(struct irq *irq);

/* An eventfd that KVM signals when the guest writes `val` (32 bit) to gpa, without
 * an exit to user space (KVM_IOEVENTFD with datamatch). */
int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e);

#endif
