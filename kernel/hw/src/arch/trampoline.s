# Where an application processor starts: real mode, CS:IP = page:0 of a copy of this code below 1 MiB. Position
# independent up to the far jump; addresses of the kernel are physical and below 4 GiB.

.section .rodata.trampoline, "a", @progbits
.balign 16
.code16
.global ap_trampoline
ap_trampoline:
    cli
    cld
    movw    %cs, %ax
    movw    %ax, %ds
    lgdtl   ap_gdt_pointer - ap_trampoline
    movl    $0x20, %eax                 # CR4.PAE
    movl    %eax, %cr4
    movl    ap_cr3 - ap_trampoline, %eax
    movl    %eax, %cr3
    movl    ap_misc_enable_clear - ap_trampoline, %ebx
    testl   %ebx, %ebx                  # 0: the register may not be there
    jz      1f
    movl    $0x1a0, %ecx                # IA32_MISC_ENABLE: while XD is disabled, EFER.NXE is reserved
    rdmsr
    notl    %ebx
    andl    %ebx, %edx
    wrmsr
1:  movl    $0xc0000080, %ecx           # EFER: LME, and NXE as the page tables need it
    rdmsr
    orl     ap_efer - ap_trampoline, %eax
    wrmsr
    movl    $0x80010031, %eax           # CR0: PG, WP, NE, ET, PE; caches on
    movl    %eax, %cr0
    ljmpl   $0x08, $ap_long_mode

.balign 8
.global ap_cr3
ap_cr3:
    .long 0
.global ap_efer
ap_efer:
    .long 0
.global ap_misc_enable_clear
ap_misc_enable_clear:                   # bits 63:32 to clear
    .long 0
ap_gdt_pointer:
    .short 15
    .long boot_gdt
.global ap_trampoline_end
ap_trampoline_end:

.section .text.ap, "ax", @progbits
.code64
ap_long_mode:
    xorl    %eax, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    movl    %eax, %fs
    movl    %eax, %gs
    xorl    %eax, %eax                  # the initial APIC id: leaf 0xb, where it is there
    cpuid
    cmpl    $0xb, %eax
    jb      1f
    movl    $0xb, %eax
    xorl    %ecx, %ecx
    cpuid
    testl   %ebx, %ebx
    jnz     2f
1:  movl    $1, %eax
    cpuid
    shrl    $24, %ebx
    movl    %ebx, %edx
2:  movq    ap_cpu, %rdi                # one that comes too late must not take what is another's
    testq   %rdi, %rdi
    jz      3f
    cmpl    %edx, 16(%rdi)
    jne     3f
    movq    8(%rdi), %rsp
    xorl    %ebp, %ebp                  # ends the chain of frames
    call    ap_main
3:  cli
    hlt
    jmp     3b
