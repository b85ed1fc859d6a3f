/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmm.c: a whole VMM that migrates: one vCPU, one slot, an event loop. `vmm` alone plays both ends, a destination in a child process.
 * Its guest adds 1 to one word of every page, page after page, for ever; on arrival each must be what the registers say.
 * docs/embedding.md goes through it step by step. Exit status: 0 arrived whole, 77 no KVM here. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice.h>

#define RAM (64u << 20)
#define FIRST (1u << 20) /* what the guest writes begins here */
#define PAGE SLUICE_PAGE_SIZE

extern const char code[], code_end[];
__asm__(".pushsection .rodata\n .code32\n"
	"code:     incl (%edi)\n add $4096, %edi\n cmp %esi, %edi\n jb code\n mov %edx, %edi\n inc %ebx\n jmp code\n"
	"code_end: .code64\n .popsection\n");

static struct vmm {
	int kvm, vm, vcpu;
	struct kvm_run *run; /* immediate_exit: the vCPU's thread */
	unsigned char *ram;
	struct sluice *session;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int wanted, runs, pausing; /* under lock: shall the vCPU run; is it in its loop; sluice waits for it to stop */
	struct {
		struct kvm_regs regs;
		struct kvm_sregs sregs;
	} state;
	int completed, ended; /* the loop's */
} v = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void must(int good, const char *what)
{
	if (!good)
		err(1, "%s", what);
}

/* ---- the vCPU: its thread alone calls KVM_RUN, without the lock; who wants it out clears `wanted` first, then kicks */

static void on_kick(int number)
{
	*(volatile unsigned char *)&v.run->immediate_exit = 1; /* a kick just before KVM_RUN counts too */
}

static void *vcpu_body(void *arg)
{
	pthread_mutex_lock(&v.lock);
	for (;;) {
		while (!v.wanted && !v.pausing) /* paused before it woke up to run */
			pthread_cond_wait(&v.changed, &v.lock);
		v.runs = 1;
		while (*(volatile unsigned char *)&v.run->immediate_exit = 0, v.wanted) {
			pthread_mutex_unlock(&v.lock);
			int rc = ioctl(v.vcpu, KVM_RUN, 0);
			must(rc < 0 && errno == EINTR, "the guest did what it has no code for");
			pthread_mutex_lock(&v.lock);
		}
		v.runs = 0;
		pthread_cond_broadcast(&v.changed);
		if (v.pausing)
			sluice_done(v.session, SLUICE_PAUSE, 0); /* from any thread; never waits */
		v.pausing = 0;
	}
	return arg;
}

static void want(int run, int pausing)
{
	pthread_mutex_lock(&v.lock);
	v.wanted = run;
	v.pausing = pausing;
	pthread_cond_broadcast(&v.changed);
	pthread_mutex_unlock(&v.lock);
	pthread_kill(v.thread, SIGUSR1);
}

/* ---- the machine, before any session */

