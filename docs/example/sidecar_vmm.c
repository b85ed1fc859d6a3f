/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sidecar_vmm.c: a VMM whose guest is migrated by another process: `sidecar_vmm SOCKET [guest]`. It knows nothing of sluice. One
 * slot, one vCPU, and a device that writes guest memory. A sidecar may come, die and come again; the guest runs on.
 * A guest that arrived is verified when its sidecar leaves. Exit status: 0 gone elsewhere, or arrived whole. */
#define _GNU_SOURCE /* memfd_create, struct ucred */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sidecar.h"

enum { FIRST = 1 << 20, DEVICE = 2 * PAGE }; /* what the guest writes begins at FIRST */
enum { DEADLINE_S = 5 };                     /* a guest that stands still waits no longer for its sidecar's next word */

extern const char code[], code_end[];
__asm__(".pushsection .rodata\n .code32\n"
	"code:     incl (%edi)\n add $4096, %edi\n cmp %esi, %edi\n jb code\n mov %edx, %edi\n inc %ebx\n jmp code\n"
	"code_end: .code64\n .popsection\n");

/* ---- the VMM: a thread runs the vCPU, one is a device, one for each connection does what is asked */

static struct {
	int vm, vcpu, fds[2]; /* fds: guest memory, struct shared */
	struct kvm_run *run;
	unsigned char *ram;
	struct shared *shared;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int wanted, runs;                /* under lock */
	int owned, arrived, given, gone; /* the guest is here; came from elsewhere; may run elsewhere; does so */
	uint64_t written;                /* under lock */
} v = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void on_kick(int number)
{
	*(volatile unsigned char *)&v.run->immediate_exit = 1;
}

static void *vcpu_body(void *arg)
{
	pthread_mutex_lock(&v.lock);
	for (;; v.runs = 0, pthread_cond_broadcast(&v.changed)) {
		while (!v.wanted)
			pthread_cond_wait(&v.changed, &v.lock);
		v.runs = 1;
		while (*(volatile unsigned char *)&v.run->immediate_exit = 0, v.wanted) {
			pthread_mutex_unlock(&v.lock);
			must(ioctl(v.vcpu, KVM_RUN, 0) < 0 && errno == EINTR, "the guest did what it has no code for");
			pthread_mutex_lock(&v.lock);
		}
	}
	return arg;
}

static void *device_body(void *arg)
{
	for (;; pthread_mutex_unlock(&v.lock), usleep(1000)) {
		pthread_mutex_lock(&v.lock);
		if (!v.wanted)
			continue;
		*(uint64_t *)(v.ram + DEVICE) = ++v.written; /* KVM does not see this: it is marked, after it was made */
		__atomic_fetch_or(&v.shared->marks[DEVICE / PAGE / 64], 1ull << DEVICE / PAGE % 64, __ATOMIC_RELEASE);
	}
	return arg;
}

static int run_guest(int wanted)
{
	pthread_mutex_lock(&v.lock);
	v.wanted = wanted;
	v.owned |= wanted;
	pthread_cond_broadcast(&v.changed);
	pthread_kill(v.thread, SIGUSR1);
	while (!wanted && v.runs) /* in a connection's thread */
		pthread_cond_wait(&v.changed, &v.lock);
	pthread_mutex_unlock(&v.lock);
	return 0;
}

static int set_slot(uint32_t flags)
{
	struct kvm_userspace_memory_region slot = { .flags = flags, .memory_size = RAM, .userspace_addr = (uintptr_t)v.ram };
	return ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int registers(struct state *state, int put)
{
	if (put)
		return (v.written = state->written,
			ioctl(v.vcpu, KVM_SET_SREGS, &state->sregs) || ioctl(v.vcpu, KVM_SET_REGS, &state->regs));
	return (state->written = v.written,
		ioctl(v.vcpu, KVM_GET_SREGS, &state->sregs) || ioctl(v.vcpu, KVM_GET_REGS, &state->regs));
}

static int obey(struct ask *a)
{
	struct kvm_dirty_log fetch = { .dirty_bitmap = v.shared->seen };
	struct kvm_clear_dirty_log clear = { .first_page = a->first, .num_pages = (uint32_t)a->pages };
	switch (a->op) {
	case LOG: return set_slot(a->first ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	case FETCH: return ioctl(v.vm, KVM_GET_DIRTY_LOG, &fetch);
	case CLEAR: /* what it says is checked: KVM would read beyond the bits */
		clear.dirty_bitmap = v.shared->clear + a->first / 64 % WORDS;
		return a->first > RAM / PAGE || a->pages > RAM / PAGE - a->first || ioctl(v.vm, KVM_CLEAR_DIRTY_LOG, &clear);
	case PAUSE: return run_guest(0);
	case SAVE: return registers(&a->state, 0);
	case RELEASE: return v.given = 1, 0; /* from here on it runs here only if it is told to, not by itself */
	case LOAD:                           /* all of memory is there: also what the device wrote */
		v.arrived = 1;
		return registers(&a->state, 1) || *(uint64_t *)(v.ram + DEVICE) != a->state.written;
	case RESUME: return v.given = 0, run_guest(1);
	case GONE: return v.gone = 1, 0;
	default: return 0;
	}
}

/* The guest came from elsewhere: stop it, and compare each page with what the registers say. */
static void verify(void)
{
	struct state state;
	unsigned wrong = 0;
	usleep(100000);
	must(!run_guest(0) && !registers(&state, 0), "registers");
	/* Stopped between two instructions: the page at edi may have its 1 already. */
	for (uint64_t at = FIRST; at < RAM; at += PAGE) {
		uint32_t count = *(uint32_t *)(v.ram + at), expected = (uint32_t)state.regs.rbx + (at < state.regs.rdi);
		wrong += count != expected && !(at == state.regs.rdi && count == expected + 1);
	}
	printf("arrived: %llu laps, %lu writes by the device, %u wrong pages\n", state.regs.rbx, (unsigned long)v.written, wrong);
	exit(wrong || !state.regs.rbx);
}

/* The sidecar is gone, however it went. A guest that nobody else may run runs on. */
static void orphaned(void)
{
	const volatile uint32_t *beat = (const volatile uint32_t *)(v.ram + FIRST);
	if (v.gone)
		exit(0);
	if (!v.owned && !v.arrived)
		exit(3); /* nothing has come */
	if (v.given || !v.owned) {
		puts("in doubt: the other side may run the guest; an operator has to say");
		return;
	}
	if (v.arrived)
		verify();
	set_slot(0);
	run_guest(1);
	uint32_t before = *beat;
	for (int i = 0; *beat == before && i < 1000; i++)
		usleep(10000);
	puts(*beat != before ? "the sidecar is gone, the guest runs on" : "the sidecar is gone, and the guest stands still");
}

/* It hangs: then it is to be gone, which the closed connection shows, before the guest may run on. */
static void end_sidecar(int fd)
{
	struct ucred who;
	socklen_t size = sizeof(who);
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size))
		kill(who.pid, SIGKILL);
}

