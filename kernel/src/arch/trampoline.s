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
    movl    $0xc0000080, %ecx           # EFER: LME, and NXE as the page tables need it
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
    movq    ap_stack, %rsp
    movq    ap_cpu, %rdi
    xorl    %ebp, %ebp                  # ends the chain of frames
    call    ap_main
    ud2
