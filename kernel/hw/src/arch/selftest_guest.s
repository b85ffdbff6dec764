# The guest of the self-test: a Multiboot 1 image of its own, for 0x100000. It makes 200 exits of each of four kinds and
# writes one word into each page from 2 to 4 MiB. Port 0xF4 takes the outcome: 0, or the number of the check that failed.
        .pushsection .rodata.selftest_guest, "a"
        .balign 8
        .code32
        .set image, 0x100000
        .globl selftest_guest_start
selftest_guest_start:
        .long   0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        .long   image, image, 0, 0, image + selftest_guest_entry - selftest_guest_start
selftest_guest_entry:
        movl    $200, %esi
1:      xorl    %eax, %eax
        xorl    %ecx, %ecx
        cpuid
        movb    $1, %al
        cmpl    $0x756e6547, %ebx               # "Genu"
        jne     9f
        decl    %esi
        jnz     1b

        movl    $200, %esi
2:      movl    $0x1b, %ecx                     # IA32_APIC_BASE: enabled
        rdmsr
        testl   $0x800, %eax
        movb    $2, %al
        jz      9f
        decl    %esi
        jnz     2b

        movl    $200, %esi
        movw    $0x3fd, %dx                     # line status of COM1: the transmitter is empty
3:      inb     %dx, %al
        testb   $0x40, %al
        movb    $3, %al
        jz      9f
        decl    %esi
        jnz     3b

        movl    $200, %esi
        movl    $1, 0xfec00000                  # the I/O APIC: a CPU may know the local one, and read it without an exit
4:      movl    0xfec00010, %ebx                # its version, 24 inputs
        shrl    $16, %ebx
        cmpl    $23, %ebx
        movb    $4, %al
        jne     9f
        decl    %esi
        jnz     4b

        movl    $0x200000, %edi
5:      movl    %edi, (%edi)
        addl    $0x1000, %edi
        cmpl    $0x400000, %edi
        jb      5b
        movb    $5, %al
        movl    $0x200000, %edi
6:      cmpl    %edi, (%edi)
        jne     9f
        addl    $0x1000, %edi
        cmpl    $0x400000, %edi
        jb      6b

        fninit
        fld1
        fld1
        faddp
        fistpl  0x1ff000
        movb    $6, %al
        cmpl    $2, 0x1ff000
        jne     9f
        xorl    %eax, %eax
9:      outb    %al, $0xf4
        hlt
        jmp     9b
        .globl selftest_guest_end
selftest_guest_end:
# Another one, which spins for as many ticks of the TSC as its last word says with interrupts off, and lets in what waits
# for one instruction in between: where only that brings the CPU back, it comes back late, but it comes back.
        .balign 8
        .globl selftest_spinner_start
selftest_spinner_start:
        .long   0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        .long   image, image, 0, 0, image + selftest_spinner_entry - selftest_spinner_start
selftest_spinner_entry:
        movb    $0xff, %al                      # no device of the guest's own interrupts it
        outb    %al, $0x21
        outb    %al, $0xa1
1:      sti
        nop
        nop
        cli
        rdtsc
        movl    %eax, %ebx
2:      rdtsc
        subl    %ebx, %eax
        cmpl    image + selftest_spinner_ticks - selftest_spinner_start, %eax
        jb      2b
        jmp     1b
        .balign 4
selftest_spinner_ticks:
        .long   0
        .globl selftest_spinner_end
selftest_spinner_end:
        .code64
        .popsection
