/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the KVM guest's vCPUs execute, in 64-bit mode without interrupts and without a stack; layout.c puts it into guest memory.
 *
 * A vCPU asks the port BUDGET how much to write, writes that, and asks again: each question is a beat of its heart, and where a
 * VMM sets the pace. The answer is a number of pages (of groups of 8 pages where it writes sequentially), or with bit 31 a
 * number of them to compare with its own counts, from its first page on if bit 30 is set. What it finds wrong it tells the
 * port WRONG. KVM emulates every one of these instructions on machines without hardware virtualisation, at 0.6 to 1.6 us
 * each, so there are few.
 *
 * A write adds 1 to the first and the last word of a page, and to the page's count in a table. Sequentially it adds 1 to one word
 * of each page, at another place in each of 8, and a page's count is that of the laps: it needs no table.
 *
 * All patterns: rsp where to go on, rbp next page to check. The rest is said at each. Addresses are page number * 4096, whatever
 * hole there is in physical memory: see layout.c.
 */
#ifdef __x86_64__
#define BUDGET 0x10
#define FILLED 0x14
#define WRONG 0x18
#define SERIAL 0x3f8

	.section .rodata
	.code64
	.balign 16
	.globl kvm_code_begin, kvm_code_end, kvm_code_boot, kvm_code_fill, kvm_code_fill_boot, kvm_code_seq, kvm_code_rand, kvm_code_zipf, kvm_code_gc
	.hidden kvm_code_begin, kvm_code_end, kvm_code_boot, kvm_code_fill, kvm_code_fill_boot, kvm_code_seq, kvm_code_rand, kvm_code_zipf, kvm_code_gc

kvm_code_begin:

/* Only the first vCPU begins here. */
kvm_code_boot:
	mov	$SERIAL, %edx
	lea	text(%rip), %rbp
1:	mov	(%rbp), %al
	test	%al, %al
	jz	2f
	out	%al, (%dx)
	inc	%rbp
	jmp	1b
2:	mov	%r10, %rbp
	jmp	*%rsp

text:	.asciz	"guest up\n"

/* Before anything else, with --fill guest: rdx first page, rcx pages. Their number, above the counts, into the first and the last word of each */
.macro	fill
1:	mov	%rdx, %rax
	shl	$20, %rax
	mov	%rax, (%rdx)
	mov	%rax, 4088(%rdx)
	add	$0x1000, %rdx
	dec	%rcx
	jnz	1b
	out	%eax, $FILLED
.endm

kvm_code_fill:
	fill
	jmp	*%rsp

kvm_code_fill_boot:
	fill
	jmp	kvm_code_boot

/* r10 first page, rsi end, rdi next page, r12 laps */
kvm_code_seq:
	in	$BUDGET, %eax
	mov	%eax, %ecx
	test	%eax, %eax
	js	check_seq
	jz	kvm_code_seq
1:	incq	0x0000(%rdi)
	incq	0x1248(%rdi)
	incq	0x2490(%rdi)
	incq	0x36d8(%rdi)
	incq	0x4920(%rdi)
	incq	0x5b68(%rdi)
	incq	0x6db0(%rdi)
	incq	0x7ff8(%rdi)
	add	$0x8000, %rdi
	cmp	%rsi, %rdi
	jae	3f
2:	dec	%ecx
	jnz	1b
	jmp	kvm_code_seq
3:	mov	%r10, %rdi
	inc	%r12
	jmp	2b

check_seq:
	test	$0x40000000, %ecx
	jz	1f
	mov	%r10, %rbp
1:	and	$0x3fffffff, %ecx
2:	mov	%r12d, %eax
	cmp	%rdi, %rbp
	adc	$0, %eax
	cmp	%eax, 0x0000(%rbp)
	jne	4f
	cmp	%eax, 0x1248(%rbp)
	jne	4f
	cmp	%eax, 0x2490(%rbp)
	jne	4f
	cmp	%eax, 0x36d8(%rbp)
	jne	4f
	cmp	%eax, 0x4920(%rbp)
	jne	4f
	cmp	%eax, 0x5b68(%rbp)
	jne	4f
	cmp	%eax, 0x6db0(%rbp)
	jne	4f
	cmp	%eax, 0x7ff8(%rbp)
	jne	4f
3:	add	$0x8000, %rbp
	dec	%ecx
	jnz	2b
	jmp	*%rsp
4:	mov	%rbp, %rax
	shr	$12, %rax
	out	%eax, $WRONG
	jmp	3b

/* rdx the page, r11 the table */
.macro	write_page
	mov	%rdx, %rax
	shr	$10, %rax
	incl	(%r11, %rax)
	incq	(%rdx)
	incq	4088(%rdx)
.endm

/* r8 the generator, r14 and r15 its multiplier and addend, r9 number of pages, r10 first page, r11 table */
kvm_code_rand:
	in	$BUDGET, %eax
	mov	%eax, %ecx
	test	%eax, %eax
	js	check_table
	jz	kvm_code_rand
1:	imul	%r14, %r8
	add	%r15, %r8
	mov	%r8, %rax
	mul	%r9
	shl	$12, %rdx
	add	%r10, %rdx
	write_page
	dec	%ecx
	jnz	1b
	jmp	kvm_code_rand

/* As rand; rbx a table of 16384 page numbers, drawn from the distribution */
kvm_code_zipf:
	in	$BUDGET, %eax
	mov	%eax, %ecx
	test	%eax, %eax
	js	check_table
	jz	kvm_code_zipf
1:	imul	%r14, %r8
	add	%r15, %r8
	mov	%r8, %rax
	shr	$50, %rax
	mov	(%rbx, %rax, 4), %edx
	shl	$12, %rdx
	add	%r10, %rdx
	write_page
	dec	%ecx
	jnz	1b
	jmp	kvm_code_zipf

/* Two walkers take turns, one that allocates page by page and one that sweeps in large steps. Of the one whose turn it is: rdi
 * where it is, rsi its step, r12 pages of a turn, rbx pages left of this one. Of the other: r8, r13, r14. r9 bytes that
 * both walk around in, r10 first page, r11 table */
kvm_code_gc:
	in	$BUDGET, %eax
	mov	%eax, %ecx
	test	%eax, %eax
	js	check_table
	jz	kvm_code_gc
1:	lea	(%rdi, %r10), %rdx
	write_page
	add	%rsi, %rdi
	cmp	%r9, %rdi
	jb	2f
	sub	%r9, %rdi
2:	dec	%rbx
	jnz	3f
	xchg	%rdi, %r8
	xchg	%rsi, %r13
	xchg	%r12, %r14
	mov	%r12, %rbx
3:	dec	%ecx
	jnz	1b
	jmp	kvm_code_gc

check_table:
	test	$0x40000000, %ecx
	jz	1f
	mov	%r10, %rbp
1:	and	$0x3fffffff, %ecx
2:	mov	%rbp, %rax
	shr	$10, %rax
	mov	(%r11, %rax), %eax
	cmp	%eax, (%rbp)
	jne	4f
	cmp	%eax, 4088(%rbp)
	jne	4f
3:	add	$0x1000, %rbp
	dec	%ecx
	jnz	2b
	jmp	*%rsp
4:	mov	%rbp, %rax
	shr	$12, %rax
	out	%eax, $WRONG
	jmp	3b

kvm_code_end:
#endif

	.section .note.GNU-stack, "", @progbits
