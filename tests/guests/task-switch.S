# A payload of its own, 32-bit as its guests are: an undefined instruction whose exceptions have no handlers becomes a
# double fault, for which the IDT has a task gate, as in a 32-bit Linux. The task finds the old one's registers in its
# TSS, sends it on, and returns by IRET. Then JMP to a third task and CALL back to the second, nested. Code 0 when all is
# right, else the number of the step.
.set MAIN, 0x18
.set DOUBLE, 0x20
.set THIRD, 0x28
.set BUSY, 0x8b
.set NT, 0x4000
.macro END code
    movb $\code, %al
    outb %al, $0xf4
1:  hlt
    jmp 1b
.endm
.macro CHECK code
    je 7f
    END \code
7:
.endm

#include "rt/flat32.inc"
    # Bases of the TSSs go into their descriptors.
    movl $main_tss, %eax
    movw %ax, gdt + MAIN + 2
    shrl $16, %eax
    movb %al, gdt + MAIN + 4
    movl $double_tss, %eax
    movw %ax, gdt + DOUBLE + 2
    shrl $16, %eax
    movb %al, gdt + DOUBLE + 4
    movl $third_tss, %eax
    movw %ax, gdt + THIRD + 2
    shrl $16, %eax
    movb %al, gdt + THIRD + 4
    lidt idt_pointer
    movw $MAIN, %ax
    ltr %ax

    movl $0x12345678, %ebx
faulting:
    ud2
after:
    cmpl $0x12345678, %ebx                  # the second task has not touched it
    CHECK 2
    cmpl $1, rounds
    CHECK 3
    pushfl
    popl %eax
    testl $NT, %eax
    CHECK 4
    cmpb $BUSY, gdt + MAIN + 5
    CHECK 5
    cmpb $0x89, gdt + DOUBLE + 5
    CHECK 6
    ljmp $THIRD, $0
    END 7

double_fault:
    cmpl $0, (%esp)                         # #DF has an error code, 0
    CHECK 11
    addl $4, %esp
    cmpl $faulting, main_tss + 0x20
    CHECK 12
    cmpl $0x12345678, main_tss + 0x34
    CHECK 13
    cmpw $MAIN, double_tss
    CHECK 14
    pushfl
    popl %eax
    testl $NT, %eax
    jz 8f
    movl %cr0, %eax
    testl $8, %eax                          # TS
    jz 8f
    clts
    incl rounds
    movl $after, main_tss + 0x20
    iret
    # entered again, by CALL from the third task
    cmpw $THIRD, double_tss
    CHECK 15
    incl rounds
    iret
8:  END 16

third:
    cmpb $0x89, gdt + MAIN + 5              # JMP leaves nothing nested
    CHECK 21
    lcall $DOUBLE, $0
    cmpl $2, rounds
    CHECK 22
    cmpl $0x77, %esi                        # its own registers
    CHECK 23
    END 0

.data
    GDT 0x0000890000000067, 0x0000890000000067, 0x0000890000000067
.balign 8
idt:
    .fill 8, 8, 0
    .quad 0x0000850000200000                # #DF: task gate
    .fill 23, 8, 0
    IDT_POINTER
rounds: .long 0
.balign 4
main_tss: .fill 26, 4, 0
double_tss:
    .long 0, 0, 0, 0, 0, 0, 0, 0
    .long double_fault, 2, 0, 0, 0, 0, double_stack, 0, 0, 0
    .long DATA, CODE, DATA, DATA, 0, 0, 0, 0
third_tss:
    .long 0, 0, 0, 0, 0, 0, 0, 0
    .long third, 2, 0, 0, 0, 0, third_stack, 0, 0x77, 0
    .long DATA, CODE, DATA, DATA, 0, 0, 0, 0
.bss
    .skip 1024
stack:
    .skip 1024
double_stack:
    .skip 1024
third_stack:
