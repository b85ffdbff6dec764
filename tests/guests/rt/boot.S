/* Entry of every payload: Multiboot 1 header, the way to 64-bit mode, and the interrupt stubs.
 * On entry (Multiboot 0.6.96, 3.2): EAX = magic, EBX = information, 32-bit protected mode, paging off.
 * Identity map of the first 8 GiB by 2 MiB pages, the last GiB below 4 GiB uncached for devices. */

#define GIB 8

	.section .multiboot, "a"
	.balign 4
	.long	0x1BADB002, 0x3, -(0x1BADB002 + 0x3)	/* modules on page boundaries; memory information */

	.section .text.boot, "ax"
	.code32
	.global	_start
_start:
	cld
	mov	$stack_top, %esp
	mov	%eax, boot_magic
	mov	%ebx, boot_info

	mov	$pdpt + 3, %eax			/* present, writable */
	mov	%eax, pml4
	mov	$pdpt, %edi
	mov	$pds + 3, %eax
	mov	$GIB, %ecx
1:	mov	%eax, (%edi)
	add	$4096, %eax
	add	$8, %edi
	loop	1b

	mov	$pds, %edi
	xor	%ecx, %ecx			/* number of the 2 MiB page */
2:	mov	%ecx, %eax
	shl	$21, %eax
	or	$0x83, %eax			/* present, writable, large */
	mov	%ecx, %edx
	shr	$9, %edx
	cmp	$3, %edx
	jne	3f
	or	$0x18, %eax			/* PWT, PCD */
3:	mov	%eax, (%edi)
	mov	%ecx, %eax
	shr	$11, %eax
	mov	%eax, 4(%edi)
	add	$8, %edi
	inc	%ecx
	cmp	$GIB * 512, %ecx
	jb	2b

	mov	$0x20, %eax			/* CR4.PAE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xC0000080, %ecx		/* EFER.LME */
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000001, %eax		/* PG, PE */
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$8, $start64

	.code64
start64:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$stack_top, %esp
	call	run
4:	cli
	hlt
	jmp	4b

/* One stub of 16 bytes for each vector; those whose exception has no error code push 0 for it. */
	.balign	16
	.global	vector_stubs
vector_stubs:
	.set	vector, 0
	.rept	256
	.balign	16
	.if	!(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
	push	$0
	.endif
	push	$vector
	jmp	save
	.set	vector, vector + 1
	.endr

save:	.irp	reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	push	%\reg
	.endr
	mov	%rsp, %rdi
	call	interrupt
	.irp	reg, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
	pop	%\reg
	.endr
	add	$16, %rsp			/* vector, error code */
	iretq

	.section .rodata
	.global	gdt
	.balign	8
gdt:	.quad	0, 0x00209A0000000000, 0x0000920000000000
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt

	.data
	.global	boot_magic, boot_info
boot_magic:	.long	0
boot_info:	.long	0

	.section .bss
	.global	pml4
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pds:	.skip	4096 * GIB
	.skip	16384
stack_top:
	.section .note.GNU-stack, "", @progbits
