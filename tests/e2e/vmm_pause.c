/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmm_pause.c: the example's vCPU answers every pause: also one that finds it stopped, or that comes before its thread has woken to run, as on
 * one CPU it mostly does. Exit status: 0 all answered, 77 no KVM here. */
int whole_vmm(void);
#define main whole_vmm
#define sluice_done answered
#include "docs/example/vmm.c"
#undef main
#undef sluice_done

#include <sched.h>
#include <semaphore.h>
#include <time.h>

static sem_t pauses;

int answered(struct sluice *session, enum sluice_request request, int error)
{
	must(session == v.session && request == SLUICE_PAUSE && !error, "the answer");
	sem_post(&pauses);
	return 0;
}

static void answer_comes(const char *to)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	if (sem_timedwait(&pauses, &until)) {
		fprintf(stderr, "nobody answers %s\n", to);
		_exit(1);
	}
	must(!v.runs, "a pause that is done finds the vCPU parked");
}

int main(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	must(!sched_setaffinity(0, sizeof(one), &one), "one CPU");
	must(!sem_init(&pauses, 0, 0), "semaphore");
	make_vm();
	memcpy(v.ram + PAGE, code, (size_t)(code_end - code));
	put_registers();
	want(0, 1);
	answer_comes("a pause of a vCPU that does not run");
	for (int i = 0; i < 50; i++) {
		want(1, 0);
		want(0, 1);
		answer_comes("a pause at once after a resume");
		want(1, 0);
		usleep(1000);
		want(0, 1);
		answer_comes("a pause of a vCPU that runs");
	}
	_exit(0); /* the vCPU's thread is for ever */
}