static void make_vm(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	struct kvm_segment flat = { .limit = 0xffffffff, .selector = 8, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	v.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (v.kvm < 0)
		_exit(77);
	must((v.vm = ioctl(v.kvm, KVM_CREATE_VM, 0)) >= 0, "KVM_CREATE_VM");
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	must(!ioctl(v.vm, KVM_ENABLE_CAP, &cap), "manual dirty log protection");
	must(!ioctl(v.vm, KVM_SET_TSS_ADDR, 0xfffbd000ul), "KVM_SET_TSS_ADDR");
	v.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(v.ram != MAP_FAILED, "guest memory");
	struct kvm_userspace_memory_region slot = { .memory_size = RAM, .userspace_addr = (uintptr_t)v.ram };
	must(!ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory slot");
	must((v.vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 0)) >= 0, "KVM_CREATE_VCPU");
	v.run = mmap(NULL, (size_t)ioctl(v.kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, v.vcpu, 0);
	must(v.run != MAP_FAILED, "the vCPU's page");
	must(!ioctl(v.vcpu, KVM_GET_SREGS, &v.state.sregs), "KVM_GET_SREGS");
	v.state.sregs.ds = v.state.sregs.es = v.state.sregs.ss = v.state.sregs.cs = flat;
	v.state.sregs.cs.type = 11;
	v.state.sregs.cr0 |= 1;
	v.state.regs = (struct kvm_regs){ .rip = PAGE, .rflags = 2, .rdi = FIRST, .rdx = FIRST, .rsi = RAM };
	signal(SIGUSR1, on_kick);
	must(!pthread_create(&v.thread, NULL, vcpu_body, NULL), "a thread");
}

static void put_registers(void)
{
	must(!ioctl(v.vcpu, KVM_SET_SREGS, &v.state.sregs) && !ioctl(v.vcpu, KVM_SET_REGS, &v.state.regs), "registers");
}

static void get_registers(void)
{
	must(!ioctl(v.vcpu, KVM_GET_SREGS, &v.state.sregs) && !ioctl(v.vcpu, KVM_GET_REGS, &v.state.regs), "registers");
}

static int add_ram(void)
{
	struct sluice_region ram = { .size_of = sizeof(ram), .name = "ram", .address = v.ram, .size = RAM, .node = -1, .fd = -1 };
	uint32_t id;
	return sluice_add_region(v.session, &ram, &id);
}

/* ---- callbacks, all in the loop below: each begins something, sluice_done() says that it ended */

static void on_event(void *opaque, const struct sluice_event *event)
{
	if (event->type == SLUICE_EVENT_PHASE && event->u.phase == SLUICE_COMPLETED)
		v.completed = 1;
	v.ended |= event->type == SLUICE_EVENT_ENDED;
}

static void on_pause(void *opaque)
{
	want(0, 1); /* the vCPU's thread says done */
}

static void on_resume(void *opaque)
{
	want(1, 0);
	sluice_done(v.session, SLUICE_RESUME, 0);
}

static void on_save(void *opaque)
{
	struct sluice_section vcpu = { "vcpu", 1, &v.state, sizeof(v.state) };
	get_registers();
	sluice_done(v.session, SLUICE_SAVE, sluice_save_section(v.session, &vcpu));
}

static void on_incoming(void *opaque, const struct sluice_offer *offers, size_t n, const void *cookie, size_t length)
{
	int fits = n == 1 && offers[0].size == RAM; /* sluice compares names and page sizes itself */
	if (!fits)
		sluice_refuse_because(v.session, "this VMM has one region of 64 MiB");
	sluice_done(v.session, SLUICE_INCOMING_GUEST, fits ? add_ram() : -EINVAL);
}

static void on_load(void *opaque, const struct sluice_section *sections, size_t n)
{
	int known = n == 1 && !strcmp(sections->name, "vcpu") && sections->version == 1 && sections->length == sizeof(v.state);
	if (known)
		memcpy(&v.state, sections->data, sizeof(v.state));
	put_registers();
	sluice_done(v.session, SLUICE_LOAD, known ? 0 : -EBADMSG);
}

static const struct sluice_ops ops = { sizeof(ops),     .event = on_event,       .pause = on_pause, .resume = on_resume,
				       .save = on_save, .incoming = on_incoming, .load = on_load };
/* ---- the event loop: in a real VMM, its own, with this descriptor among others */

static void loop_until(const int *flag)
{
	struct pollfd ready = { .fd = sluice_event_fd(v.session), .events = POLLIN };
	while (!*flag && !v.ended)
		if (poll(&ready, 1, -1) > 0)
			sluice_dispatch(v.session);
}

static void destination(int report)
{
	char error[SLUICE_ERROR_MAX] = "";
	struct sluice_listener *listener;
	unsigned wrong = 0;
	make_vm();
	must(!sluice_create(&ops, NULL, &v.session), "session");
	must(!sluice_listen("tcp:127.0.0.1:0", 0, &listener, error), error);
	must(!sluice_destination_start(v.session, listener), "start");
	must(write(report, sluice_listener_uri(listener), strlen(sluice_listener_uri(listener))) > 0, "pipe");
	loop_until(&v.completed);
	usleep(100000);
	want(0, 0);
	pthread_mutex_lock(&v.lock);
	while (v.runs)
		pthread_cond_wait(&v.changed, &v.lock);
	get_registers();
	/* Stopped between two instructions: the page at edi may have its 1 already. */
	for (uint64_t at = FIRST; at < RAM; at += PAGE) {
		uint32_t count = *(uint32_t *)(v.ram + at), expected = (uint32_t)v.state.regs.rbx + (at < v.state.regs.rdi);
		wrong += count != expected && !(at == v.state.regs.rdi && count == expected + 1);
	}
	printf("destination: %llu laps, %u wrong pages\n", v.state.regs.rbx, wrong);
	loop_until(&v.ended); /* the source closes the session; a real VMM would run on meanwhile */
	sluice_destroy(v.session);
	exit(!v.completed || wrong || !v.state.regs.rbx);
}

int main(void)
{
	int fds[2], status = 1;
	char uri[64] = "";
	must(!pipe(fds), "pipe");
	if (!fork())
		destination(fds[1]);
	close(fds[1]);
	make_vm();
	memcpy(v.ram + PAGE, code, (size_t)(code_end - code));
	put_registers();
	want(1, 0);
	while (!*(volatile uint32_t *)(v.ram + RAM - PAGE)) /* it has been all around */
		usleep(1000);
	must(read(fds[0], uri, sizeof(uri) - 1) > 0, "the destination's address");
	must(!sluice_create(&ops, NULL, &v.session) && !add_ram(), "session");
	struct sluice_kvm_slot slot = { .slot = 0, .size = RAM, .region = 0 };
	struct sluice_kvm kvm = { sizeof(kvm), .vm_fd = v.vm, .flags = SLUICE_KVM_MANUAL_PROTECT, .slots = &slot, .n_slots = 1 };
	must(!sluice_set_kvm(v.session, &kvm) && !sluice_source_start(v.session, uri), "start");
	loop_until(&v.completed);
	printf("source: %s\n", v.completed ? "completed" : "not completed: sluice_get_error() says why");
	sluice_close(v.session);
	loop_until(&v.ended);
	sluice_destroy(v.session);
	wait(&status);
	return !v.completed ? 1 : WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
