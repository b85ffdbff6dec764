//! The folder that a boot server serves: the images, a sample configuration for each loader, settings by host.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// A file of the folder, and what it says.
const FILES: [(&str, &str); 5] = [
    (
        "flexvisor.ipxe",
        "#!ipxe\n\
         # BIOS: iPXE loads Multiboot images. Settings of this host by its MAC, where there are some.\n\
         imgfetch --name host.cfg host.cfg/${mac:hexhyp} config ||\n\
         kernel flexvisor.elf console=com1 ip=dhcp || goto failed\n\
         # module vmlinuz vm=demo mem=512 -- console=ttyS0\n\
         # module initrd.img for=demo\n\
         boot\n\
         :failed\n\
         echo flexvisor.elf cannot be loaded from ${filename}\n\
         shell\n",
    ),
    (
        "pxelinux.cfg/default",
        "# BIOS, pxelinux with mboot.c32 and libcom32.c32 of syslinux beside it. A host of its own: pxelinux.cfg/01-MAC.\n\
         DEFAULT flexvisor\n\
         LABEL flexvisor\n\
         KERNEL mboot.c32\n\
         APPEND flexvisor.elf console=com1 ip=dhcp\n\
         # APPEND flexvisor.elf console=com1 ip=dhcp --- vmlinuz vm=demo mem=512 --- initrd.img for=demo\n",
    ),
    (
        "grub/grub.cfg",
        "# GRUB netboot, BIOS and UEFI. Settings of this host by its MAC, where there are some.\n\
         set timeout=0\n\
         multiboot2 /flexvisor.elf console=com1 ip=dhcp\n\
         if [ -f /host.cfg/$net_default_mac ]; then module2 --nounzip /host.cfg/$net_default_mac config; fi\n\
         # module2 --nounzip /vmlinuz vm=demo mem=512 -- console=ttyS0\n\
         # module2 --nounzip /initrd.img for=demo\n\
         boot\n",
    ),
    (
        "flexvisor.cfg",
        "# flexvisor.efi reads this from where it was loaded; docs/boot.md\n\
         console=com1 ip=dhcp\n\
         # module vmlinuz vm=demo mem=512 -- console=ttyS0\n\
         # module initrd.img for=demo\n",
    ),
    (
        "host.cfg/52-54-00-12-34-56",
        "# Settings of the host with this MAC; they win over those of all hosts.\n\
         name=sample loglevel=info\n",
    ),
];

/// Writes the folder: `images` are put into it under their names.
///
/// # Errors
/// A file that cannot be written or read.
pub fn make(images: &[&Path], dir: &Path) -> Result<()> {
    for (name, text) in FILES {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    for image in images {
        let name = image.file_name().context("a file's name")?;
        fs::copy(image, dir.join(name)).with_context(|| image.display().to_string())?;
    }
    Ok(())
}
