# A payload of its own, without the run-time: goes to real mode and reads an MSR that no level has. #GP has no error
# code there. Its handler ends with code 0 where the stack holds what INT would have left, else with 1; where no #GP
# comes, with 3.
.set STUB, 0x7000
.text
.code32
.balign 4
    .long 0x1badb002, 0, -(0x1badb002)
.global _start
_start:
    cli
    movl $stub, %esi
    movl $STUB, %edi
    movl $(stub_end - stub), %ecx
    cld
    rep movsb
    movw $STUB + (general_protection - stub), 4 * 13
    movw $0, 4 * 13 + 2
    lgdt gdt_pointer
    ljmp $8, $STUB
.balign 8
gdt:
    .quad 0
    .quad 0x00009b000000ffff            # 16-bit code, base 0
    .quad 0x000093000000ffff            # 16-bit data
gdt_pointer:
    .short gdt_pointer - gdt - 1
    .long gdt
.code16
stub:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    lidt (STUB + (idt_pointer - stub))
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $0, $(STUB + (1f - stub))
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $STUB - 0x10, %sp
    movl $0x12345, %ecx
faulting:
    rdmsr
    movb $3, %al
    jmp 3f
general_protection:
    movb $1, %al
    movw %sp, %bp
    cmpw $STUB - 0x10 - 6, %bp          # FLAGS, CS, IP and nothing more
    jne 3f
    cmpw $STUB + (faulting - stub), (%bp)
    jne 3f
    movb $0, %al
3:  outb %al, $0xf4
4:  hlt
    jmp 4b
idt_pointer:
    .short 0x3ff
    .long 0
stub_end:
