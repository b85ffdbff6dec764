/* Two CPUs that wake each other by IPIs, in x2APIC mode. Code and data in one piece, which runs wherever it is copied to:
 * payloads of the bench link it, and the user-space program that stands for them under KVM puts it into a guest of its own.
 *
 * ping_ask: EDI = round trips, ESI = APIC id of the other CPU; interrupts off. Sends, and halts until the answer has
 *   come. Returns their TSC ticks in RAX; interrupts are off. Clobbers RCX, RDX, RDI, R8.
 * ping_answer: does not return; halts, with interrupts on.
 * ping_asked, ping_answered: what the interrupt gates PING_ASK, of the one that answers, and PING_ANSWER, of the one that
 *   asks, lead to. All registers are kept. The answer goes to APIC id 0.
 * The gates are those of the enum in ping.h. */

#define PING_ASK	0x63
#define PING_ANSWER	0x64

	.data
	.code64
	.globl	ping_begin, ping_end, ping_ask, ping_answer, ping_asked, ping_answered
	.balign	64
ping_begin:
ping_ask:
	rdtsc
	shl	$32, %rdx
	lea	(%rdx,%rax), %r8
1:	movl	$0, answered(%rip)
	mov	$0x830, %ecx			/* ICR */
	mov	$0x4000 + PING_ASK, %eax	/* fixed, assert */
	mov	%esi, %edx
	wrmsr
2:	sti
	hlt
	cli
	cmpl	$0, answered(%rip)
	je	2b
	dec	%edi
	jnz	1b
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	sub	%r8, %rax
	ret

ping_answer:
	sti
	hlt
	jmp	ping_answer

	.macro	end_of_interrupt
	mov	$0x80B, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	.endm

ping_asked:
	push	%rax
	push	%rcx
	push	%rdx
	end_of_interrupt
	mov	$0x830, %ecx
	mov	$0x4000 + PING_ANSWER, %eax
	wrmsr
	jmp	back

ping_answered:
	push	%rax
	push	%rcx
	push	%rdx
	movl	$1, answered(%rip)
	end_of_interrupt
back:	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq

answered:
	.long	0
ping_end:
	.section .note.GNU-stack, "", @progbits
