//! Writes the ACPI tables of a machine with N vCPUs as files, for `iasl -d`: `acpi_dump DIR [N]`.

use devices::acpi::{AcpiShape, DEFAULT_BASE, build};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| ".".into());
    let vcpus = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    for (gpa, bytes) in build(&AcpiShape { vcpus, base: DEFAULT_BASE, pci: None }).pieces {
        let name = String::from_utf8_lossy(&bytes[..4]).trim().to_lowercase();
        let path = format!("{dir}/{name}.dat");
        println!("{gpa} {:5} bytes {path}", bytes.len());
        std::fs::write(path, bytes)?;
    }
    Ok(())
}
