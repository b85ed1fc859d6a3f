/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPUs that drive a KVM guest's disk, as the VMM sees them: one for each of its queues, behind those that write.
 *
 * Such a CPU says at every step what it did, and is told how much it is to keep outstanding. Where there is nothing to do it
 * sleeps here, on its queue's bell, as a halted CPU does until its interrupt. It has looked at its ring after it was last
 * answered, so what must have changed since to wake it is the bell as it was then. Whoever changes the machine's word rings all
 * bells. The other way, a request offered, goes without an exit: KVM rings the device's bell.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "perf/kvm/drivers.h"
#include "perf/kvm/machine.h"

static uint32_t queue_of(const struct vcpu *vcpu)
{
	return vcpu->id - vcpu->machine->base.settings.vcpus;
}

bool machine_is_driver(const struct vcpu *vcpu)
{
	return vcpu->id >= vcpu->machine->base.settings.vcpus;
}

/* It has not looked yet at what is there now. */
void machine_forget_bell(struct vcpu *vcpu)
{
	vcpu->bell = disk_bell(vcpu->machine->base.disk, queue_of(vcpu)) - 1;
}

uint32_t machine_answer_driver(struct vcpu *vcpu, unsigned port)
{
	struct machine *machine = vcpu->machine;
	struct disk *disk = machine->base.disk;
	uint32_t queue = queue_of(vcpu), mode = machine_word(machine) % MACHINE_MODES;

	if (port == DRIVERS_TOOK)
		disk_seen(disk, queue);
	if (mode == MACHINE_QUIET)
		vcpu->at_rest = true;
	if (port == DRIVERS_IDLE && mode == MACHINE_RUNNING)
		disk_sleep(disk, queue, vcpu->bell);
	vcpu->bell = disk_bell(disk, queue);
	return disk_wants(disk, queue);
}

int machine_ring_doorbell(struct machine *machine)
{
	struct kvm_ioeventfd doorbell = {
		.addr = DRIVERS_DOORBELL,
		.len = 1,
		.fd = disk_doorbell(machine->base.disk),
		.flags = KVM_IOEVENTFD_FLAG_PIO,
	};

	return ioctl(machine->vm.fd, KVM_IOEVENTFD, &doorbell) ? -errno : 0;
}

/* Its other registers are still what they were: it never changes them. */
int machine_boot_drivers(struct guest *guest)
{
	struct machine *machine = machine_of(guest);

	for (uint32_t i = guest->settings.vcpus; i < machine->vcpus; i++) {
		struct kvm_regs regs;

		layout_registers(&machine->layout, i, &regs);
		if (ioctl(machine->vcpu[i].fd, KVM_SET_REGS, &regs))
			return -errno;
	}
	return 0;
}
