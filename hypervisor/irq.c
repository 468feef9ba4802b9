// SPDX-License-Identifier: Apache-2.0
/* Interrupt lines and doorbells; see irq.h. */
#include "irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "debug/trace.h"
#include "kvm.h"

int irq_open(struct irq *irq, int vm_fd, unsigned spi, struct err *e)
{
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "make an eventfd");
    /* KVM numbers the irqfds of an ARM machine by SPI: 0 is INTID 32. */
    struct kvm_irqfd arg = {.fd = (uint32_t)fd, .gsi = spi};
    int r = kvm_call(vm_fd, KVM_IRQFD, &arg, e);
    if (r < 0)
        return r;
    irq->eventfd = take_fd(&fd);
    irq->spi = spi;
    return 0;
}

void irq_raise(struct irq *irq)
{
    /* Can only fail when 2^64-1 raises are pending: then it is raised. */
    uint64_t one = 1;
    trace_irq(irq->spi);
    ssize_t n = write(irq->eventfd, &one, sizeof one);
    (void)n;
}

void irq_close(struct irq *irq)
{
    /* KVM drops its side when the eventfd goes away. */
    if (irq->eventfd >= 0)
        close(irq->eventfd);
    irq->eventfd = -1;
}

int irq_pulse(int vm_fd, unsigned spi, struct err *e)
{
    struct kvm_irq_level line = {.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT |
                                        (spi + 32) << KVM_ARM_IRQ_NUM_SHIFT,
                                 .level = 1};
    int r = kvm_call(vm_fd, KVM_IRQ_LINE, &line, e);
    line.level = 0;
    if (r >= 0)
        r = kvm_call(vm_fd, KVM_IRQ_LINE, &line, e);
    return r < 0 ? r : 0;
}

int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e)
{
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "make an eventfd");
    struct kvm_ioeventfd arg = {.datamatch = val,
                                .addr = gpa,
                                .len = 4,
                                .fd = fd,
                                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};
    int r = kvm_call(vm_fd, KVM_IOEVENTFD, &arg, e);
    if (r < 0)
        return r;
    *ret_fd = take_fd(&fd);
    return 0;
}
