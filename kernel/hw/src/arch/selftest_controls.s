# A guest of the self-test: a Multiboot 1 image of its own, for 0x100000. It goes to long mode, and does one thing for each
# control that the hypervisor uses; port 0xF4 takes the outcome: 0, or the number of the step that failed.
#   in: 32-bit protected mode as Multiboot 1 says; memory from 2 MiB on is zero
#   uses: tables at 0x200000 to 0x205fff, IDT at 0x206000, its TSC at 0x207000, at 0x207008 that it waits for a word at
#         0x207010, pages of 2 MiB at 0x400000 and 0x600000 by turns at 0x40000000, stack below 0x7f0000
#   registers: R15 where a fault goes on, R14B its vector, R13D interrupts that came, R12D NMIs that came, R11D those that
#         had come when the first one ended
        .pushsection .rodata.selftest_controls, "a"
        .balign 8
        .code32
        .macro FAULTS vector, step, insn:vararg
        leaq    8f(%rip), %r15
        xorl    %r14d, %r14d
        \insn
8:      movb    $\step, %al
        cmpb    $\vector, %r14b
        jne     controls_end
        .endm
        .set controls_image, 0x100000
        .globl selftest_controls_start
selftest_controls_start:
        .long   0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        .long   controls_image, controls_image, 0, 0, controls_image + controls_entry - selftest_controls_start
controls_entry:
        cli
        movb    $0xff, %al                      # no device of the guest's own interrupts it
        outb    %al, $0x21
        outb    %al, $0xa1
        movl    $0x201003, 0x200000             # 4 GiB one to one, in pages of 2 MiB
        movl    $0x202003, 0x201000
        movl    $0x203003, 0x201008
        movl    $0x204003, 0x201010
        movl    $0x205003, 0x201018
        movl    $0x202000, %edi
        movl    $0x83, %eax
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b
        movl    $0x20, %eax
        movl    %eax, %cr4
        movl    $0x200000, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        lgdt    controls_image + controls_gdt_pointer - selftest_controls_start
        ljmp    $8, $controls_image + controls_long - selftest_controls_start

        .code64
controls_long:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7f0000, %esp
        leaq    controls_nmi(%rip), %rax
        movl    $0x206000 + 16 * 2, %edi
        call    controls_gate
        leaq    controls_undefined(%rip), %rax
        movl    $0x206000 + 16 * 6, %edi
        call    controls_gate
        leaq    controls_protection(%rip), %rax
        movl    $0x206000 + 16 * 13, %edi
        call    controls_gate
        leaq    controls_interrupt(%rip), %rax
        movl    $0x206000 + 16 * 0x40, %edi
        call    controls_gate
        lidt    controls_idt_pointer(%rip)
        xorl    %r13d, %r13d
        xorl    %r12d, %r12d

        xorl    %ecx, %ecx
        FAULTS  13, 1, rdpmc                    # no level has counters
        movq    %rsp, %rax
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        FAULTS  6, 2, monitor                   # no level has it
        xorl    %eax, %eax
        FAULTS  6, 3, mwait

        movl    $3, %eax
        movq    %rax, %cr8
        movq    %cr8, %rbx
        xorl    %ecx, %ecx
        movq    %rcx, %cr8
        movb    $4, %al
        cmpq    $3, %rbx
        jne     controls_end

        wbinvd

        movw    $0x3fd, %dx                     # line status of COM1: the transmitter is empty
        inb     %dx, %al
        testb   $0x40, %al
        movb    $6, %al
        jz      controls_end

        movl    $0xc0000102, %ecx               # IA32_KERNEL_GS_BASE: the guest's own
        movl    $0x12345000, %eax
        xorl    %edx, %edx
        wrmsr
        movl    $100, %esi
1:      xorl    %eax, %eax
        rdmsr
        movl    %eax, %ebx
        movb    $7, %al
        cmpl    $0x12345000, %ebx
        jne     controls_end
        decl    %esi
        jnz     1b

        movl    $0x277, %ecx                    # IA32_PAT
        movl    $0x00070106, %eax
        movl    %eax, %edx
        wrmsr
        xorl    %eax, %eax
        rdmsr
        movl    %eax, %ebx
        movb    $8, %al
        cmpl    $0x00070106, %ebx
        jne     controls_end

        rdtsc
        movl    %eax, 0x207000
        movl    %edx, 0x207004

        movl    $0x7f8000, %eax                 # where it never comes
        movq    %rax, %dr0
        movl    $0x401, %eax
        movq    %rax, %dr7
        movq    %dr7, %rbx
        movb    $10, %al
        cmpl    $0x401, %ebx
        jne     controls_end

        movl    $0xfee00000, %ebp               # the local APIC
        movl    $0x1ff, 0xf0(%rbp)
        movl    $0xb, 0x3e0(%rbp)
        movl    $0x40, 0x320(%rbp)
        movl    $1000, 0x380(%rbp)
        movl    $1000000, %esi