static void *connection_body(void *arg)
{
	int fd = (int)(intptr_t)arg, waits = 0; /* waits: the guest stands still for it, and nobody else may run it */
	struct timeval deadline = { .tv_sec = DEADLINE_S };
	struct ask a;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	for (;;) {
		ssize_t n = recv(fd, &a, sizeof(a), 0);
		if (n < 0 && errno == EAGAIN) {
			if (waits)
				end_sidecar(fd);
			continue;
		}
		if (n < (ssize_t)offsetof(struct ask, state))
			break;
		union rights rights = { { CMSG_LEN(sizeof(v.fds)), SOL_SOCKET, SCM_RIGHTS } };
		struct iovec io = { &a, sizeof(a) };
		struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &rights };
		memcpy(CMSG_DATA(&rights.head), v.fds, sizeof(v.fds));
		m.msg_controllen = a.op == MEMORY ? sizeof(rights) : 0;
		a.error = obey(&a) ? -EIO : 0;
		if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
			break;
		waits = a.op == PAUSE || (waits && a.op != RESUME && a.op != RELEASE);
	}
	close(fd);
	return NULL;
}

static void make_vm(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	pthread_t thread;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	must((v.vm = ioctl(kvm, KVM_CREATE_VM, 0)) >= 0, "KVM_CREATE_VM");
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	must(!ioctl(v.vm, KVM_ENABLE_CAP, &cap) && !ioctl(v.vm, KVM_SET_TSS_ADDR, 0xfffbd000ul), "KVM_ENABLE_CAP");
	v.fds[0] = memfd_create("ram", MFD_CLOEXEC);
	v.fds[1] = memfd_create("shared", MFD_CLOEXEC);
	must(!ftruncate(v.fds[0], RAM) && !ftruncate(v.fds[1], sizeof(*v.shared)), "memory");
	v.ram = map(v.fds[0], RAM);
	v.shared = map(v.fds[1], sizeof(*v.shared));
	must(!set_slot(0) && (v.vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 0)) >= 0, "memory slot, vCPU");
	v.run = map(v.vcpu, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	signal(SIGUSR1, on_kick);
	must(!pthread_create(&v.thread, NULL, vcpu_body, NULL) && !pthread_create(&thread, NULL, device_body, NULL), "threads");
}

static void boot(void)
{
	struct kvm_segment flat = { .limit = 0xffffffff, .selector = 8, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	struct state state;
	must(!registers(&state, 0), "registers");
	state.regs = (struct kvm_regs){ .rip = PAGE, .rflags = 2, .rdi = FIRST, .rdx = FIRST, .rsi = RAM };
	state.sregs.ds = state.sregs.es = state.sregs.ss = state.sregs.cs = flat;
	state.sregs.cs.type = 11;
	state.sregs.cr0 |= 1;
	memcpy(v.ram + PAGE, code, (size_t)(code_end - code));
	must(!registers(&state, 1) && !run_guest(1), "registers");
	while (!*(volatile uint32_t *)(v.ram + RAM - PAGE)) /* it has been all around */
		usleep(1000);
}

int main(int argc, char **argv)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	setlinebuf(stdout);
	make_vm();
	if (argc > 2)
		boot();
	strncpy(at.sun_path, argc > 1 ? argv[1] : "", sizeof(at.sun_path) - 1);
	must(!bind(door, (void *)&at, sizeof(at)) && !listen(door, 4), "the socket");
	puts("ready");
	/* One sidecar at a time: the next one's first word comes after the last one's last. */
	for (pthread_t threads[2];; orphaned()) {
		for (int i = 0; i < 2; i++) {
			intptr_t fd = accept(door, NULL, NULL);
			must(fd >= 0 && !pthread_create(&threads[i], NULL, connection_body, (void *)fd), "a sidecar");
		}
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	}
}
