//! Physical memory, the heap and the host's page tables.
