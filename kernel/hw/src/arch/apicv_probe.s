# A guest of two instructions that matter, which `vmx/probe.rs` enters in the host's own address space: it turns interrupts
# off, and then lets the virtual interrupt that waits above its TPR be one that only this keeps from it. It spins then.
# In: interrupts on, TPR above all. Clobbers RAX. Never leaves by itself.
        .pushsection .text.apicv_probe, "ax"
        .code64
        .globl apicv_probe_start
apicv_probe_start:
        cli
        xorl    %eax, %eax
        movq    %rax, %cr8
        .globl apicv_probe_spins
apicv_probe_spins:
        pause
        jmp     apicv_probe_spins
        .popsection
