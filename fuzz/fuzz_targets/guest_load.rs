#![cfg_attr(fuzzing, no_main)]

flexvisor_fuzz::target!("guest_load");
