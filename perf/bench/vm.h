/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vm.h: the virtual machine of the benchmarks that are about KVM alone, and the two ends of their migrations. One large sparse slot of which the
 * vCPUs write a small part; they come out of KVM after each 512 pages, so that each sees for how long it was held up. */
#pragma once

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <sluice.h>

#define PAGE SLUICE_PAGE_SIZE
#define WRITTEN (64u << 20) /* what the guest writes of its memory: up to here, from FIRST on */
#define FIRST (1u << 20)
enum { VM_VCPUS = 64 };

/* 512 pages, then a question to a port, for ever. */
extern const char code[], code_end[];
__asm__(".pushsection .rodata\n .code32\n"
	"code: mov $512, %ecx\n 1: incl (%edi)\n add $4096, %edi\n cmp %esi, %edi\n jb 2f\n mov %edx, %edi\n 2: dec %ecx\n jnz "
	"1b\n"
	" in $0x10, %al\n jmp code\n code_end: .code64\n .popsection\n");

static struct {
	uint64_t bytes;
	unsigned vcpus;
	int fd, vcpu[VM_VCPUS];
	struct kvm_run *run[VM_VCPUS];
	pthread_t thread[VM_VCPUS];
	unsigned char *ram;
	_Atomic uint64_t gap_ns[VM_VCPUS];
	_Atomic bool stop; /* then kick */
	_Atomic unsigned resumes;
	_Atomic unsigned running; /* vCPUs that have not parked; the last one calls `parked` */
	void (*parked)(void);
	pthread_mutex_t lock;
	pthread_cond_t changed;
} vm = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static inline void must(int good, const char *what)
{
	if (!good)
		err(1, "%s", what);
}

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- vCPUs: as in perf/kvm/vcpu.c, the flag first, then the kick */

static _Thread_local struct kvm_run *own_run;

static inline void on_kick(int number)
{
	(void)number;
	if (own_run)
		*(volatile uint8_t *)&own_run->immediate_exit = 1;
}

static inline void vm_park(void)
{
	unsigned seen = atomic_load(&vm.resumes);
	if (atomic_fetch_sub(&vm.running, 1) == 1)
		vm.parked();
	pthread_mutex_lock(&vm.lock);
	while (vm.resumes == seen) /* not `stop`: the next pause counts who still sleeps from the last one, too */
		pthread_cond_wait(&vm.changed, &vm.lock);
	pthread_mutex_unlock(&vm.lock);
}

static inline void *vcpu_body(void *arg)
{
	unsigned i = (unsigned)(uintptr_t)arg;
	own_run = vm.run[i];
	for (uint64_t last = now_ns(), now;; last = now) {
		*(volatile uint8_t *)&own_run->immediate_exit = 0;
		atomic_signal_fence(memory_order_seq_cst);
		if (atomic_load(&vm.stop)) {
			vm_park();
			last = now_ns();
		}
		must(!ioctl(vm.vcpu[i], KVM_RUN, 0) || errno == EINTR, "KVM_RUN");
		now = now_ns();
		if (now - last > atomic_load(&vm.gap_ns[i]))
			atomic_store(&vm.gap_ns[i], now - last);
	}
	return NULL;
}

/* `parked` is called on the thread of the last vCPU that stands still. */
static inline void vm_pause(void (*parked)(void))
{
	vm.parked = parked;
	atomic_store(&vm.running, vm.vcpus);
	atomic_store(&vm.stop, true);
	for (unsigned i = 0; i < vm.vcpus; i++)
		pthread_kill(vm.thread[i], SIGUSR1);
}

static inline void vm_resume(void)
{
	pthread_mutex_lock(&vm.lock);
	atomic_store(&vm.stop, false);
	vm.resumes++;
	pthread_cond_broadcast(&vm.changed);
	pthread_mutex_unlock(&vm.lock);
}

static inline void forget_gaps(void)
{
	for (unsigned i = 0; i < vm.vcpus; i++)
		atomic_store(&vm.gap_ns[i], 0);
}

/* Longest of all vCPUs. One that is held up at this moment has not told yet: let it. */
static inline double longest_gap_ms(uint64_t until_ns)
{
	uint64_t longest = 0, now = now_ns();
	if (now < until_ns)
		usleep((unsigned)((until_ns - now) / 1000));
	for (unsigned i = 0; i < vm.vcpus; i++)
		longest = atomic_load(&vm.gap_ns[i]) > longest ? atomic_load(&vm.gap_ns[i]) : longest;
	return (double)longest * 1e-6;
}

