/* Two CPUs that wake each other by IPIs: ping.S says what is owed. */
#ifndef PING_H
#define PING_H

#include <stdint.h>

enum { PING_ASK = 0x63, PING_ANSWER = 0x64 };
/* The figure is the least of so many runs of so many round trips. */
enum { PING_RUNS = 100, PING_TRIPS = 10 };

extern const uint8_t ping_begin[], ping_end[];
uint64_t ping_ask(uint32_t trips, uint32_t apic_id);
void ping_answer(void), ping_asked(void), ping_answered(void);

#endif
