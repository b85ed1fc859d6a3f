/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The KVM guest's driver of one of its disk's queues: what a CPU of its own executes, like code.S without interrupts and
 * without a stack.
 *
 * It keeps as much outstanding as it is told, and checks every completion against its record (perf/disk/record.h), as the
 * process guest's driver does (perf/disk/driver.c). Each slot has blocks of its own, so no two requests are for the same one
 * and nothing must be searched. It writes nine words of a block (perf/disk/block.h), and adds up those nine when it checks one:
 * what is torn, old or another's has another sum. One step is one completion taken, or one request offered; between two steps
 * it asks the VMM, so that nothing it does takes long.
 *
 * rbx the ring, rbp the record, r12 1 << 32, r13 and r14 the generator's multiplier and addend, edx the port to ask next;
 * within a step rdi a slot's number and rsi its place in the record.
 */
#ifdef __x86_64__
#include "perf/disk/block.h"
#include "perf/disk/record.h"
#include "perf/kvm/drivers.h"

#define OFFERED 4096 /* in a ring: see perf/disk/ring.h */
#define DONE 8192
#define ENTRIES 4
#define OP_WRITE 1

	.section .rodata
	.code64
	.balign 16
	.globl kvm_driver_begin, kvm_driver_end, kvm_driver
	.hidden kvm_driver_begin, kvm_driver_end, kvm_driver

/* rsi from edi */
.macro	find_slot
	lea	(%rdi, %rdi, 4), %rsi
	lea	RECORD_SLOT(%rbp, %rsi, 8), %rsi
.endm

/* r11 the slot's buffer, r10 a stamp of its first block, less the version; ecx 0. Changes rax */
.macro	find_blocks
	mov	%rdi, %r11
	shl	$2, %r11
	mov	RECORD_SLOT_AT(%rsi), %eax
	add	%rax, %r11
	shl	$12, %r11
	add	RECORD_BUFFERS(%rbp), %r11
	mov	RECORD_SLOT_BLOCK(%rsi), %r10d
	add	RECORD_FIRST_BLOCK(%rbp), %r10
	shl	$BLOCK_NUMBER_SHIFT, %r10
	add	RECORD_RUN(%rbp), %r10
	xor	%ecx, %ecx
.endm

/* To the next of a slot's blocks, unless that was the last */
.macro	next_block again
	add	$4096, %r11
	add	%r12, %r10
	inc	%ecx
	cmp	RECORD_SLOT_BLOCKS(%rsi), %ecx
	jb	\again
.endm

.macro	wrong what at
	incq	RECORD_COUNT_WRONG(%rbp)
	movl	$\what, RECORD_WRONG_WHAT(%rbp)
	mov	\at, RECORD_WRONG_AT(%rbp)
.endm

/* Let the device have the slot in edi. Changes rax */
.macro	offer
	mov	OFFERED(%rbx), %eax
	and	$(RECORD_SLOTS - 1), %eax
	mov	%edi, OFFERED + ENTRIES(%rbx, %rax, 4)
	incl	OFFERED(%rbx)
	out	%al, $DRIVERS_DOORBELL
.endm

kvm_driver_begin:

kvm_driver:
	in	(%dx), %eax
	mov	%eax, %r8d
	mov	RECORD_REAPED(%rbp), %ecx
	cmp	DONE(%rbx), %ecx
	jne	take
	mov	$DRIVERS_IDLE, %edx
	cmp	%r8, RECORD_COUNT_OUTSTANDING(%rbp)
	jae	kvm_driver

/* ---------------------------------------------------------------- a request */

	mov	$DRIVERS_OFFERED, %edx
	mov	RECORD_NEXT(%rbp), %edi
1:	cmp	RECORD_USED_SLOTS(%rbp), %edi
	jb	2f
	xor	%edi, %edi
2:	find_slot
	cmpl	$RECORD_IDLE, RECORD_SLOT_STATE(%rsi)
	je	3f
	inc	%edi
	jmp	1b
3:	lea	1(%rdi), %eax
	mov	%eax, RECORD_NEXT(%rbp)
	lea	choose(%rip), %r15
	cmpl	$0, RECORD_SLOT_KEPT(%rsi)
	jne	check

/* How many blocks: 2 bits; to write or to read: 1; from which page of the buffer on: 8; where, of what is the slot's: all 32. A
 * slot whose blocks always came to the same pages would read what these hold already: nothing would have to be marked */
choose:
	movl	$0, RECORD_SLOT_KEPT(%rsi)
	mov	RECORD_RNG(%rbp), %rax
	imul	%r13, %rax
	add	%r14, %rax
	mov	%rax, RECORD_RNG(%rbp)
	shr	$32, %rax
	mov	%eax, %ecx
	and	$(RECORD_REQUEST_BLOCKS - 1), %ecx
	inc	%ecx
	mov	%ecx, RECORD_SLOT_BLOCKS(%rsi)
	mov	%eax, %r9d
	shr	$2, %r9d
	and	$OP_WRITE, %r9d
	mov	$(RECORD_REQUEST_BLOCKS + 1), %r11d
	sub	%ecx, %r11d
	mov	%eax, %r10d
	shr	$3, %r10d
	and	$0xff, %r10d
	imul	%r11d, %r10d
	shr	$8, %r10d
	mov	%r10d, RECORD_SLOT_AT(%rsi)
	mov	RECORD_SHARE(%rbp), %r10d
	mov	%r10d, %r11d
	sub	%ecx, %r11d
	inc	%r11d
	imul	%r11, %rax
	shr	$32, %rax
	mov	%r10d, %ecx
	imul	%edi, %ecx
	add	%ecx, %eax
	mov	%eax, RECORD_SLOT_BLOCK(%rsi)

