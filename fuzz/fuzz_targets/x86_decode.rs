#![cfg_attr(fuzzing, no_main)]

flexvisor_fuzz::target!("x86_decode");
