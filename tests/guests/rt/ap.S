/* Entry of a further CPU, copied to a page below 1 MiB, which the start-up IPI names.
 * On entry (SDM 3A 10.4.4): real mode, CS = the page >> 4, IP = 0, interrupts off. Straight to 64-bit mode on the tables
 * of boot.S, then `ap_main` on the stack at `ap_stack`, which does not return. All registers are clobbered. */

	.section .text.ap, "ax"
	.code16
	.global	ap_begin, ap_end
ap_begin:
	cli
	cld
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_begin
	mov	$0x20, %eax			/* CR4.PAE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xC0000080, %ecx		/* EFER.LME */
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	$0x80000033, %eax		/* PG, NE, ET, MP, PE; caches on */
	mov	%eax, %cr0
	ljmpl	$8, $ap_long
ap_gdt_pointer:
	.word	23				/* null, code, data */
	.long	gdt
ap_end:

	.code64
ap_long:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	ap_stack, %rsp
	xor	%ebp, %ebp
	call	ap_main
	.section .note.GNU-stack, "", @progbits