/* Of what was never written nothing can be read */
	lea	RECORD_VERSION(%rbp, %rax, 4), %r10
	xor	%ecx, %ecx
1:	mov	(%r10, %rcx, 4), %eax
	mov	%eax, RECORD_SLOT_VERSION(%rsi, %rcx, 4)
	test	%eax, %eax
	jnz	2f
	mov	$OP_WRITE, %r9d
2:	inc	%ecx
	cmp	RECORD_SLOT_BLOCKS(%rsi), %ecx
	jb	1b
	mov	%r9d, RECORD_SLOT_OP(%rsi)
	find_blocks
	mov	%r11, %r8
	test	%r9d, %r9d
	jz	2f

1:	incl	RECORD_SLOT_VERSION(%rsi, %rcx, 4)
	mov	RECORD_SLOT_VERSION(%rsi, %rcx, 4), %eax
	add	%r10, %rax
	mov	%rax, (%r11)
	mov	%rax, BLOCK_SECTOR(%r11)
	mov	%rax, 2 * BLOCK_SECTOR(%r11)
	mov	%rax, 3 * BLOCK_SECTOR(%r11)
	mov	%rax, 4 * BLOCK_SECTOR(%r11)
	mov	%rax, 5 * BLOCK_SECTOR(%r11)
	mov	%rax, 6 * BLOCK_SECTOR(%r11)
	mov	%rax, 7 * BLOCK_SECTOR(%r11)
	mov	%rax, BLOCK_LAST_STAMP(%r11)
	next_block 1b

/* Address, block, and how many and what, into the ring */
2:	mov	%rdi, %rcx
	shl	$5, %rcx
	add	%rbx, %rcx
	mov	%r8, (%rcx)
	mov	RECORD_SLOT_BLOCK(%rsi), %eax
	add	RECORD_FIRST_BLOCK(%rbp), %rax
	mov	%rax, 8(%rcx)
	mov	RECORD_SLOT_BLOCKS(%rsi), %eax
	mov	%eax, 16(%rcx)
	mov	%r9d, 20(%rcx)
	movl	$RECORD_OUTSTANDING, RECORD_SLOT_STATE(%rsi)
	incq	RECORD_COUNT_OUTSTANDING(%rbp)
	offer
	jmp	kvm_driver

/* ---------------------------------------------------------------- a completion */

take:
	mov	$DRIVERS_TOOK, %edx
	and	$(RECORD_SLOTS - 1), %ecx
	mov	DONE + ENTRIES(%rbx, %rcx, 8), %edi
	mov	DONE + ENTRIES + 4(%rbx, %rcx, 8), %eax
	incl	RECORD_REAPED(%rbp)
	cmp	RECORD_USED_SLOTS(%rbp), %edi
	jae	wrong_slot
	find_slot
	cmpl	$RECORD_OUTSTANDING, RECORD_SLOT_STATE(%rsi)
	jne	wrong_slot
	test	%eax, %eax
	jnz	failed
	movl	$RECORD_IDLE, RECORD_SLOT_STATE(%rsi)
	decq	RECORD_COUNT_OUTSTANDING(%rbp)
	mov	RECORD_SLOT_BLOCKS(%rsi), %eax
	mov	%eax, RECORD_SLOT_KEPT(%rsi)
	add	%rax, RECORD_COUNT_BLOCKS(%rbp)
	cmpl	$OP_WRITE, RECORD_SLOT_OP(%rsi)
	je	written
	incq	RECORD_COUNT_READS(%rbp)
	lea	kvm_driver(%rip), %r15
	jmp	check

written:
	incq	RECORD_COUNT_WRITES(%rbp)
	mov	RECORD_SLOT_BLOCK(%rsi), %eax
	lea	RECORD_VERSION(%rbp, %rax, 4), %r10
	xor	%ecx, %ecx
1:	mov	RECORD_SLOT_VERSION(%rsi, %rcx, 4), %eax
	mov	%eax, (%r10, %rcx, 4)
	inc	%ecx
	cmp	RECORD_SLOT_BLOCKS(%rsi), %ecx
	jb	1b
	jmp	kvm_driver

/* Once more: until it is done, its blocks are neither old nor new */
failed:
	incq	RECORD_COUNT_FAILED(%rbp)
	cmp	$-22, %eax
	jne	1f
	wrong	RECORD_WRONG_REFUSED, %edi
1:	offer
	jmp	kvm_driver

wrong_slot:
	wrong	RECORD_WRONG_SLOT, %edi
	jmp	kvm_driver

/* Whether the slot's buffer holds what it must; goes on at r15. Nine times the stamp, less all nine */
check:
	find_blocks
1:	mov	RECORD_SLOT_VERSION(%rsi, %rcx, 4), %eax
	add	%r10, %rax
	lea	(%rax, %rax, 8), %rax
	sub	(%r11), %rax
	sub	BLOCK_SECTOR(%r11), %rax
	sub	2 * BLOCK_SECTOR(%r11), %rax
	sub	3 * BLOCK_SECTOR(%r11), %rax
	sub	4 * BLOCK_SECTOR(%r11), %rax
	sub	5 * BLOCK_SECTOR(%r11), %rax
	sub	6 * BLOCK_SECTOR(%r11), %rax
	sub	7 * BLOCK_SECTOR(%r11), %rax
	sub	BLOCK_LAST_STAMP(%r11), %rax
	jnz	2f
	next_block 1b
	jmp	*%r15
2:	add	RECORD_SLOT_BLOCK(%rsi), %ecx
	wrong	RECORD_WRONG_BLOCK, %ecx
	movl	$0, RECORD_SLOT_KEPT(%rsi)
	jmp	*%r15

kvm_driver_end:
#endif

	.section .note.GNU-stack, "", @progbits