static inline int set_slot(uint32_t flags)
{
	struct kvm_userspace_memory_region slot = { .flags = flags,
						    .memory_size = vm.bytes,
						    .userspace_addr = (uintptr_t)vm.ram };
	return ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

static inline void *sparse(void)
{
	void *at = mmap(NULL, vm.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(at != MAP_FAILED, "guest memory");
	return at;
}

/* Runs when this returns. Exits with 77 where there is no KVM. */
static inline void vm_make(void)
{
	struct kvm_segment flat = { .limit = 0xffffffff, .selector = 8, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	struct kvm_regs regs = { .rip = PAGE, .rflags = 2, .rdi = FIRST, .rdx = FIRST, .rsi = WRITTEN };
	struct kvm_sregs sregs;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		printf("skipped: no KVM here: /dev/kvm: %s\n", strerror(errno));
		exit(77);
	}
	must((vm.fd = ioctl(kvm, KVM_CREATE_VM, 0)) >= 0, "KVM_CREATE_VM");
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	must(!ioctl(vm.fd, KVM_ENABLE_CAP, &cap), "manual dirty log protection");
	must(!ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000ul), "KVM_SET_TSS_ADDR");
	vm.ram = sparse();
	memset(vm.ram + FIRST, 1, WRITTEN - FIRST);
	memcpy(vm.ram + PAGE, code, (size_t)(code_end - code));
	must(!set_slot(0), "memory slot");
	signal(SIGUSR1, on_kick);
	for (unsigned i = 0; i < vm.vcpus; i++) {
		must((vm.vcpu[i] = ioctl(vm.fd, KVM_CREATE_VCPU, (unsigned long)i)) >= 0, "KVM_CREATE_VCPU");
		vm.run[i] = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED,
				 vm.vcpu[i], 0);
		must(vm.run[i] != MAP_FAILED && !ioctl(vm.vcpu[i], KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
		sregs.ds = sregs.es = sregs.ss = sregs.cs = flat;
		sregs.cs.type = 11;
		sregs.cr0 |= 1;
		must(!ioctl(vm.vcpu[i], KVM_SET_SREGS, &sregs) && !ioctl(vm.vcpu[i], KVM_SET_REGS, &regs), "registers");
		must(!pthread_create(&vm.thread[i], NULL, vcpu_body, (void *)(uintptr_t)i), "a thread");
	}
}

/* ---- the ends of a migration; the destination is a process of its own, and serves one after the other */

struct end {
	struct sluice *session;
	bool active, ended;
};

static inline void on_event(void *opaque, const struct sluice_event *event)
{
	struct end *end = opaque;
	end->active |= event->type == SLUICE_EVENT_PHASE && event->u.phase == SLUICE_ACTIVE;
	end->ended |= event->type == SLUICE_EVENT_ENDED;
}

static inline int add_ram(struct sluice *session)
{
	struct sluice_region region = {
		.size_of = sizeof(region), .name = "ram", .address = vm.ram, .size = vm.bytes, .node = -1, .fd = -1
	};
	return sluice_add_region(session, &region, NULL);
}

static inline void dispatch_until(struct end *end, const bool *flag)
{
	struct pollfd ready = { .fd = sluice_event_fd(end->session), .events = POLLIN };
	while (!*flag && !end->ended)
		if (poll(&ready, 1, -1) > 0)
			sluice_dispatch(end->session);
}

static inline void begin(struct end *end, const struct sluice_ops *ops)
{
	struct sluice_kvm_slot slot = { .size = vm.bytes };
	struct sluice_kvm kvm = { sizeof(kvm), .vm_fd = vm.fd, .flags = SLUICE_KVM_MANUAL_PROTECT, .slots = &slot, .n_slots = 1 };
	*end = (struct end){ 0 };
	must(!sluice_create(ops, end, &end->session) && !add_ram(end->session) && !sluice_set_kvm(end->session, &kvm), "session");
}

static inline void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	struct end *end = opaque;
	(void)offers, (void)n, (void)cookie, (void)length;
	sluice_done(end->session, SLUICE_INCOMING_GUEST, add_ram(end->session));
}

static inline void never(void *opaque)
{
	(void)opaque;
}

static inline void serve(int report)
{
	static const struct sluice_ops ops = {
		.size_of = sizeof(ops), .event = on_event, .incoming = on_incoming, .resume = never
	};
	struct sluice_listener *listener;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(!sluice_listen("tcp:127.0.0.1:0", 0, &listener, NULL), "listen");
	must(write(report, sluice_listener_uri(listener), strlen(sluice_listener_uri(listener))) > 0, "pipe");
	for (;;) {
		struct end end = { 0 };
		vm.ram = sparse();
		must(!sluice_create(&ops, &end, &end.session) && !sluice_destination_start(end.session, listener), "destination");
		dispatch_until(&end, &end.ended);
		sluice_destroy(end.session);
		munmap(vm.ram, vm.bytes);
	}
}

/* Before vm_make(): the process must have no threads yet. */
static inline pid_t make_destination(char uri[64])
{
	int fds[2];
	must(!pipe(fds), "pipe");
	pid_t child = fork();
	if (!child)
		serve(fds[1]);
	memset(uri, 0, 64);
	must(child > 0 && read(fds[0], uri, 63) > 0, "the destination's address");
	return child;
}

/* ---- figures */

static inline int by_size(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

/* Sorts them. */
static inline double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_size);
	return (values[(n - 1) / 2] + values[n / 2]) / 2;
}
