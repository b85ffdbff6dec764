//! On which CPU a vCPU lives.

/// The home of the next vCPU: in turn one of the `cpus` CPUs that are in VMX operation, as `vmx` says of each; `placed`
/// vCPUs are placed already. CPU 0 keeps console, network and migrations, and takes guests only where nobody else
/// can. None where no CPU is in VMX operation.
pub fn next(cpus: usize, vmx: impl Fn(usize) -> bool, placed: usize) -> Option<usize> {
    let others = || (1..cpus).filter(|&cpu| vmx(cpu));
    match others().count() {
        0 => vmx(0).then_some(0),
        count => others().nth(placed % count),
    }
}
