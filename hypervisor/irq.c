// SPDX-License-Identifier: Apache-2.0
/* Interrupts and doorbells through KVM; see dev.h. */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "debug/trace.h"
#include "dev.h"
#include "kvm.h"

void dev_interrupt(const struct dev *d)
{
    struct kvm_irq_level line = {.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT |
                                        (d->spi + 32) << KVM_ARM_IRQ_NUM_SHIFT,
                                 .level = 1};
    /* All lines are edge-triggered: the rise is the interrupt. Down again, for a guest that
     * says otherwise. Cannot fail for an SPI that the GIC has. */
    trace_irq(d->spi);
    ioctl(d->env.vm_fd, (int)KVM_IRQ_LINE, &line);
    line.level = 0;
    ioctl(d->env.vm_fd, (int)KVM_IRQ_LINE, &line);
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