1:      decl    %esi
        movb    $11, %al
        jz      controls_end
        testl   $1, 0x220(%rbp)                 # it waits, interrupts are off
        jz      1b
        cmpl    $0, %r13d
        jne     controls_end
        sti
        nop
        nop
        cli
        movb    $12, %al
        cmpl    $1, %r13d
        jne     controls_end

        movl    $20000, 0x380(%rbp)
        sti
        hlt
        cli
        movb    $13, %al
        cmpl    $2, %r13d
        jne     controls_end

        movl    $0, 0x310(%rbp)                 # an NMI to itself; its handler sends another one
        movl    $0x4400, 0x300(%rbp)
        movl    $1000, %esi
1:      cmpl    $2, %r12d
        je      2f
        decl    %esi
        jnz     1b
2:      movb    $14, %al
        cmpl    $2, %r12d
        jne     controls_end
        cmpl    $1, %r11d                       # the second waited until IRET
        jne     controls_end

        movl    $0x11111111, 0x400000
        movl    $0x22222222, 0x600000
        movl    $0x40000000, %ebp
        movb    $0x40, %dl                      # translations: where they lead, and by what an old one goes
        call    controls_turn
        movb    $15, %al
        cmpl    $0x11111111, (%rbp)
        jne     controls_end
        movb    $0x60, %dl
        call    controls_turn
        xorl    %eax, %eax                      # an exit in between: the old one may outlive it
        xorl    %ecx, %ecx
        cpuid
        invlpg  (%rbp)
        movb    $15, %al
        cmpl    $0x22222222, (%rbp)
        jne     controls_end
        movb    $0x40, %dl
        call    controls_turn
        movq    %cr3, %rcx
        movq    %rcx, %cr3
        cmpl    $0x11111111, (%rbp)
        jne     controls_end
        movb    $0x60, %dl
        call    controls_turn
        movq    %cr4, %rcx                      # PGE: no exit, but the CPU forgets all of this guest's
        orl     $0x80, %ecx
        movq    %rcx, %cr4
        cmpl    $0x22222222, (%rbp)
        jne     controls_end
        movb    $0x40, %dl
        call    controls_turn
        movq    %cr0, %rcx                      # WP: an exit, and INVVPID by the host
        xorl    $0x10000, %ecx
        movq    %rcx, %cr0
        movb    $16, %al
        cmpl    $0x11111111, (%rbp)
        jne     controls_end

        movl    $1, 0x207008                    # the host sends an NMI of its own meanwhile
1:      pause
        cmpl    $0, 0x207010
        je      1b
        movb    $17, %al
        cmpl    $2, %r12d                       # it is not the guest's
        jne     controls_end
        xorl    %eax, %eax
controls_end:
        outb    %al, $0xf4
        hlt
        jmp     controls_end

controls_undefined:
        movq    %r15, (%rsp)
        movb    $6, %r14b
        iretq
controls_protection:
        addq    $8, %rsp
        movq    %r15, (%rsp)
        movb    $13, %r14b
        iretq
controls_nmi:
        incl    %r12d
        cmpl    $1, %r12d
        jne     1f
        movl    $0x4400, 0x300(%rbp)
        nop
        nop
        movl    0x300(%rbp), %r11d              # an exit, at whose end it could come
        movl    %r12d, %r11d
1:      iretq
controls_turn:                                  # DL: the page's address by its third byte
        movl    $0x83, 0x203000
        movb    %dl, 0x203002
        ret
controls_interrupt:
        incl    %r13d
        movl    $0, 0xb0(%rbp)                  # EOI
        iretq
controls_gate:
        movw    %ax, (%rdi)
        movw    $8, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        shrq    $16, %rax
        movw    %ax, 6(%rdi)
        shrq    $16, %rax
        movl    %eax, 8(%rdi)
        ret
        .balign 8
controls_gdt:
        .quad   0, 0x00af9b000000ffff, 0x00cf93000000ffff
controls_gdt_pointer:
        .short  controls_gdt_pointer - controls_gdt - 1
        .long   controls_image + controls_gdt - selftest_controls_start
controls_idt_pointer:
        .short  0xfff
        .quad   0x206000
        .balign 4
        .globl selftest_controls_end
selftest_controls_end:
        .popsection
