# A payload of its own, 32-bit with PAE paging: the four PDPTEs are registers, which only those writes load that the SDM
# names (3A 4.4.1), and never with a reserved bit set. 1 GiB and up is mapped to one of two frames, by turns. Code 0 when
# all is right, else the number of the step. (Emulators that walk from CR3 each time fail at step 2.)
.set FRAME_A, 0x800000
.set FRAME_B, 0xa00000
.set WINDOW, 0x40000000
.set CR0_WP, 1 << 16
.set CR0_CD, 1 << 30
.macro CHECK value, code
    movl $WINDOW, %esi
    invlpg (%esi)
    cmpl $\value, (%esi)
    je 7f
    movb $\code, %al
    jmp end
7:
.endm

#include "rt/flat32.inc"
    movl $general_protection, %eax
    movw %ax, idt + 8 * 13
    shrl $16, %eax
    movw %ax, idt + 8 * 13 + 6
    lidt idt_pointer
    movl $0xaaaa, FRAME_A
    movl $0xbbbb, FRAME_B
    # 1 GiB one to one in pages of 2 MiB, and two directories for the next.
    movl $low, %edi
    movl $0x83, %eax
    movl $512, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    movl $FRAME_A | 0x83, to_a
    movl $FRAME_B | 0x83, to_b
    movl $low + 1, table
    movl $to_a + 1, table + 8
    movl $table, %eax
    movl %eax, %cr3
    movl $0x20, %eax
    movl %eax, %cr4
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    CHECK 0xaaaa, 1

    # In memory another directory: nobody has loaded it.
    movl $to_b + 1, table + 8
    movl %cr0, %eax
    xorl $CR0_WP, %eax
    movl %eax, %cr0
    CHECK 0xaaaa, 2
    clts
    CHECK 0xaaaa, 3
    movl $0xc0000080, %ecx
    rdmsr
    xorl $0x800, %eax                       # NXE
    wrmsr
    CHECK 0xaaaa, 4
    movl %cr0, %eax
    xorl $CR0_CD, %eax
    movl %eax, %cr0
    CHECK 0xbbbb, 5

    # A reserved bit: #GP, and all is as it was.
    movl $to_a + 3, table + 8
    movl %cr0, %ebx
    movl %ebx, %eax
    xorl $CR0_CD, %eax
    movl %eax, %cr0
    nop
    cmpl $1, faults
    movb $6, %al
    jne end
    movl %cr0, %eax
    cmpl %eax, %ebx
    movb $7, %al
    jne end
    CHECK 0xbbbb, 8
    movl $table, %eax
    movl %eax, %cr3                         # without an exit, the CPU's own
    nop
    cmpl $2, faults
    movb $9, %al
    jne end
    movl $to_a + 1, table + 8
    movl $table, %eax
    movl %eax, %cr3
    CHECK 0xaaaa, 10
    movb $0, %al
end:
    outb %al, $0xf4
3:  hlt
    jmp 3b

# Past the MOV, which has three bytes.
general_protection:
    incl faults
    addl $4, %esp
    addl $3, (%esp)
    iret

.data
    GDT
.balign 8
idt:
    .fill 13, 8, 0
    .quad 0x00008e0000080000
    .fill 18, 8, 0
    IDT_POINTER
faults: .long 0
.bss
.balign 4096
low: .skip 4096
to_a: .skip 4096
to_b: .skip 4096
table: .skip 32
    .skip 1024
stack:
