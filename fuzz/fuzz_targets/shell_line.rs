#![cfg_attr(fuzzing, no_main)]

flexvisor_fuzz::target!("shell_line");
