# Copied to a page below 4 GiB and run there. Seven words of parameters, then from offset 32 the code; RAX is the page.
# Leaves long mode, puts the kernel into its place (where firmware's own page tables may have been) and starts it.

.section .rdata$handover, "dr"
.balign 32
.globl handover_start
handover_start:
.set AT_FROM, 0
.set AT_TO, 4
.set AT_LEN, 8
.set AT_ZEROS, 12
.set AT_MAGIC, 16
.set AT_INFO, 20
.set AT_ENTRY, 24
    .skip 32
.code64
    movl    %eax, %ebp
    leaq    (handover_gdt - handover_start)(%rbp), %rcx
    movq    %rcx, (handover_gdt_pointer - handover_start + 2)(%rbp)
    lgdt    (handover_gdt_pointer - handover_start)(%rbp)
    leaq    (handover_32 - handover_start)(%rbp), %rcx
    pushq   $8
    pushq   %rcx
    lretq
.code32
handover_32:
    movl    $16, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    movl    %eax, %fs
    movl    %eax, %gs
    movl    %cr0, %eax
    andl    $0x7fffffff, %eax           # paging off: out of long mode
    movl    %eax, %cr0
    movl    $0xc0000080, %ecx           # EFER
    rdmsr
    andl    $~0x100, %eax               # LME
    wrmsr
    xorl    %eax, %eax
    movl    %eax, %cr4                  # 5-level paging, PCIDs, protection keys: all off
    cld
    movl    AT_FROM(%ebp), %esi
    movl    AT_TO(%ebp), %edi
    movl    AT_LEN(%ebp), %ecx
    rep movsb
    movl    AT_ZEROS(%ebp), %ecx
    rep stosb
    movl    AT_MAGIC(%ebp), %eax
    movl    AT_INFO(%ebp), %ebx
    jmp     *AT_ENTRY(%ebp)
.balign 8
handover_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 32-bit code, flat
    .quad 0x00cf93000000ffff            # data, flat
handover_gdt_pointer:
    .short handover_gdt_pointer - handover_gdt - 1
    .quad 0
.globl handover_end
handover_end:
.code64
.text
