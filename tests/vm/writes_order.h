/* writes_order.h - in which order the writes of the kernel's log were done: as they stand in QEMU's, which has the same ones (writes_log.h). */
#ifndef TESTS_VM_WRITES_ORDER_H
#define TESTS_VM_WRITES_ORDER_H

#include "writes_log.h"

struct writes_order;

/* in_order: QEMU's log, of a device of so many bytes. Exits if there is no memory. */
struct writes_order *writes_order_create(const struct writes_log *in_order, uint64_t device_bytes);
void writes_order_destroy(struct writes_order *o);
/* Does an entry of the kernel's log, on an image of the device, but for sectors that one done later has given it already. Each once. Discards change
 * nothing. Exits if QEMU's log has not got it. */
void writes_order_apply(struct writes_order *o, const struct writes_log *log, const struct writes_entry *e, int image);

#endif
