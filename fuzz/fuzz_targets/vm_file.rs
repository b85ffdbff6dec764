#![cfg_attr(fuzzing, no_main)]

flexvisor_fuzz::target!("vm_file");
