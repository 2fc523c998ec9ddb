/* device_internal.h - what drivers of devices share. For src/media alone. */
#ifndef MEDIA_DEVICE_INTERNAL_H
#define MEDIA_DEVICE_INTERNAL_H

#include "device.h"

/* io's done(result) in a later task of this loop. io->driver is used for it. */
void device_finish_later(struct quire_loop *loop, struct device_io *io, int result);

#endif
